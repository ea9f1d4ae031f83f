"""Data keys: made ahead, kept wrapped in the key folder, opened locally, destroyed for good.

The key service wraps a few intermediate keys; these wrap every data key with AES-256-GCM
(https://csrc.nist.gov/pubs/sp/800/38/d/final), its id as associated data. So thousands of owners
need a handful of calls to the service, and the deletion of one row destroys what an owner had.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import apsw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.storage import keydb
from fhir_server.storage.keydb import DATA, SECRETS
from fhir_server.storage.keys import KeyProvider, former_context, name_of, open_wrapped
from fhir_server.storage.store import Erased, StoreError, Unavailable

SPREAD = 4  # intermediate keys that share the data keys among them
POOL = 256  # data keys made ahead, durable by one commit
CACHED = 20_000  # data keys opened in memory
TICK_SECONDS = 1.0  # how often the background looks at the file, and tries a service again

_log = logging.getLogger("salus.keys")

_ID = 8
_SIZE = 32
_NONCE = 12
_SECRET = b"SV1\n"  # begins a small secret wrapped here
_NUMBER = 4  # bytes of an intermediate's number in it
_DAMAGED = (
    "A wrapped secret is damaged, or was wrapped for something else: restore it from a backup"
)


class Destroyed(NamedTuple):
    """A data key that is no more: when (seconds since 1970) and why."""

    id: bytes
    at: int
    why: str


def intermediate_context(number: int, purpose: str) -> bytes:
    """What the key service binds a wrapped intermediate to: it cannot stand in for another."""
    return b"salus intermediate %d for %s" % (number, purpose.encode())


def seal_key(outer: AESGCM, id: bytes, key: bytes) -> bytes:
    """A data key as it lies in the file."""
    nonce = secrets.token_bytes(_NONCE)
    return nonce + outer.encrypt(nonce, key, b"salus data key " + id)


def open_key(outer: AESGCM, id: bytes, wrapped: bytes) -> bytes:
    """StoreError when the row is not what was written."""
    try:
        return outer.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], b"salus data key " + id)
    except (InvalidTag, ValueError):
        raise StoreError(
            f"The wrapped data key {id.hex()} is damaged, or stands in another's place: "
            "restore the keys with `salus keys restore`"
        ) from None


def seal_secret(number: int, outer: AESGCM, key: bytes, context: bytes) -> bytes:
    """A small secret, under the intermediate key of that number."""
    head, nonce = _SECRET + number.to_bytes(_NUMBER, "big"), secrets.token_bytes(_NONCE)
    return head + nonce + outer.encrypt(nonce, key, context + head)


class Vault:
    """Data keys: each is 32 random bytes, kept in the key folder (keys.db), wrapped by one of a few
    intermediate keys, which the KeyProvider wraps. Any thread may call it."""

    calls: int  # to the key service so far

    def __init__(
        self,
        folder: Path,
        provider: KeyProvider,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        cache_seconds: float,
    ) -> None:
        self.calls = 0
        self._folder, self._provider = folder, provider
        self._clock, self._monotonic, self._cache_seconds = clock, monotonic, cache_seconds
        self._lock, self._renewing = threading.RLock(), threading.Lock()
        self._intermediates: dict[int, AESGCM] = {}
        self._until = float("-inf")  # when what is opened must be forgotten
        self._recent: dict[bytes, AESGCM] = {}  # two generations: a bounded memory of those used
        self._older: dict[bytes, AESGCM] = {}
        self._pool: deque[bytes] = deque()
        self._changed = False  # whether another process wrote the file since they were opened
        self._trouble = ""  # why the key service could not be used the last time
        self._background = False
        self._wake: Callable[[], None] = lambda: None
        self._held = keydb.Held(folder)
        try:
            self._conn = keydb.connect(folder)
        except BaseException:
            self._held.close()
            raise
        self._seen = self._version()

    @classmethod
    def open(
        cls,
        folder: Path,
        provider: KeyProvider,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        cache_seconds: float = 60.0,
    ) -> Vault:
        """The keys of a folder, made at the first start. StoreError when they cannot be opened with
        this key service, Unavailable when it does not answer."""
        vault = cls(folder, provider, clock, monotonic, cache_seconds)
        try:
            with keydb.refusals(folder):
                vault._begin()
            vault._renew()
        except BaseException:
            vault.close()
            raise
        return vault

    # --- data keys ---------------------------------------------------------------------------

    def fresh(self) -> bytes:
        """The id of a data key that nobody has used yet, already durable. Unavailable."""
        try:
            id = self._pool.popleft()
        except IndexError:
            self._fill()
            return self.fresh()
        if len(self._pool) < POOL // 2:
            self._wake()
        return id

    def cipher(self, id: bytes) -> AESGCM:
        """What seals and opens under a data key. Erased when it was destroyed, StoreError when it
        was never here, Unavailable when the key service has been away for too long."""
        if self._monotonic() < self._until:
            found = self._recent.get(id)
            if found is not None:
                return found
        return self._opened(id)

    def destroy(self, ids: Iterable[bytes], why: str) -> None:
        """Make it impossible for ever to open what was sealed under these keys. Unavailable."""
        gone, at = list(ids), int(self._clock())
        with self._lock, keydb.refusals(self._folder):
            with keydb.writing(self._conn):
                self._conn.executemany(
                    "INSERT OR IGNORE INTO destroyed VALUES (?, ?, ?)",
                    [(id, at, why) for id in gone],
                )
                self._conn.executemany("DELETE FROM key WHERE id = ?", [(id,) for id in gone])
            for id in gone:
                self._recent.pop(id, None)
                self._older.pop(id, None)
                if id in self._pool:
                    self._pool.remove(id)

    def destroyed(self) -> list[Destroyed]:
        """Every data key that was destroyed, the oldest first."""
        with self._lock, keydb.refusals(self._folder):
            found = self._conn.execute("SELECT id, at, why FROM destroyed ORDER BY at, id")
            return [Destroyed(*row) for row in found]

    def backups_until(self) -> int | None:
        """When the last key backup made so far will be refused (seconds since 1970): until then a
        destroyed key may lie in one. None: there was no backup."""
        with self._lock, keydb.refusals(self._folder):
            asked = "SELECT at FROM happened WHERE what = ?"
            found: Any = self._conn.execute(asked, (keydb.BACKUPS_UNTIL,)).fetchone()
        return found and int(found[0])

    # --- small secrets -----------------------------------------------------------------------

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Seal a small secret; `context` says what it is for. Unavailable."""
        self._in_time()
        with self._lock, keydb.refusals(self._folder):
            (number,) = self._current(SECRETS)
            outer = self._intermediate(number)
        return seal_secret(number, outer, key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Open a small secret, also one that a key file wrapped before there was a vault.
        StoreError, Unavailable."""
        if not wrapped.startswith(_SECRET):
            return self._unwrap_older(wrapped, context)
        self._in_time()
        at = len(_SECRET) + _NUMBER
        head, nonce, sealed = wrapped[:at], wrapped[at : at + _NONCE], wrapped[at + _NONCE :]
        with self._lock, keydb.refusals(self._folder):
            outer = self._intermediate(int.from_bytes(head[len(_SECRET) :], "big"))
        try:
            return outer.decrypt(nonce, sealed, context + head)
        except (InvalidTag, ValueError):
            raise StoreError(_DAMAGED) from None

    def _unwrap_older(self, wrapped: bytes, context: bytes) -> bytes:
        name = name_of(wrapped)
        with self._lock, keydb.refusals(self._folder):
            row = self._conn.execute(
                "SELECT wrapped FROM former WHERE name = ?", (name,)
            ).fetchone()
        if row is not None:
            try:
                return open_wrapped(self.unwrap(row[0], former_context(name)), wrapped, context)
            except InvalidTag:
                raise StoreError(_DAMAGED) from None
        self.calls += 1
        return self._provider.unwrap(wrapped, context)

    # --- the background ----------------------------------------------------------------------

    async def keep_fresh(self) -> None:
        """Until cancelled: opens the intermediate keys again before their time is over, makes data
        keys ahead, and notices what other processes changed, each in a thread."""
        loop, asked = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(asked.set)

        self._wake = wake
        self._background = True
        try:
            while True:
                await asyncio.to_thread(self._tend)
                asked.clear()
                try:
                    async with asyncio.timeout(min(TICK_SECONDS, self._cache_seconds / 8)):
                        await asked.wait()
                except TimeoutError:
                    continue
        finally:
            self._background = False
            self._wake = lambda: None

    def close(self) -> None:
        """Let go of the folder; data keys that were made ahead and not used are deleted."""
        with self._lock:
            self._forget()
            unused, self._pool = list(self._pool), deque()
            with suppress(StoreError):  # where they cannot be deleted they stay, of no use
                self._delete(unused)
            self._conn.close()
            self._held.close()

    def _delete(self, ids: list[bytes]) -> None:
        with keydb.refusals(self._folder), keydb.writing(self._conn):
            self._conn.executemany("DELETE FROM key WHERE id = ?", [(id,) for id in ids])

    def _tend(self) -> None:
        for step in (self._notice, self._renew_in_time, self._fill):
            with suppress(StoreError):  # a service away is in `_trouble`; a full disk meets `fresh`
                step()
        with self._lock:
            if self._monotonic() >= self._until:
                self._forget()

    def _renew_in_time(self) -> None:
        half = self._until - self._cache_seconds / 2
        if self._trouble or self._changed or self._monotonic() >= half:
            self._renew()

    def _notice(self) -> None:
        """When another process wrote the file, what is opened may be destroyed."""
        with self._lock, keydb.refusals(self._folder):
            version = self._version()
            if version != self._seen:
                self._seen, self._changed = version, True
                self._recent, self._older = {}, {}

    def _version(self) -> int:
        return int(self._conn.pragma("data_version"))

    def _forget(self) -> None:
        self._intermediates, self._recent, self._older = {}, {}, {}
        self._until = float("-inf")

    # --- intermediate keys -------------------------------------------------------------------

    def _begin(self) -> None:
        """Make the intermediate keys of a new file."""
        with keydb.writing(self._conn):
            if self._conn.execute("SELECT 1 FROM intermediate LIMIT 1").fetchone() is None:
                self.calls += SPREAD + 1
                make_intermediates(self._conn, self._provider, int(self._clock()))

    def _renew(self) -> None:
        """Open the intermediate keys by the service. Whoever waits here meanwhile finds them."""
        waited = not self._renewing.acquire(blocking=False)
        if waited:
            self._renewing.acquire()
        try:
            if waited and self._monotonic() < self._until:
                return
            start = self._monotonic()
            opened = self._unwrapped()
            with self._lock:
                self._intermediates = opened
                self._until = start + self._cache_seconds
                recovered, self._trouble, self._changed = self._trouble, "", False
            if recovered:
                _log.warning("The key service (%s) serves again", self._provider.where)
        except StoreError as error:
            if not self._trouble:
                _log.warning("The key service does not serve: %s", error)
            self._trouble = str(error)
            raise
        finally:
            self._renewing.release()

    def _unwrapped(self) -> dict[int, AESGCM]:
        rows = self._rows()
        while True:
            try:
                return {number: self._unwrap(*row) for number, *row in rows}
            except Unavailable:
                raise
            except StoreError:
                tried, rows = rows, self._rows()
                if tried == rows:  # else they were wrapped anew meanwhile
                    raise

    def _rows(self) -> list[tuple[int, bytes, bytes]]:
        with self._lock, keydb.refusals(self._folder):
            found = self._conn.execute("SELECT number, wrapped, purpose FROM intermediate")
            return [
                (number, wrapped, intermediate_context(number, purpose))
                for number, wrapped, purpose in found
            ]

    def _unwrap(self, wrapped: bytes, context: bytes) -> AESGCM:
        self.calls += 1
        return AESGCM(self._provider.unwrap(wrapped, context))

    def _in_time(self) -> None:
        """Unavailable when what is opened must not be used any more."""
        if self._monotonic() < self._until:
            return
        if not (self._background and self._trouble):  # else the background is at it
            self._renew()
            return
        raise Unavailable(
            f"The key service ({self._provider.where}) has been away for longer than keys may be "
            f"remembered ({self._cache_seconds:g} s): {self._trouble}. Bring it back; Salus asks "
            "again every second and goes on by itself"
        )

    def _intermediate(self, number: int) -> AESGCM:
        """One that another process made meanwhile is asked for on the spot."""
        found = self._intermediates.get(number)
        if found is None:
            rows = [row for row in self._rows() if row[0] == number]
            if not rows:
                raise StoreError(
                    f"The intermediate key {number} is not in {self._folder}: restore the keys "
                    "with `salus keys restore`"
                )
            found = self._intermediates[number] = self._unwrap(*rows[0][1:])
        return found

    def _current(self, purpose: str) -> list[int]:
        found = self._conn.execute(
            "SELECT number FROM intermediate WHERE current = 1 AND purpose = ?", (purpose,)
        )
        return [number for (number,) in found]

    # --- opening and making ------------------------------------------------------------------

    def _opened(self, id: bytes) -> AESGCM:
        self._in_time()
        with self._lock, keydb.refusals(self._folder):
            found = self._older.pop(id, None) or self._read(id)
            self._remember(id, found)
        return found

    def _read(self, id: bytes) -> AESGCM:
        row = self._conn.execute(
            "SELECT intermediate, wrapped FROM key WHERE id = ?", (id,)
        ).fetchone()
        if row is None:
            raise self._missing(id)
        number, wrapped = row
        return AESGCM(open_key(self._intermediate(number), id, wrapped))

    def _missing(self, id: bytes) -> StoreError:
        row = self._conn.execute("SELECT at FROM destroyed WHERE id = ?", (id,)).fetchone()
        if row is not None:
            day = datetime.fromtimestamp(row[0], UTC).date()
            return Erased(f"This was erased: its key was destroyed on {day}")
        return StoreError(
            f"The data key {id.hex()} is not in {self._folder}: name the right folder with --keys, "
            "or restore the keys with `salus keys restore`"
        )

    def _remember(self, id: bytes, opened: AESGCM) -> None:
        if len(self._recent) >= CACHED // 2:
            self._older, self._recent = self._recent, {}
        self._recent[id] = opened

    def _fill(self) -> None:
        """Make data keys ahead, in one commit."""
        self._in_time()
        with self._lock, keydb.refusals(self._folder):
            if len(self._pool) >= POOL // 2:
                return  # somebody else did
            made = [(secrets.token_bytes(_ID), secrets.token_bytes(_SIZE)) for _ in range(POOL)]
            with keydb.writing(self._conn):
                numbers = self._current(DATA)
                rows = []
                for place, (id, key) in enumerate(made):
                    number = numbers[place % len(numbers)]
                    rows.append((id, number, seal_key(self._intermediate(number), id, key)))
                self._conn.executemany("INSERT INTO key VALUES (?, ?, ?)", rows)
            for id, key in made:
                self._remember(id, AESGCM(key))
            self._pool.extend(id for id, _ in made)


def make_intermediates(conn: apsw.Connection, provider: KeyProvider, at: int) -> list[int]:
    """Make new intermediate keys, inside a transaction; they are the current ones from now on.
    Their numbers. StoreError, Unavailable."""
    ((last,),) = conn.execute("SELECT max(number) FROM intermediate")
    conn.execute("UPDATE intermediate SET current = 0")
    numbers = []
    for number, purpose in enumerate((*[DATA] * SPREAD, SECRETS), start=int(last or 0) + 1):
        key = AESGCM.generate_key(_SIZE * 8)
        wrapped = provider.wrap(key, intermediate_context(number, purpose))
        conn.execute(
            "INSERT INTO intermediate VALUES (?, ?, ?, ?, 1)", (number, purpose, wrapped, at)
        )
        numbers.append(number)
    return numbers
