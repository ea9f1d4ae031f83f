"""A store as its files have it, for proving: read by a connection beside the server's, or without
one, in one state and row by row, whatever the rows claim.

https://www.sqlite.org/wal.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from heapq import merge
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from fhir_server.storage.leaves import HASH, SALT, WIDTH
from fhir_server.storage.sealed import (
    Keys,
    apart_place,
    event_place,
    kept_place,
    unseal,
    version_place,
)
from fhir_server.storage.sqlite import codec
from fhir_server.storage.sqlite.codec import unpack_id
from fhir_server.storage.sqlite.schema import (
    FILE,
    REFUSALS,
    VERSION,
    connect,
)
from fhir_server.storage.store import (
    EVENTS,
    Erased,
    Kept,
    Notice,
    StoreError,
    Unavailable,
    deletion,
)

_VERSIONS = (
    "SELECT r.t, r.leaf, k.name, x.id, r.ver, r.updated, r.deleted, ok.name, o.id, r.body,"
    " r.type IS x.type"
    " FROM {0} r LEFT JOIN resource x ON x.pk = r.pk LEFT JOIN kind k ON k.k = x.type"
    " LEFT JOIN resource o ON o.pk = r.owner LEFT JOIN kind ok ON ok.k = o.type"
    " WHERE {1} (r.leaf IS NULL OR r.leaf >= ?) ORDER BY r.t"
)
_CURRENT = _VERSIONS.format("resource", "r.ver > 0 AND")
_FORMER = _VERSIONS.format("old", "")
_EVENTS = "SELECT n, at, body, leaf, apart FROM event WHERE leaf IS NULL OR leaf >= ? ORDER BY n"
_RECORDS = (
    "SELECT (SELECT count(*) FROM resource WHERE ver > 0) + (SELECT count(*) FROM old)"
    " + (SELECT count(*) FROM event)"
)


class Recorded(NamedTuple):
    """A row that stands for a leaf: the index that it claims, what it claims to be, its place in
    the order of its table, when it says it was made, and what its blob holds. `unreadable` says
    why it holds nothing that can be read: an Erased where its key was destroyed."""

    leaf: int | None
    type: str
    id: str
    number: int
    order: int
    updated: int
    salt: bytes = b""
    content: bytes = b""
    unreadable: StoreError | None = None
    apart: bytes | None = None

    @property
    def name(self) -> str:
        if self.type == EVENTS:
            return f"{self.type}/{self.id}"
        return f"{self.type}/{self.id}/_history/{self.number}"


class Reading:
    """One state of a store, until it is closed. StoreError when it cannot be opened, also a
    Damaged or Unavailable where its pages cannot be read."""

    def __init__(
        self, folder: Path, page_key: bytes, keys: Keys, cipher: str | None = None
    ) -> None:
        if not (folder / FILE).is_file():
            raise StoreError(f"There is no data in {folder}: name another folder with --data")
        self._keys = keys
        try:
            self._conn = connect(folder / FILE, page_key, writes=False, cipher=cipher)
        except apsw.Error as error:
            raise StoreError(f"{folder / FILE} cannot be opened: {error}") from error
        try:
            self._conn.execute("BEGIN")
            if (version := self._conn.pragma("user_version")) != VERSION:
                raise StoreError(
                    f"{folder} has the schema {version}, this Salus knows {VERSION}: start the "
                    "server once, it brings older data to it"
                )
            self._bodies = codec.load_bodies(self._conn)
        except REFUSALS as error:
            self.close()
            raise StoreError(said(error)) from error
        except ValueError:
            self.close()
            raise StoreError(f"{folder / FILE} lacks what is needed to read it") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        with suppress(apsw.Error):
            self._conn.close()

    # --- the log ---------------------------------------------------------------------------------

    def count(self) -> int:
        """How many records there are, for telling how far one is."""
        return int(self._conn.execute(_RECORDS).get)

    def size(self) -> int:
        """How many leaves the tiles have."""
        sql = "SELECT n, length(data) FROM tile WHERE level = 0 ORDER BY n DESC LIMIT 1"
        number, length = self._conn.execute(sql).fetchone() or (0, 0)
        return int(number) * WIDTH + int(length) // HASH

    def tiles(self) -> Iterator[tuple[int, int, bytes]]:
        """Every tile that is stored, as its level, number and hashes, by level and number."""
        return self._conn.execute("SELECT level, n, data FROM tile ORDER BY level, n")

    def leaf_tiles(self) -> Iterator[tuple[int, bytes]]:
        """Those of level 0, as their number and hashes."""
        return self._conn.execute("SELECT n, data FROM tile WHERE level = 0 ORDER BY n")

    def tile(self, level: int, number: int) -> bytes:
        sql = "SELECT data FROM tile WHERE level = ? AND n = ?"
        return self._conn.execute(sql, (level, number)).get or b""

    def notices(self) -> list[Notice]:
        sql = "SELECT leaf, content FROM notice ORDER BY leaf"
        return [Notice(leaf, _bytes(content)) for leaf, content in self._conn.execute(sql)]

    def kept(self, space: str) -> list[Kept]:
        """The records of a space that are the system's, by key. StoreError."""
        sql = "SELECT key, value, revision, until FROM kept WHERE space = ? ORDER BY key"
        return [
            Kept(key, unseal(self._keys, blob, kept_place(None, space, key))[SALT:], *more)
            for key, blob, *more in self._conn.execute(sql, (space,))
        ]

    # --- records ---------------------------------------------------------------------------------

    def records(self, since: int = 0) -> Iterator[Recorded]:
        """Every record once whose leaf is `since` or beyond, or is none: the versions in the order
        of their commits, and the events in theirs, merged by the leaves that they claim.
        Unavailable, and what SQLite raises of a page that is damaged."""
        rows = [self._conn.execute(sql, (since,)) for sql in (_CURRENT, _FORMER)]
        made = (self._version(*row) for row in merge(*rows, key=lambda row: row[0]))
        events = (self._event(*row) for row in self._conn.execute(_EVENTS, (since,)))
        return merge(made, events, key=lambda record: _sortable(record.leaf))

    def _version(
        self,
        t: int,
        leaf: Any,
        type: str | None,
        packed_id: Any,
        number: Any,
        updated: Any,
        deleted: Any,
        owner_type: str | None,
        owner_id: Any,
        blob: Any,
        typed: Any,
    ) -> Recorded:
        id = _unpacked(packed_id)
        owner = None if owner_id is None else f"{owner_type}/{_unpacked(owner_id)}"
        head = (_index(leaf), type or "?", id, _whole(number), t, _whole(updated))
        try:
            if not typed:
                raise StoreError("its row stands under another type")
            opened = self._open(blob, version_place(owner, type or "?", id, number))
            salt, content = opened[:SALT], opened[SALT:]
            if deleted and content:
                raise StoreError("its row says that it was deleted, but it has a body")
            content = (
                deletion(type or "?", id, number, updated) if deleted else self._unpack(content)
            )
        except Unavailable:
            raise
        except StoreError as error:
            return Recorded(*head, unreadable=error)
        return Recorded(*head, salt, content)

    def _event(self, n: int, at: Any, blob: Any, leaf: Any, sealed: Any) -> Recorded:
        head = (_index(leaf), EVENTS, str(n), 1, n, _whole(at))
        try:
            opened = self._open(blob, event_place(n))
            salt, content = opened[:SALT], self._unpack(opened[SALT:])
            apart = None if sealed is None else self._apart(n, sealed)
        except Unavailable:
            raise
        except StoreError as error:
            return Recorded(*head, unreadable=error)
        return Recorded(*head, salt, content, None, apart)

    def _apart(self, n: int, sealed: bytes) -> bytes | None:
        try:
            return self._open(sealed, apart_place(n))[SALT:]
        except Erased:  # it ends with whom it speaks of, and the event stays
            return None

    def _open(self, blob: Any, place: bytes) -> bytes:
        return unseal(self._keys, _bytes(blob), place)

    def _unpack(self, packed: bytes) -> bytes:
        try:
            return self._bodies.unpack(packed)
        except Exception as error:
            raise StoreError(f"it cannot be unpacked ({type(error).__name__})") from None

    # --- the pages -------------------------------------------------------------------------------

    def damaged_pages(self) -> Iterator[str]:
        """What is wrong with the pages of the file, a sentence each."""
        try:
            for (line,) in self._conn.execute("PRAGMA quick_check(20)"):
                if line != "ok":
                    yield f"The database file is damaged: {' '.join(line.split())}"
        except apsw.Error as error:
            yield said(error)


def said(error: apsw.Error) -> str:
    """That a page cannot be read, in a sentence."""
    return (
        f"A page of the database file is not what was written ({type(error).__name__}): it "
        "was changed, or the disk fails"
    )


def _bytes(value: Any) -> bytes:
    """A blob, whatever somebody made of it."""
    return value if isinstance(value, bytes) else repr(value).encode()


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else -1


def _index(leaf: Any) -> int | None:
    return leaf if isinstance(leaf, int) else None


def _unpacked(id: Any) -> str:
    try:
        return unpack_id(id)
    except Exception:
        return "?"


def _sortable(leaf: int | None) -> int:
    return -1 if leaf is None else leaf
