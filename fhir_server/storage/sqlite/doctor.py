"""What is in a store and what is wrong with it.

https://www.sqlite.org/pragma.html#pragma_integrity_check
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from fhir_server.storage.sqlite import events
from fhir_server.storage.sqlite.codec import unpack_id, unpack_keys
from fhir_server.storage.sqlite.entries import lost_tokens
from fhir_server.storage.sqlite.schema import FILE
from fhir_server.storage.sqlite.state import COLUMNS, Reach, split_row


def read_meta(conn: apsw.Connection, name: str) -> Any:
    return conn.execute("SELECT value FROM meta WHERE name = ?", (name,)).get


def write_meta(conn: apsw.Connection, name: str, value: str | int) -> None:
    conn.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))


# Rows that belong to nothing: (what they are, how many there are).
_ORPHANS = {
    "token entries without a live resource": (
        "SELECT count(*) FROM token e WHERE pk > 0 AND NOT EXISTS"
        " (SELECT 1 FROM resource r WHERE r.pk = e.pk AND deleted = 0)"
    ),
    "text entries without a live resource": (
        "SELECT count(*) FROM text e WHERE NOT EXISTS"
        " (SELECT 1 FROM resource r WHERE r.pk = e.pk AND deleted = 0)"
    ),
    "range entries without a live resource": (
        "SELECT count(*) FROM range e WHERE NOT EXISTS"
        " (SELECT 1 FROM resource r WHERE r.pk = e.pk AND deleted = 0)"
    ),
    "link entries without a live resource": (
        "SELECT count(*) FROM link e WHERE src > 0 AND NOT EXISTS"
        " (SELECT 1 FROM resource r WHERE r.pk = e.src AND deleted = 0)"
    ),
    "link entries to a resource that has no row": (
        "SELECT count(*) FROM link e WHERE dst > 0 AND NOT EXISTS"
        " (SELECT 1 FROM resource r WHERE r.pk = e.dst)"
    ),
    "entries of events that are not there": (
        "SELECT (SELECT count(*) FROM token e WHERE pk < 0 AND NOT EXISTS"
        " (SELECT 1 FROM event WHERE n = -e.pk)) + (SELECT count(*) FROM link e WHERE src < 0"
        " AND NOT EXISTS (SELECT 1 FROM event WHERE n = -e.src))"
    ),
    "token entries of a value that is not there": (
        "SELECT count(*) FROM token e WHERE NOT EXISTS (SELECT 1 FROM value WHERE v = e.v)"
    ),
    "text entries of a phrase that is not there": (
        "SELECT count(*) FROM text e WHERE NOT EXISTS (SELECT 1 FROM phrase WHERE w = e.w)"
    ),
    "old versions of a resource that has no row": (
        "SELECT count(*) FROM old o WHERE NOT EXISTS"
        " (SELECT 1 FROM resource r WHERE r.pk = o.pk AND r.ver > o.ver)"
    ),
}


def problems(reach: Reach) -> Iterator[str]:
    """A sentence for each thing that is wrong."""
    for (line,) in reach.conn.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"The database file is damaged: {line}"
    for what, sql in _ORPHANS.items():
        number = reach.conn.execute(sql).get
        if number:
            yield f"{number} {what}"
    yield from _disagreements(reach)
    yield from _unreadable_versions(reach, "resource")
    yield from _unreadable_versions(reach, "old")
    yield from _unreadable_events(reach)


def _disagreements(reach: Reach) -> Iterator[str]:
    """Resources whose own record of their tokens or params is not what the entries say."""
    conn = reach.conn
    mixes: dict[int, set[int]] = {}
    for p, h in conn.execute("SELECT p, h FROM mixed"):
        mixes.setdefault(h, set()).add(p)
    tokens = 0
    rows = conn.execute(
        "SELECT k.name, r.id, r.pk, r.keys, r.mix FROM resource r JOIN kind k ON k.k = r.type"
        " WHERE r.deleted = 0"
    )
    for name, id, pk, keys, mix in rows:
        pairs = unpack_keys(keys)
        tokens += len(pairs)
        place = f"{name}/{unpack_id(id)}"
        if lost_tokens(conn, pk, pairs):
            yield f"{place} has tokens that no search finds"
        if {p for p, _ in pairs} | _other_params(conn, pk) != mixes.get(mix, set()):
            yield f"{place} has other params than its row says"
    if tokens != conn.execute("SELECT count(*) FROM token WHERE pk > 0").get:
        yield "Token entries stand under resources that do not have them"


def _other_params(conn: apsw.Connection, pk: int) -> set[int]:
    found = conn.execute(
        "SELECT p FROM text JOIN phrase USING (w) WHERE pk = ?1 UNION"
        " SELECT p FROM range WHERE pk = ?1 UNION"
        " SELECT p FROM link WHERE src = ?1 AND src > 0",
        (pk,),
    )
    return {p for (p,) in found}


def _unreadable_versions(reach: Reach, table: str) -> Iterator[str]:
    columns = COLUMNS.replace("r.id", "x.id")
    sql = (
        f"SELECT k.name, {columns} FROM {table} r JOIN resource x ON x.pk = r.pk"
        " JOIN kind k ON k.k = r.type WHERE r.ver > 0"
    )
    for row in reach.conn.execute(sql):
        type, version = split_row(row)
        try:
            reach.logged(type, version)
        except Exception as error:
            place = f"{type}/{unpack_id(version[0])}/_history/{version[1]}"
            yield f"{place} cannot be read ({error.__class__.__name__})"


def _unreadable_events(reach: Reach) -> Iterator[str]:
    for (n,) in reach.conn.execute("SELECT n FROM event"):
        try:
            events.get(reach, str(n), None)
        except Exception as error:
            yield f"AuditEvent/{n} cannot be read ({error.__class__.__name__})"


def sizes(conn: apsw.Connection, folder: Path) -> dict[str, int]:
    """Bytes of the files and, by name, of the tables and indexes."""
    found = {
        file.name: file.stat().st_size for file in sorted(folder.glob(f"{FILE}*")) if file.is_file()
    }
    for name, size in conn.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"):
        found[f"table {name}"] = size
    for table in ("resource", "old", "event"):
        found[f"rows {table}"] = conn.execute(f"SELECT count(*) FROM {table}").get
    found["rows referred to but absent"] = unresolved(conn)
    return found


def unresolved(conn: apsw.Connection) -> int:
    """How many resources are referred to that are not there (any more)."""
    count: int = conn.execute(
        "SELECT count(*) FROM resource r WHERE r.deleted = 1"
        " AND EXISTS (SELECT 1 FROM link WHERE dst = r.pk AND src > 0)"
    ).get
    return count
