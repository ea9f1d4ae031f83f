"""New databases and older ones: the tables are made, or brought to the version of this program.

https://www.sqlite.org/lang_altertable.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from pathlib import Path
from typing import Any, TypeAlias

import apsw

from fhir_server.log.merkle import salted_leaf
from fhir_server.storage.leaves import Leaves
from fhir_server.storage.sealed import Keys, Owners, event_place, kept_place, seal, version_place
from fhir_server.storage.sqlite import codec
from fhir_server.storage.sqlite.codec import unpack_id
from fhir_server.storage.sqlite.schema import APPLICATION, LOG, TABLES, VERSION, writing
from fhir_server.storage.store import StoreError, deletion

_CHUNK = 500  # rows that are read before they are written
_BEFORE = "audit/before"  # whose the events are that were recorded before events had months


def prepare(conn: apsw.Connection, folder: Path, keys: Keys) -> None:
    """Make the tables of a new database, or bring an older one to this version: each step happens
    wholly or not at all. StoreError when the database is newer than this program."""
    version = conn.pragma("user_version")
    if version > VERSION:
        raise StoreError(
            f"{folder} was written by a newer Salus (schema {version}; this one knows {VERSION}): "
            "start that version, or restore a backup"
        )
    steps: tuple[Migration, ...] = (_create,) if version == 0 else MIGRATIONS[version - 1 :]
    for number, step in enumerate(steps, start=version + 1):
        with writing(conn):
            step(conn, keys)
            conn.pragma("user_version", VERSION if version == 0 else number)


Migration: TypeAlias = Callable[[apsw.Connection, Keys], None]


def _create(conn: apsw.Connection, _: Keys) -> None:
    conn.pragma("application_id", APPLICATION)
    conn.execute(TABLES)


# --- 1 to 2: every record is sealed and has a leaf ------------------------------------------------

_COLUMNS = """
ALTER TABLE resource ADD COLUMN leaf INT;
ALTER TABLE old ADD COLUMN leaf INT;
ALTER TABLE event ADD COLUMN leaf INT;
ALTER TABLE event ADD COLUMN apart BLOB;
ALTER TABLE kept ADD COLUMN owner INT;
CREATE INDEX kept_owner ON kept (owner) WHERE owner IS NOT NULL;
"""
_VERSIONS = (
    "SELECT r.t, ?, k.name, x.id, r.ver, r.updated, r.deleted, ok.name, o.id, r.body, r.pk"
    " FROM {0} r JOIN resource x ON x.pk = r.pk JOIN kind k ON k.k = r.type"
    " LEFT JOIN resource o ON o.pk = r.owner LEFT JOIN kind ok ON ok.k = o.type"
    " WHERE r.t > ? AND r.ver > 0 ORDER BY r.t LIMIT ?"
)
_SEALED = {
    "resource": "UPDATE resource SET body = ?, leaf = ? WHERE pk = ?",
    "old": "UPDATE old SET body = ?, leaf = ? WHERE t = ?",
}


def _seal_all(conn: apsw.Connection, keys: Keys) -> None:
    """The versions in their order, then the events in theirs, then what is kept."""
    conn.execute(_COLUMNS + LOG)
    made = _Made(conn, keys)
    tables = (_in_chunks(conn, table) for table in _SEALED)
    for row in merge(*tables, key=lambda row: row[0]):
        made.version(*row)
    for n, body in _events(conn):
        made.event(n, body)
    for space, key, value in _all(conn, "SELECT space, key, value FROM kept"):
        made.kept(space, key, value)
    changed, _ = made.leaves.tiles()
    rows = [(level, number, data) for (level, number), data in changed.items()]
    conn.executemany("INSERT INTO tile (level, n, data) VALUES (?, ?, ?)", rows)


def _in_chunks(conn: apsw.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    after = 0
    while rows := _all(conn, _VERSIONS.format(table), (table, after, _CHUNK)):
        yield from rows
        after = rows[-1][0]


def _events(conn: apsw.Connection) -> Iterable[tuple[int, bytes]]:
    after, sql = 0, "SELECT n, body FROM event WHERE n > ? ORDER BY n LIMIT ?"
    while rows := _all(conn, sql, (after, _CHUNK)):
        yield from rows
        after = rows[-1][0]


def _all(conn: apsw.Connection, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
    return conn.execute(sql, values).fetchall()


class _Made:
    """The leaves and keys that the records of a version 1 are given."""

    def __init__(self, conn: apsw.Connection, keys: Keys) -> None:
        self._conn = conn
        self._keys = Owners(keys)
        self._bodies = codec.load_bodies(conn)
        self.leaves = Leaves()

    def version(
        self,
        t: int,
        table: str,
        type: str,
        packed_id: str | bytes,
        number: int,
        updated: int,
        deleted: int,
        owner_type: str | None,
        owner_id: str | bytes | None,
        body: bytes | None,
        pk: int,
    ) -> None:
        id = unpack_id(packed_id)
        owner = None if owner_id is None else f"{owner_type}/{unpack_id(owner_id)}"
        place = version_place(owner, type, id, number)
        blob, salt = self._seal(owner or "", place, b"" if deleted else body or b"")
        content = deletion(type, id, number, updated)
        if not deleted:
            content = self._bodies.unpack(body or b"")
        leaf = self.leaves.append(salted_leaf(salt, content))
        self._conn.execute(_SEALED[table], (blob, leaf, pk if table == "resource" else t))

    def event(self, n: int, body: bytes) -> None:
        blob, salt = self._seal(_BEFORE, event_place(n), body)
        leaf = self.leaves.append(salted_leaf(salt, self._bodies.unpack(body)))
        self._conn.execute("UPDATE event SET body = ?, leaf = ? WHERE n = ?", (blob, leaf, n))

    def kept(self, space: str, key: str, value: bytes) -> None:
        blob, _ = self._seal("", kept_place(None, space, key), value)
        sql = "UPDATE kept SET value = ? WHERE space = ? AND key = ?"
        self._conn.execute(sql, (blob, space, key))

    def _seal(self, owner: str, place: bytes, content: bytes) -> tuple[bytes, bytes]:
        id = self._keys.current(owner, self._find, self._note)
        return seal(self._keys.keys, id, place, content)

    def _find(self, owner: str) -> bytes | None:
        found: bytes | None = self._conn.execute(
            "SELECT id FROM sealing WHERE owner = ? AND current = 1", (owner,)
        ).get
        return found

    def _note(self, owner: str, id: bytes) -> None:
        sql = "INSERT INTO sealing (owner, id, current) VALUES (?, ?, 1)"
        self._conn.execute(sql, (owner, id))


# The change from version n to n + 1 stands at place n - 1.
MIGRATIONS: tuple[Migration, ...] = (_seal_all,)
