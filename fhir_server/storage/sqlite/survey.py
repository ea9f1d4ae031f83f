"""What stands in a store, row by row, whatever of it can be opened: for what must not end with the
first damaged record, as an erasure.

https://gdpr-info.eu/art-17-gdpr/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_server.storage.leaves import SALT
from fhir_server.storage.sealed import apart_place, unseal
from fhir_server.storage.sqlite.codec import unpack_id
from fhir_server.storage.sqlite.state import BARE, COLUMNS, Reach, split_row
from fhir_server.storage.store import Erased, StoreError, Unavailable, Unread, Version

_END = 9_223_372_036_854_775_807
_ROWS = (
    f"SELECT k.name, {COLUMNS} FROM resource r CROSS JOIN kind k ON k.k = r.type"
    " WHERE r.ver > 0 AND r.t < ?",
    "SELECT k.name, x.id, r.ver, r.updated, r.body, r.owner, r.deleted, r.t, r.leaf FROM old r"
    " CROSS JOIN kind k ON k.k = r.type CROSS JOIN resource x ON x.pk = r.pk WHERE r.t < ?",
)
_SEQUENCE = 7  # its place in such a row


def survey(
    reach: Reach, type: str | None, id: str | None, limit: int, before: int | None
) -> list[Version | Unread]:
    """Versions, newest first, and what cannot be opened in its place. Unavailable."""
    where, named = "", list[int | None]()
    if type is not None:
        where, named = " AND r.type = ?", [reach.kind(type)]
    if type is not None and id is not None:
        where, named = " AND r.pk = ?", [reach.pk(type, id)]
    top = _END if before is None else before
    rows: list[Any] = []
    for sql in _ROWS:
        rows += reach.conn.execute(f"{sql}{where} ORDER BY r.t DESC LIMIT ?", (top, *named, limit))
    rows.sort(key=lambda row: -row[_SEQUENCE])
    return [_opened(reach, row) for row in rows[:limit]]


def _opened(reach: Reach, row: Any) -> Version | Unread:
    type, version = split_row(row)
    try:
        return reach.version(type, version)
    except Unavailable:
        raise
    except (StoreError, TypeError, ValueError):  # also an owner that has no row, no body at all
        return Unread(type, unpack_id(version[0]), row[_SEQUENCE])


_OLD = (
    " FROM old r CROSS JOIN kind k ON k.k = r.type CROSS JOIN resource x ON x.pk = r.pk"
    " WHERE r.t = ?"
)
_NOW = " FROM resource r CROSS JOIN kind k ON k.k = r.type WHERE r.t = ? AND r.ver > 0"


def _numbering(columns: str) -> tuple[str, str]:
    old = columns.replace("r.id", "x.id")
    return f"SELECT k.name, {columns}{_NOW}", f"SELECT k.name, {old}{_OLD}"


_NUMBERED = {True: _numbering(COLUMNS), False: _numbering(BARE)}


def numbered(reach: Reach, sequences: Sequence[int], bodies: bool) -> list[Version]:
    """The versions with these sequences, as far as they can be opened. Unavailable."""
    found = []
    for sequence in sequences:
        row = None
        for sql in _NUMBERED[bodies]:
            row = row or reach.conn.execute(sql, (sequence,)).fetchone()
        if row is None:
            continue
        version = _opened(reach, row) if bodies else reach.bare(*split_row(row))
        if isinstance(version, Version):
            found.append(version)
    return found


_OWNERS = (
    "SELECT DISTINCT k.name, o.id FROM (SELECT owner FROM resource WHERE pk = ?1"
    " UNION SELECT owner FROM old WHERE pk = ?1) AS x"
    " JOIN resource o ON o.pk = x.owner JOIN kind k ON k.k = o.type"
)


def whose(reach: Reach, type: str, id: str) -> frozenset[str]:
    """The owners of all versions of a resource."""
    found = reach.conn.execute(_OWNERS, (reach.pk(type, id),))
    return frozenset(f"{name}/{unpack_id(packed)}" for name, packed in found)


def aparts(reach: Reach, after: int, limit: int) -> list[tuple[int, bytes | None]]:
    """What events beyond a number have apart. Unavailable."""
    found: list[Any] = reach.conn.execute(
        "SELECT n, apart FROM event WHERE n > ? AND apart IS NOT NULL ORDER BY n LIMIT ?",
        (after, limit),
    ).fetchall()
    return [(n, _apart(reach, n, blob)) for n, blob in found]


def _apart(reach: Reach, n: int, blob: bytes) -> bytes | None:
    keys = reach.shared.sealing.keys
    try:
        return unseal(keys, blob, apart_place(n))[SALT:]
    except Unavailable:
        raise
    except Erased:
        return b""
    except (StoreError, TypeError, ValueError):
        return None
