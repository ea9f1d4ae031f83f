"""Kept records in SQLite: everything durable that is no resource.

Authorization codes (https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2) and the like: read and
removed once, forgotten after their time.
"""

from __future__ import annotations

from fhir_server.storage.sqlite.state import Reach
from fhir_server.storage.store import ANY, Conflict, Kept

_LIVE = "(until IS NULL OR until > ?)"
_COLUMNS = "key, value, revision, until"


def kept(reach: Reach, now: int, space: str, key: str) -> Kept | None:
    row = reach.conn.execute(
        f"SELECT {_COLUMNS} FROM kept WHERE space = ? AND key = ? AND {_LIVE}", (space, key, now)
    ).fetchone()
    return None if row is None else Kept(*row)


def keep(
    reach: Reach, now: int, space: str, key: str, value: bytes, expect: int, until: int | None
) -> int:
    there = kept(reach, now, space, key)
    revision = there.revision if there else 0
    if expect not in (ANY, revision):
        raise Conflict(space, key, revision)
    reach.conn.execute(
        "INSERT OR REPLACE INTO kept (space, key, value, revision, until) VALUES (?, ?, ?, ?, ?)",
        (space, key, value, revision + 1, until),
    )
    return revision + 1


def take(reach: Reach, now: int, space: str, key: str) -> Kept | None:
    there = kept(reach, now, space, key)
    if there is not None:
        reach.conn.execute("DELETE FROM kept WHERE space = ? AND key = ?", (space, key))
    return there


def between(reach: Reach, now: int, space: str, low: str, high: str, limit: int) -> list[Kept]:
    rows = reach.conn.execute(
        f"SELECT {_COLUMNS} FROM kept WHERE space = ? AND key >= ? AND key < ? AND {_LIVE}"
        " ORDER BY key LIMIT ?",
        (space, low, high, now, limit),
    )
    return [Kept(*row) for row in rows]


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
