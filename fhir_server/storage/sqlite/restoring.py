"""A store in the making: filled from a copy, rid of what was erased since, and indexed anew.

https://www.sqlite.org/lang_insert.html, https://gdpr-info.eu/art-17-gdpr/
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from fhir_server.storage.sealed import KEY_ID, Keys
from fhir_server.storage.sqlite import erasure, events, log, pages, resources
from fhir_server.storage.sqlite.codec import unpack_id
from fhir_server.storage.sqlite.copying import VEILED, Copy, Row, Table, finish, insert, make
from fhir_server.storage.sqlite.doctor import write_meta
from fhir_server.storage.sqlite.engine import _load
from fhir_server.storage.sqlite.entries import mentioned, settle
from fhir_server.storage.sqlite.folder import Lock
from fhir_server.storage.sqlite.schema import APPLICATION, FILE, choose_cipher, connect, writing
from fhir_server.storage.sqlite.state import Reach
from fhir_server.storage.store import EVENTS, Entry, Notice, Version

Extract: TypeAlias = Callable[[bytes], Sequence[Entry]]
Progress: TypeAlias = Callable[[int], object]

_BATCH = 500  # records in one commit
_FIRST_SCHEMA = 2  # before it nothing was sealed, and nothing was backed up


class Held(NamedTuple):
    """How many versions, events, events with something apart, and kept records there are of what
    the log had before some leaf."""

    versions: int
    events: int
    details: int
    kept: int


class Removed(NamedTuple):
    """The leaves of versions and of events that were removed, and the names, as type and id, of
    resources that are no more."""

    versions: tuple[int, ...]
    events: tuple[int, ...]
    names: tuple[tuple[str, str], ...]


class Restoring:
    """The writer of a new data folder, which nobody else may have meanwhile; `cipher` as the engine
    takes it. StoreError."""

    def __init__(self, folder: Path, page_key: bytes, cipher: str | None = None) -> None:
        self.folder = folder
        self._lock = Lock(folder)
        try:
            choose_cipher(folder, cipher)
            self.conn = connect(folder / FILE, page_key, writes=True)
        except BaseException:
            self._lock.close()
            raise
        self._reach: Reach | None = None

    def close(self) -> None:
        self.conn.close()
        self._lock.close()

    # --- filling -----------------------------------------------------------------------------

    def begin(self, copy: Copy) -> None:
        self.conn.pragma("application_id", APPLICATION)
        with writing(self.conn):
            make(self.conn, copy)

    def fill(self, table: Table, rows: Sequence[Row]) -> None:
        """Rows of a copy; committed when there are many, and by `fill_end`."""
        if not self.conn.in_transaction:
            self.conn.execute("BEGIN IMMEDIATE")
        insert(self.conn, table, rows)

    def commit(self) -> None:
        if self.conn.in_transaction:
            self.conn.execute("COMMIT")

    def fill_end(self, copy: Copy) -> None:
        self.commit()
        with writing(self.conn):
            finish(self.conn, copy)

    def open(self, keys: Keys) -> None:
        """Bring an older schema to this version, and get ready to index. StoreError."""
        shared = _load(self.conn, self.folder, keys, lambda: time.time_ns() // 1000)
        self._reach = Reach(self.conn, shared)

    @property
    def reach(self) -> Reach:
        if self._reach is None:
            raise RuntimeError("it is opened first")
        return self._reach

    # --- keys and erasure ----------------------------------------------------------------------

    def held(self, leaves: int) -> Held:
        """What is there of what has a leaf below some number."""
        row: Any = self.conn.execute(_HELD, {"leaves": leaves}).fetchone()
        return Held(*row)

    def sealed_under(self) -> Counter[bytes]:
        """The ids of all keys that something is sealed under, with how many records."""
        found: Counter[bytes] = Counter()
        for table, column in _BLOBS:
            sql = (
                f"SELECT substr({column}, 1, {KEY_ID}), count(*) FROM {table}"
                f" WHERE {column} IS NOT NULL GROUP BY 1"
            )
            for id, number in self.conn.execute(sql):
                found[id] += number
        return found

    def owners_of(self, keys: Iterable[bytes]) -> set[str]:
        """Whose keys these are, of those who have no others."""
        gone = set(keys)
        whose: dict[str, bool] = {}
        for owner, id in self.conn.execute("SELECT owner, id FROM sealing"):
            whose[owner] = whose.get(owner, True) and id in gone
        return {owner for owner, wholly in whose.items() if wholly}

    def remove(self, keys: Iterable[bytes], spans: Iterable[tuple[int, int]]) -> Removed:
        """Remove what is sealed under these keys and what has a leaf in these ranges: a resource
        whose current version goes goes with all its versions."""
        conn = self.conn
        with writing(conn):
            # The newest may be among those that go: time and sequence still never return.
            write_meta(conn, "sequence", self.reach.shared.sequence)
            write_meta(conn, "updated", self.reach.shared.updated)
            conn.execute(_MARKS)
            conn.executemany("INSERT OR IGNORE INTO temp.gone VALUES (?)", [(k,) for k in keys])
            conn.executemany("INSERT OR IGNORE INTO temp.span VALUES (?, ?)", list(spans))
            conn.execute(_MARK_RESOURCES)
            names = [(name, unpack_id(id)) for name, id in conn.execute(_NAMES)]
            versions = {leaf for (leaf,) in conn.execute(_LEAVES_OF_VERSIONS)}
            recorded = {leaf for (leaf,) in conn.execute(_LEAVES_OF_EVENTS)}
            for statement in _REMOVALS:
                conn.execute(statement)
            for statement in _RELEASES:
                conn.execute(statement)
        conn.execute("DROP TABLE temp.gone; DROP TABLE temp.span; DROP TABLE temp.whole")
        return Removed(tuple(sorted(versions)), tuple(sorted(recorded)), tuple(names))

    def forget(self, owners: Iterable[str], names: Iterable[tuple[str, str]]) -> None:
        """Finish the erasure of owners and of resources that are no more, when events are indexed:
        these go on naming them, but say nothing more, and their names are veiled."""
        reach, named = self.reach, list(names)
        with writing(self.conn):
            for owner in owners:
                erasure.erase(reach, owner)
            for type, id in named:
                self.conn.execute(_STRIP, (reach.pk(type, id),))
            erasure.veil(reach, named)
        reach.shared.names.drop()
        reach.shared.owners.clear()

    def rebuild(self) -> None:
        """Leave nothing in unused parts of the file."""
        pages.rebuild(self.conn)

    def replace(self, blobs: Mapping[int, bytes], keys: Iterable[tuple[str, bytes]]) -> int:
        """Put other blobs in place of those that stand at leaves, sealed under keys of owners; how
        many there were."""
        conn, number = self.conn, 0
        with writing(conn):
            for table, sql in _AT_LEAVES.items():
                rows: Any = conn.execute(sql).fetchall()
                found = [(blobs[leaf], at) for at, leaf in rows if leaf in blobs]
                conn.executemany(f"UPDATE {table} SET body = ? WHERE rowid = ?", found)
                number += len(found)
            sql = "INSERT OR IGNORE INTO sealing (owner, id, current) VALUES (?, ?, 0)"
            conn.executemany(sql, list(keys))
        return number

    def notices(self) -> list[Notice]:
        return log.notices(self.reach, -1)

    def note(self, contents: Iterable[bytes]) -> list[int]:
        """Append notices to the log; their leaves."""
        leaves = self.reach.shared.leaves
        with writing(self.conn):
            made = [log.note(self.reach, each) for each in contents]
            edge = log.write(self.conn, leaves)
        leaves.settle(edge)
        return made

    # --- indexing ------------------------------------------------------------------------------

    def index(self, extract: Extract, progress: Progress) -> int:
        """Give every live resource its entries; how many resources."""
        reach, after, done = self.reach, 0, 0
        while True:
            with writing(self.conn):
                for _ in range(_BATCH // 100):
                    found = resources.walk(reach, after)
                    for each in found:
                        resources.reindex(reach, each.type, each.id, extract(each.body))
                    if not found:
                        break
                    after, done = found[-1].sequence, done + len(found)
                settle(self.conn, reach.shared.waiting)
            reach.shared.names.settle()
            progress(done)
            if not found:
                return done

    def index_events(self, extract: Extract, progress: Progress) -> int:
        """Give every event its entries; how many events."""
        reach, after, done = self.reach, 0, 0
        while found := _next_events(reach, after):
            with writing(self.conn):
                for each in found:
                    _index_event(reach, each, extract(each.body))
            reach.shared.names.settle()
            after, done = int(found[-1].id), done + len(found)
            progress(done)
        return done

    def indexed(self, extraction: str) -> None:
        """Note that all entries are there, made by this version of the extraction."""
        with writing(self.conn):
            write_meta(self.conn, "extraction", extraction)
            # Not of parameters that R4 does not have: a server builds these when it starts.
            self.conn.execute("DELETE FROM kept WHERE space = 'search-parameter'")


_HELD = (
    "SELECT (SELECT count(*) FROM resource WHERE leaf < :leaves)"
    " + (SELECT count(*) FROM old WHERE leaf < :leaves),"
    " (SELECT count(*) FROM event WHERE leaf < :leaves),"
    " (SELECT count(*) FROM event WHERE leaf < :leaves AND apart IS NOT NULL),"
    " (SELECT count(*) FROM kept)"
)
_BLOBS = (
    ("resource", "body"),
    ("old", "body"),
    ("event", "body"),
    ("event", "apart"),
    ("kept", "value"),
)
_AT_LEAVES = {
    "resource": "SELECT pk, leaf FROM resource WHERE leaf IS NOT NULL",
    "old": "SELECT t, leaf FROM old WHERE leaf IS NOT NULL",
}

# Which keys and leaves are gone, and which resources go wholly.
_MARKS = """
CREATE TEMP TABLE gone (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE span (first INTEGER PRIMARY KEY, last INT);
CREATE TEMP TABLE whole (pk INTEGER PRIMARY KEY);
"""
_GOES = (
    f"(substr({{0}}.body, 1, {KEY_ID}) IN temp.gone OR coalesce({{0}}.leaf <= (SELECT last"
    " FROM temp.span WHERE first <= {0}.leaf ORDER BY first DESC LIMIT 1), 0))"
)
_MARK_RESOURCES = "INSERT INTO temp.whole SELECT pk FROM resource r WHERE ver > 0 AND "
_MARK_RESOURCES += _GOES.format("r")
_NAMES = "SELECT k.name, r.id FROM resource r JOIN kind k ON k.k = r.type WHERE r.pk IN temp.whole"
_OLD_GOES = f"(o.pk IN temp.whole OR {_GOES.format('o')})"
_LEAVES_OF_VERSIONS = (
    "SELECT leaf FROM resource WHERE pk IN temp.whole UNION ALL"
    f" SELECT leaf FROM old o WHERE {_OLD_GOES}"
)
_LEAVES_OF_EVENTS = f"SELECT leaf FROM event e WHERE {_GOES.format('e')}"
_REMOVALS = (
    f"DELETE FROM old AS o WHERE {_OLD_GOES}",
    "UPDATE resource SET ver = 0, t = 0, updated = 0, deleted = 1, owner = NULL, mix = NULL,"
    " keys = NULL, body = NULL, leaf = NULL WHERE pk IN temp.whole",
    f"DELETE FROM event AS e WHERE {_GOES.format('e')}",
    f"UPDATE event SET apart = NULL WHERE substr(apart, 1, {KEY_ID}) IN temp.gone",
    f"DELETE FROM kept WHERE substr(value, 1, {KEY_ID}) IN temp.gone",
)
# No links are there yet but those of the events that erasing again has recorded.
_RELEASES = (
    "DELETE FROM sealing WHERE id IN temp.gone",
    f"DELETE FROM resource AS r WHERE ver = 0 AND NOT {VEILED}"
    " AND NOT EXISTS (SELECT 1 FROM resource WHERE owner = r.pk)"
    " AND NOT EXISTS (SELECT 1 FROM old WHERE owner = r.pk)"
    " AND NOT EXISTS (SELECT 1 FROM kept WHERE owner = r.pk)"
    " AND NOT EXISTS (SELECT 1 FROM link WHERE dst = r.pk)",
)
_STRIP = (
    "UPDATE event SET apart = NULL WHERE apart IS NOT NULL"
    " AND n IN (SELECT -src FROM link WHERE dst = ? AND src < 0)"
)


def _next_events(reach: Reach, after: int) -> list[Version]:
    sql = f"SELECT r.n, {events.COLUMNS} FROM event r WHERE r.n > ? ORDER BY r.n LIMIT ?"
    rows: list[Row] = reach.conn.execute(sql, (after, _BATCH)).fetchall()
    return [events.version(reach, str(n), *row) for n, *row in rows]


def _index_event(reach: Reach, event: Version, entries: Iterable[Entry]) -> None:
    """The rows that `events.record` writes for these entries."""
    conn, names, n = reach.conn, reach.shared.names, int(event.id)
    kind = names.make_kind(conn, EVENTS)
    for entry in entries:
        p = names.make_param(conn, kind, entry.param, entry.shape)
        if entry.shape == "link":
            dst = mentioned(conn, names, entry.system or "", entry.code or "")
            sql = "INSERT OR IGNORE INTO link (dst, p, at, src) VALUES (?, ?, ?, ?)"
            conn.execute(sql, (dst, p, event.updated, -n))
        else:
            v = names.make_value(conn, entry.system, entry.code)
            conn.execute("INSERT OR IGNORE INTO token (p, v, pk) VALUES (?, ?, ?)", (p, v, -n))
