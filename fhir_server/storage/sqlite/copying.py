"""A store row by row, as a backup holds it: everything that is not made of the rest, as it lies.

https://www.sqlite.org/isolation.html: one read transaction sees one state, beside whoever writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apsw
from msgspec import Struct

from fhir_server.log.merkle import HASH, WIDTH
from fhir_server.storage.sqlite.schema import (
    FILE,
    REFUSALS,
    VERSION,
    connect,
    unavailable,
)
from fhir_server.storage.store import Notice, StoreError

# What a backup leaves out, since it is made of the bodies: the entries and the numbers in them.
REBUILT = frozenset(
    {
        "token",
        "text",
        "range",
        "link",
        "value",
        "phrase",
        "system",
        "param",
        "mix",
        "mixed",
    }
)
_REBUILT_COLUMNS = {"resource": frozenset({"mix", "keys"})}

# Of these tables not every row: one that is only reserved counts where it is somebody's owner, or
# when its name is veiled; by which extraction entries were made says nothing where there are none.
VEILED = "(ver = 0 AND typeof(id) = 'blob' AND length(id) > 16)"
_WHERE = {
    "resource": f"ver > 0 OR {VEILED}"
    " OR EXISTS (SELECT 1 FROM resource o WHERE o.owner = resource.pk)"
    " OR EXISTS (SELECT 1 FROM old o WHERE o.owner = resource.pk)"
    " OR EXISTS (SELECT 1 FROM kept o WHERE o.owner = resource.pk)",
    "meta": "name <> 'extraction'",
}
_BATCH = 256  # rows that are read at once, fewer when they are large
_BATCH_BYTES = 1 << 20

Row = tuple[Any, ...]


class Table(Struct, frozen=True):
    """A table as it is copied: its columns, and how many rows it has."""

    name: str
    columns: tuple[str, ...]
    rows: int


class Copy(NamedTuple):
    """What a copy begins with: the number of its schema and the statements that make it."""

    schema: int
    statements: tuple[str, ...]
    tables: tuple[Table, ...]


class Snapshot:
    """One state of the store in a folder, whether a server has it or not. Close it soon: while it
    is open the server's log of changes can only grow."""

    def __init__(self, folder: Path, page_key: bytes) -> None:
        try:
            self._conn = connect(folder / FILE, page_key, writes=False)
        except REFUSALS as error:
            raise unavailable(error) from error
        try:
            self._conn.execute("BEGIN")
            self.schema: int = self._conn.pragma("user_version")  # begins the reading
            if self.schema != VERSION:
                raise StoreError(
                    f"{folder} has schema {self.schema}, this Salus has {VERSION}: let its server "
                    "start once with this version, then try again"
                )
        except BaseException:
            self._conn.close()
            raise

    def close(self) -> None:
        self._conn.close()

    def copy(self) -> Copy:
        """What there is to copy."""
        found: Any = self._conn.execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
            " ORDER BY type = 'index', rowid"
        ).fetchall()
        tables = [self._table(name) for type, name, _ in found if type == "table"]
        statements = tuple(sql for _, _, sql in found)
        return Copy(self.schema, statements, tuple(each for each in tables if each is not None))

    def rows(self, table: Table) -> Iterator[list[Row]]:
        """The rows of a table, some at a time."""
        sql = f"SELECT {', '.join(table.columns)} FROM {table.name}{_where(table.name)}"
        batch: list[Row] = []
        size = 0
        for row in self._conn.execute(sql):
            batch.append(row)
            size += sum(len(value) for value in row if isinstance(value, bytes))
            if len(batch) == _BATCH or size > _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def volume(self) -> int:
        """How many bytes all tables take, indexes included: more than a copy will."""
        pages = self._conn.pragma("page_count") - self._conn.pragma("freelist_count")
        return int(pages * self._conn.pragma("page_size"))

    # --- the log -----------------------------------------------------------------------------

    def size(self) -> int:
        """How many leaves the log has."""
        sql = "SELECT n, length(data) FROM tile WHERE level = 0 ORDER BY n DESC LIMIT 1"
        number, length = self._conn.execute(sql).fetchone() or (0, 0)
        return int(number * WIDTH + length // HASH)

    async def tile(self, level: int, number: int) -> bytes:
        sql = "SELECT data FROM tile WHERE level = ? AND n = ?"
        return self._conn.execute(sql, (level, number)).get or b""

    def notices(self, since: int) -> list[Notice]:
        """The notices from the leaf `since` on."""
        sql = "SELECT leaf, content FROM notice WHERE leaf >= ? ORDER BY leaf"
        return [Notice(*row) for row in self._conn.execute(sql, (since,))]

    # --- records that were written anew in place -----------------------------------------------

    def blobs(self, leaves: Collection[int]) -> dict[int, bytes]:
        """The blobs of the versions that stand at some leaves."""
        found: dict[int, bytes] = {}
        for table, at in (("resource", "pk"), ("old", "t")) if leaves else ():
            places = self._conn.execute(f"SELECT {at}, leaf FROM {table} WHERE leaf IS NOT NULL")
            for place, leaf in [row for row in places if row[1] in leaves]:
                sql = f"SELECT body FROM {table} WHERE {at} = ?"
                found[leaf] = self._conn.execute(sql, (place,)).get
        return found

    def sealing(self) -> list[tuple[str, bytes]]:
        """Owners and the ids of their keys."""
        found: Any = self._conn.execute("SELECT owner, id FROM sealing").fetchall()
        return list(found)

    def _table(self, name: str) -> Table | None:
        if name in REBUILT:
            return None
        left_out = _REBUILT_COLUMNS.get(name, frozenset())
        columns = [row[1] for row in self._conn.execute(f"PRAGMA table_info({name})")]
        number = self._conn.execute(f"SELECT count(*) FROM {name}{_where(name)}").get
        return Table(name, tuple(each for each in columns if each not in left_out), number)


def _where(table: str) -> str:
    return f" WHERE {_WHERE[table]}" if table in _WHERE else ""


def make(conn: apsw.Connection, copy: Copy) -> None:
    """Make the tables of a copy in an empty database, without their indexes."""
    for each in copy.statements:
        if each.upper().startswith("CREATE TABLE"):
            conn.execute(each)


def insert(conn: apsw.Connection, table: Table, rows: Sequence[Row]) -> None:
    """Write rows of a copy."""
    places = ", ".join("?" * len(table.columns))
    columns = ", ".join(table.columns)
    conn.executemany(f"INSERT INTO {table.name} ({columns}) VALUES ({places})", rows)


def finish(conn: apsw.Connection, copy: Copy) -> None:
    """Make the indexes, when all rows are there, and say which schema this is."""
    for each in copy.statements:
        if not each.upper().startswith("CREATE TABLE"):
            conn.execute(each)
    conn.pragma("user_version", copy.schema)
