"""A store as its files have it, for proving: read by a connection beside the server's, or without
one, in one state and row by row, whatever the rows claim.

https://www.sqlite.org/wal.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from heapq import merge
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from fhir_server.storage.leaves import SALT
from fhir_server.storage.sealed import (
    KEY_ID,
    Keys,
    apart_place,
    event_place,
    kept_place,
    unseal,
    version_place,
)
from fhir_server.storage.sqlite import codec, foreign, log
from fhir_server.storage.sqlite.codec import pack_id, unpack_id
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
# Current versions that are not the newest of their resource, as older ones in their place would be.
_SUPERSEDED = (
    "SELECT r.leaf, k.name, x.id, r.ver, max(o.ver) FROM old o LEFT JOIN resource r ON r.pk = o.pk"
    " LEFT JOIN resource x ON x.pk = o.pk LEFT JOIN kind k ON k.k = x.type"
    " WHERE (o.ver < r.ver AND o.t < r.t) IS NOT 1 GROUP BY o.pk"
)
# A deletion has no body that says whose it was: it is whose the version before was.
_HANDED_OVER = (
    "SELECT d.leaf, k.name, x.id, d.ver FROM ({0}) d"
    " JOIN old b ON b.pk = d.pk AND b.ver = d.ver - 1"
    " LEFT JOIN resource x ON x.pk = d.pk LEFT JOIN kind k ON k.k = x.type"
    " WHERE d.owner IS NOT b.owner"
)
_DELETIONS = (
    "SELECT pk, ver, owner, leaf FROM resource WHERE deleted = 1 AND ver > 1",
    "SELECT pk, ver, owner, leaf FROM old WHERE deleted = 1 AND ver > 1",
)
_KEEPERS = (
    "SELECT v.space, k.name, o.id, substr(v.value, 1, 8) FROM kept v"
    " LEFT JOIN resource o ON o.pk = v.owner LEFT JOIN kind k ON k.k = o.type"
)
_FIRST_LEAF = (
    "SELECT min(leaf) FROM (SELECT r.leaf AS leaf FROM kind k JOIN resource r ON r.type = k.k"
    " WHERE k.name = ?1 AND r.id = ?2 AND r.ver > 0 UNION ALL SELECT o.leaf FROM kind k"
    " JOIN resource r ON r.type = k.k JOIN old o ON o.pk = r.pk WHERE k.name = ?1 AND r.id = ?2)"
)


class Recorded(NamedTuple):
    """A row that stands for a leaf: the index that it claims, what it claims to be, its place in
    the order of its table, when it says it was made, and what its blob holds. `unreadable` says
    why it holds nothing that can be read: an Erased where its key was destroyed. `owner` is whose
    it claims to be; `key` and `apart_key` are the ids of the keys that its blobs name."""

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
    owner: str | None = None
    key: bytes = b""
    apart_key: bytes = b""
    deleted: bool = False

    @property
    def name(self) -> str:
        if self.type == EVENTS:
            return f"{self.type}/{self.id}"
        return version_name(self.type, self.id, self.number)


class Reading:
    """One state of a store, until it is closed. StoreError when it cannot be opened, also a
    Damaged or Unavailable where its pages cannot be read."""

    def __init__(
        self, folder: Path, page_key: bytes, keys: Keys, cipher: str | None = None
    ) -> None:
        if not (folder / FILE).is_file():
            raise StoreError(f"There is no data in {folder}: name another folder with --data")
        self._keys = keys
        self._of = (folder, page_key, keys, cipher)
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

    def again(self) -> Reading:
        """The state of the store by now. StoreError as at first."""
        return Reading(*self._of)

    # --- the log ---------------------------------------------------------------------------------

    def count(self) -> int:
        """How many records there are, for telling how far one is."""
        return int(self._conn.execute(_RECORDS).get)

    def size(self) -> int:
        """How many leaves the tiles have."""
        return log.stored(self._conn)

    def plausible(self) -> int:
        """The greatest number that a tile of leaves can have."""
        return log.plausible(self._conn)

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
        made = (self._version(*row) for row in merge(*rows, key=lambda row: _number(row[0])))
        events = (self._event(*row) for row in self._conn.execute(_EVENTS, (since,)))
        return merge(made, events, key=lambda record: _sortable(record.leaf))

    def _version(
        self,
        t: Any,
        leaf: Any,
        named: Any,
        packed_id: Any,
        numbered: Any,
        at: Any,
        deleted: Any,
        owner_type: Any,
        owner_id: Any,
        blob: Any,
        typed: Any,
    ) -> Recorded:
        type, id = _text(named), _unpacked(packed_id)
        number, updated = _whole(numbered), _whole(at)
        owner = None if owner_id is None else f"{_text(owner_type)}/{_unpacked(owner_id)}"
        made = Recorded(_index(leaf), type, id, number, _whole(t), updated, owner=owner)
        made = made._replace(key=_bytes(blob)[:KEY_ID], deleted=bool(deleted))
        try:
            if not typed:
                raise StoreError("its row stands under another type")
            opened = self._open(blob, version_place(owner, type, id, number))
            salt, content = opened[:SALT], opened[SALT:]
            if deleted and content:
                raise StoreError("its row says that it was deleted, but it has a body")
            content = deletion(type, id, number, updated) if deleted else self._unpack(content)
        except Unavailable:
            raise
        except StoreError as error:
            return made._replace(unreadable=error)
        return made._replace(salt=salt, content=content)

    def _event(self, n: int, at: Any, blob: Any, leaf: Any, sealed: Any) -> Recorded:
        made = Recorded(_index(leaf), EVENTS, str(n), 1, n, _whole(at), key=_bytes(blob)[:KEY_ID])
        if sealed is not None:
            made = made._replace(apart_key=_bytes(sealed)[:KEY_ID])
        try:
            opened = self._open(blob, event_place(n))
            salt, content = opened[:SALT], self._unpack(opened[SALT:])
            apart = None if sealed is None else self._apart(n, sealed)
        except Unavailable:
            raise
        except StoreError as error:
            return made._replace(unreadable=error)
        return made._replace(salt=salt, content=content, apart=apart)

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

    # --- what holds of records together ----------------------------------------------------------

    def superseded(self) -> Iterator[tuple[int | None, str, int]]:
        """Versions that stand as the current ones though a later one is known: their leaf, their
        name, and the number of the later one."""
        for leaf, type, id, number, later in self._conn.execute(_SUPERSEDED):
            name = version_name(_text(type), _unpacked(id), _whole(number))
            yield _index(leaf), name, _whole(later)

    def handed_over(self) -> Iterator[tuple[int | None, str]]:
        """Deletions that are another's than what was deleted: their leaf and their name."""
        for sql in _DELETIONS:
            for leaf, type, id, number in self._conn.execute(_HANDED_OVER.format(sql)):
                yield _index(leaf), version_name(_text(type), _unpacked(id), _whole(number))

    def first_leaf(self, type: str, id: str) -> int | None:
        """The first leaf of a resource that is there; None for one that is not."""
        return _index(self._conn.execute(_FIRST_LEAF, (type, pack_id(id))).get)

    def sealers(self) -> list[tuple[str, bytes]]:
        """Every owner and the id of a data key of theirs."""
        rows = self._conn.execute("SELECT owner, id FROM sealing")
        return [(_text(owner), _bytes(id)) for owner, id in rows]

    def keepers(self) -> Iterator[tuple[str, str, bytes]]:
        """Of every kept record the space, whose it is, and the id of the key that it names."""
        for space, type, id, key in self._conn.execute(_KEEPERS):
            yield (
                _text(space),
                f"{_text(type)}/{_unpacked(id)}" if id is not None else "",
                _bytes(key),
            )

    def foreign(self) -> Iterator[str]:
        """What of the schema is not as this program makes it, a sentence each."""
        yield from foreign.found(self._conn)

    # --- the pages -------------------------------------------------------------------------------

    def damaged_pages(self) -> Iterator[str]:
        """What is wrong with the pages of the file, a sentence each."""
        try:
            for (line,) in self._conn.execute("PRAGMA quick_check(20)"):
                if line != "ok":
                    yield f"The database file is damaged: {' '.join(line.split())}"
        except apsw.Error as error:
            yield said(error)


def version_name(type: str, id: str, number: int) -> str:
    """How a version is called."""
    return f"{type}/{id}/_history/{number}"


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


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "?"


def _number(value: Any) -> float:
    """Where a value stands among others in SQLite's order."""
    return value if isinstance(value, int | float) else inf


def _index(leaf: Any) -> int | None:
    return leaf if isinstance(leaf, int) else None


def _unpacked(id: Any) -> str:
    try:
        return unpack_id(id)
    except Exception:
        return "?"


def _sortable(leaf: int | None) -> int:
    return -1 if leaf is None else leaf
