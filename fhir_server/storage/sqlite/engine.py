"""The SQLite engine: one encrypted file, one process, durable when it answers.

https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import apsw

from fhir_server.storage.sealed import Keys, Owners
from fhir_server.storage.sqlite import codec, doctor, expiry, log, pages, strays
from fhir_server.storage.sqlite.current import Current
from fhir_server.storage.sqlite.folder import Lock
from fhir_server.storage.sqlite.lane import Lane
from fhir_server.storage.sqlite.migrations import prepare
from fhir_server.storage.sqlite.names import Names
from fhir_server.storage.sqlite.readers import Allowance, Patience, Reader, Readers
from fhir_server.storage.sqlite.schema import (
    DAMAGED,
    FILE,
    REFUSALS,
    choose_cipher,
    connect,
    unavailable,
    writing,
)
from fhir_server.storage.sqlite.state import Reach, Shared
from fhir_server.storage.sqlite.threads import Threads
from fhir_server.storage.sqlite.transaction import Moved, SqliteTransaction
from fhir_server.storage.sqlite.veil import load_veil
from fhir_server.storage.store import Event, Expired, Gone, StoreError, Transaction

T = TypeVar("T")

READER_THREADS = 2  # for searches that take long


def _now() -> int:
    return time.time_ns() // 1000


class SqliteStore:
    """A Store in one data folder. Made by `open`."""

    def __init__(
        self,
        folder: Path,
        page_key: bytes,
        keys: Keys,
        *,
        search_seconds: float = 30.0,
        writing_seconds: float = 5.0,
        clock: Callable[[], int] = _now,
        cipher: str | None = None,
        vfs: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._lock = Lock(folder)
        try:
            choose_cipher(folder, cipher)
            self._connect = partial(connect, folder / FILE, page_key, vfs=vfs)
            self._writer = self._connect(writes=True)
            self._shared = _load(self._writer, folder, keys, clock)
        except BaseException as error:
            self._lock.close()
            if isinstance(error, apsw.CorruptError):
                text = f"{folder / FILE} is damaged and cannot be opened: {DAMAGED}"
                raise StoreError(text) from error
            if isinstance(error, apsw.Error):
                raise StoreError(f"{folder / FILE} cannot be opened: {error}") from error
            raise
        self._seconds = search_seconds
        self._threads = Threads(READER_THREADS, "salus-read")
        self._searching = Threads(1, "salus-search")  # by writes, which wait for no reader
        self._lane = Lane(self._writer, self._shared)
        most = min(search_seconds, writing_seconds)
        self._patience = Allowance(self._writer, self._searching, most)
        self._readers = Readers(self._reader)
        self.extraction_current = True
        self._closed = False

    @classmethod
    async def open(
        cls,
        folder: Path,
        page_key: bytes,
        keys: Keys,
        *,
        extraction: str = "",
        search_seconds: float = 30.0,
        writing_seconds: float = 5.0,
        clock: Callable[[], int] = _now,
        cipher: str | None = None,
        vfs: str | None = None,
    ) -> SqliteStore:
        """Open or make the store in a folder, its pages under `page_key` and a cipher (None: the
        folder's), its bodies under data keys. `extraction` names the version of what makes the
        entries; when the stored ones were made by another, `extraction_current` is False until
        `finish_reindex`. `search_seconds` are for a search that reads, `writing_seconds` for all
        searches of a write, for which other writes wait. StoreError when the folder is in use, of
        a newer version, or the key is not its own."""
        store = cls(
            folder,
            page_key,
            keys,
            search_seconds=search_seconds,
            writing_seconds=writing_seconds,
            clock=clock,
            cipher=cipher,
            vfs=vfs,
        )
        made_by = doctor.read_meta(store._writer, "extraction")
        if made_by is None:
            with writing(store._writer):
                doctor.write_meta(store._writer, "extraction", extraction)
        store.extraction_current = made_by in (None, extraction)
        return store

    def transaction(
        self, work: Callable[[Transaction], Awaitable[T]], write: bool = False
    ) -> Coroutine[Any, Any, T]:
        return self._lane.run(partial(self._written, work)) if write else self._read(work)

    async def _read(self, work: Callable[[Transaction], Awaitable[T]], begun: bool = False) -> T:
        """A transaction that looks at the database from its beginning, or when it must."""
        if self._closed:
            raise StoreError("The store is closed")
        reader = self._readers.idle() or await self._readers.take()
        conn, shared = reader.conn, self._shared
        tx = SqliteTransaction(Reach(conn, shared, reads=True), shared.clock(), reader.patience)
        try:
            if begun:
                tx.begin()
            return await work(tx)
        except Moved:
            pass  # and once more, from the beginning
        except REFUSALS as error:
            raise unavailable(error) from error
        finally:
            if conn.in_transaction:
                with suppress(*REFUSALS):  # it only read, and what it read is told
                    conn.execute("COMMIT")
            self._readers.give(reader)
        return await self._read(work, begun=True)

    def record(self, events: Sequence[Event]) -> Coroutine[Any, Any, None]:
        return self._lane.record(events)

    async def expire(self, month: str, notice: Expired) -> Gone:
        leaves: list[int] = []
        while True:
            found = await self._looked(lambda conn: expiry.expiring(conn, month))
            if not found.events:
                break
            for part in expiry.chunks(found):
                await self._erasing(partial(expiry.remove, part=part, notice=notice))
            leaves += [leaf for _, leaf in found.events]
        return await self._erasing(
            partial(expiry.finish, month=month, leaves=leaves, notice=notice)
        )

    async def tidy(self, most: int | None = None) -> bool:
        """Leave nothing in the files of what was removed for good: names and values that nobody has
        go, the file is rebuilt unless it has more bytes than `most`, and the write-ahead log is
        emptied. Whether all of that was done; writers wait while the file is rebuilt. Unavailable.
        """
        found = await self._looked(strays.look)
        for part in found.parts():
            await self._erasing(partial(strays.remove, part=part))

        def job(conn: apsw.Connection) -> bool:
            if most is None or pages.size(conn) <= most:
                return pages.rebuild(conn)
            pages.empty(conn)
            return False

        return await self._lane.alone(job)

    @property
    def untidy(self) -> bool:
        """Whether something was removed for good since `tidy` last did all."""
        return pages.due(self._writer)

    async def finish_reindex(self, extraction: str) -> None:
        """Note that all entries are made by this version of the extraction."""

        async def note(reach: Reach) -> None:
            doctor.write_meta(reach.conn, "extraction", extraction)

        await self._lane.run(note)
        self.extraction_current = True

    def check(self) -> Iterator[str]:
        """What is wrong with the store, a sentence each: the file, entries that do not agree with
        their resource, bodies that cannot be read."""
        conn = self._connect(writes=False)
        try:
            yield from doctor.problems(Reach(conn, self._shared))
        finally:
            conn.close()

    def sizes(self) -> dict[str, int]:
        """Bytes of the files and of each table with its indexes; rows of the main tables."""
        conn = self._connect(writes=False)
        try:
            return doctor.sizes(conn, self._folder)
        finally:
            conn.close()

    async def close(self) -> None:
        """Wait for what was begun and leave the folder, with everything in its main file."""
        if self._closed:
            return
        self._closed = True
        await self._lane.close()
        self._threads.close()
        self._searching.close()
        self._readers.close()
        self._writer.close()
        self._lock.close()

    async def _erasing(self, work: Callable[[Reach], T]) -> T:
        """A write that frees numbers."""

        async def free(reach: Reach) -> T:
            self._lane.erasing()
            pages.mark(reach.conn)
            return work(reach)

        return await self._lane.run(free)

    async def _looked(self, look: Callable[[apsw.Connection], T]) -> T:
        """What a long look at the store finds, in a thread and on a connection of its own."""

        def run() -> T:
            conn = self._connect(writes=False)
            try:
                return look(conn)
            finally:
                conn.close()

        try:
            return await asyncio.to_thread(run)
        except REFUSALS as error:
            raise unavailable(error) from error

    def _written(self, work: Callable[[Transaction], Awaitable[T]], reach: Reach) -> Awaitable[T]:
        now = self._shared.updated
        self._patience.renew()
        return work(SqliteTransaction(reach, now, self._patience, self._lane.erasing))

    def _reader(self) -> Reader:
        conn = self._connect(writes=False)
        return Reader(conn, Patience(conn, self._threads, self._seconds))


def _load(conn: apsw.Connection, folder: Path, keys: Keys, clock: Callable[[], int]) -> Shared:
    """What the connections share, read from the database."""
    prepare(conn, folder, keys)
    with writing(conn):
        codec.store_dictionary(conn)
    updated, sequence = conn.execute(
        "SELECT coalesce(max(updated), 0), coalesce(max(t), 0) FROM"
        " (SELECT updated, t FROM resource WHERE ver > 0 ORDER BY t DESC LIMIT 1)"
    ).get
    names = Names(conn)
    names.secret = load_veil(conn, keys)
    return Shared(
        names=names,
        bodies=codec.load_bodies(conn),
        sealing=Owners(keys),
        leaves=log.load(conn),
        current=Current(keys),
        clock=clock,
        sequence=max(sequence, doctor.read_meta(conn, "sequence") or 0),
        event=conn.execute("SELECT max(n) FROM event").get or 0,
        updated=max(updated, doctor.read_meta(conn, "updated") or 0),
    )
