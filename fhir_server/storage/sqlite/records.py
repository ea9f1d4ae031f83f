"""Kept records in SQLite: everything durable that is no resource.

Authorization codes (https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2) and the like: read and
removed once, forgotten after their time.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from fhir_server.storage.leaves import SALT
from fhir_server.storage.sealed import kept_place, unseal
from fhir_server.storage.sqlite.state import Reach
from fhir_server.storage.store import ANY, Conflict, Kept

_LIVE = "(until IS NULL OR until > ?)"
_COLUMNS = "key, value, revision, until, owner"
_Row: TypeAlias = tuple[str, bytes, int, int | None, int | None]


def kept(reach: Reach, now: int, space: str, key: str) -> Kept | None:
    row = reach.conn.execute(
        f"SELECT {_COLUMNS} FROM kept WHERE space = ? AND key = ? AND {_LIVE}", (space, key, now)
    ).fetchone()
    return None if row is None else _opened(reach, space, row)


def _opened(reach: Reach, space: str, row: _Row) -> Kept:
    """The record in a row. Damaged, Erased, Unavailable."""
    key, blob, revision, until, pk = row
    owner = None if pk is None else reach.owner(pk)
    opened = unseal(reach.shared.sealing.keys, blob, kept_place(owner, space, key))
    return Kept(key, opened[SALT:], revision, until)


def keep(
    reach: Reach,
    now: int,
    space: str,
    key: str,
    value: bytes,
    expect: int,
    until: int | None,
    owner: str | None,
) -> int:
    there = reach.conn.execute(
        f"SELECT revision FROM kept WHERE space = ? AND key = ? AND {_LIVE}", (space, key, now)
    ).get
    revision = there or 0
    if expect not in (ANY, revision):
        raise Conflict(space, key, revision)
    pk = None
    if owner is not None:
        pk = reach.shared.names.make_resource(reach.conn, *owner.split("/", 1))
    blob, _ = reach.seal(owner or "", kept_place(owner, space, key), value)
    reach.conn.execute(
        "INSERT OR REPLACE INTO kept (space, key, value, revision, until, owner)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (space, key, blob, revision + 1, until, pk),
    )
    return revision + 1


def take(reach: Reach, now: int, space: str, key: str) -> Kept | None:
    there = kept(reach, now, space, key)
    if there is not None:
        reach.conn.execute("DELETE FROM kept WHERE space = ? AND key = ?", (space, key))
    return there


def between(reach: Reach, now: int, space: str, low: str, high: str, limit: int) -> list[Kept]:
    rows: list[Any] = reach.conn.execute(
        f"SELECT {_COLUMNS} FROM kept WHERE space = ? AND key >= ? AND key < ? AND {_LIVE}"
        " ORDER BY key LIMIT ?",
        (space, low, high, now, limit),
    ).fetchall()  # so that one that cannot be opened leaves no statement that is not finished
    return [_opened(reach, space, row) for row in rows]


def clear(reach: Reach, now: int, space: str, low: str, high: str) -> int:
    """Expired records in between go too, but count for nothing."""
    where = "space = ? AND key >= ? AND key < ?"
    live: int = reach.conn.execute(
        f"SELECT count(*) FROM kept WHERE {where} AND {_LIVE}", (space, low, high, now)
    ).get
    reach.conn.execute(f"DELETE FROM kept WHERE {where}", (space, low, high))
    return live


def sweep(reach: Reach, now: int) -> None:
    """Remove some of what has expired."""
    reach.conn.execute(
        "DELETE FROM kept WHERE (space, key) IN"
        " (SELECT space, key FROM kept WHERE until <= ? LIMIT 500)",
        (now,),
    )
