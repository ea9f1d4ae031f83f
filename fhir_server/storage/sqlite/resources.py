"""Versions of resources in SQLite: read, put, walk and history.

https://hl7.org/fhir/R4/http.html#versions
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice

from fhir_server.log.merkle import salted_leaf
from fhir_server.storage.sealed import KEY_ID, version_place
from fhir_server.storage.sqlite.codec import pack_id
from fhir_server.storage.sqlite.entries import (
    NONE,
    change_rows,
    lost_tokens,
    packed,
    read_rows,
    rows_of,
    settle,
)
from fhir_server.storage.sqlite.names import Known
from fhir_server.storage.sqlite.state import COLUMNS, Reach, Row, split_row
from fhir_server.storage.store import EVENTS, Conflict, Entry, Logged, Version, deletion

_GET = f"SELECT {COLUMNS} FROM resource r WHERE r.type = ? AND r.id = ? AND r.ver > 0"
_GET_OLD = (
    "SELECT x.id, r.ver, r.updated, r.body, r.owner, r.deleted, r.t, r.leaf"
    " FROM resource x CROSS JOIN old r ON r.pk = x.pk"
    " WHERE x.type = ? AND x.id = ? AND r.ver = ?"
)
_STATE = "SELECT pk, ver, keys, mix FROM resource WHERE type = ? AND id = ?"
_INSERT = (
    "INSERT INTO resource"
    " (pk, type, id, ver, t, updated, deleted, owner, mix, keys, body, leaf)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ARCHIVE = (
    "INSERT INTO old (t, pk, type, ver, updated, deleted, owner, body, leaf)"
    " SELECT t, pk, type, ver, updated, deleted, owner, body, leaf FROM resource WHERE pk = ?"
)
_UPDATE = (
    "UPDATE resource SET ver = ?, t = ?, updated = ?, deleted = ?, owner = ?, mix = ?, keys = ?,"
    " body = ?, leaf = ? WHERE pk = ?"
)


def get(reach: Reach, type: str, id: str, number: int | None = None) -> Version | None:
    row = _row(reach, type, id, number)
    return None if row is None else reach.version(type, row, id)


def get_current(reach: Reach, type: str, id: str, seen: int) -> Version | None:
    """The current version, which is kept in memory too; `seen`: when the transaction began."""
    row = _row(reach, type, id, None)
    if row is None:
        return None
    version = reach.version(type, row, id)
    reach.shared.current.add(version, row[3][:KEY_ID], seen)
    return version


def logged(reach: Reach, type: str, id: str, number: int | None) -> Logged | None:
    row = _row(reach, type, id, number)
    return None if row is None else reach.logged(type, row)


def _row(reach: Reach, type: str, id: str, number: int | None) -> Row | None:
    kind = reach.kind(type)
    if kind is None:
        return None
    row: Row | None = reach.conn.execute(_GET, (kind, pack_id(id))).fetchone()
    if row is not None and number is not None and number != row[1]:
        row = reach.conn.execute(_GET_OLD, (kind, pack_id(id), number)).fetchone()
    return row


def put(
    reach: Reach, now: int, version: Version, entries: Sequence[Entry], expect: int | None
) -> Version:
    conn, shared = reach.conn, reach.shared
    names = shared.names
    if version.type == EVENTS:
        raise ValueError("events are recorded, not put")
    kind, id = names.kinds.number(conn, (version.type,)), pack_id(version.id)
    state = conn.execute(_STATE, (kind, id)).fetchone()
    if state is None and names.secret is not None:
        names.unveil(conn, version.type, version.id)
        state = conn.execute(_STATE, (kind, id)).fetchone()
    pk, current, keys, mix = state or (0, 0, None, None)
    if pk in shared.waiting:
        settle(conn, shared.waiting)
    if current != (version.number - 1 if expect is None else expect):
        raise Conflict(version.type, version.id, current)
    if version.number != current + 1 or version.updated != now:
        raise ValueError(f"version {version.number} cannot follow {current}, nor at another time")
    last = names.resources.last
    rows = NONE if version.deleted else rows_of(conn, names, version.type, entries)
    owner = None
    if version.owner is not None:
        owner = names.make_resource(conn, *version.owner.split("/", 1))
    # It may have been reserved just now, by a link or an owner that is itself.
    if not pk and names.resources.last != last:
        pk = names.resources.find(conn, (kind, id)) or 0
        state = (pk,) if pk else None
    shared.sequence += 1
    body, leaf = _sealed(reach, version)
    stored = _numbered(version, shared.sequence, leaf)
    shared.current.written((version.type, version.id), (stored, body[:KEY_ID]))
    values = (version.number, shared.sequence, now, int(version.deleted), owner, rows.mix)
    if state is None:
        pk = names.new_resource(version.type, version.id, kind, id)
        conn.execute(_INSERT, (pk, kind, id, *values, packed(rows), body, leaf))
    else:
        if current:
            conn.execute(_ARCHIVE, (pk,))
        conn.execute(_UPDATE, (*values, packed(rows), body, leaf, pk))
    change_rows(conn, shared.waiting, pk, read_rows(conn, pk, keys, mix), rows)
    return stored


def _sealed(reach: Reach, version: Version) -> tuple[bytes, int]:
    """The blob of a version, and the leaf that was appended for it."""
    type, id, number, body = version.type, version.id, version.number, version.body
    place = version_place(version.owner, type, id, number)
    packed = b"" if version.deleted else reach.shared.bodies.pack(body)
    blob, salt = reach.seal(version.owner or "", place, packed)
    content = deletion(type, id, number, version.updated) if version.deleted else body
    return blob, reach.shared.leaves.append(salted_leaf(salt, content))


def _numbered(version: Version, sequence: int, leaf: int) -> Version:
    """What `dataclasses.replace` would give, in a third of its time."""
    type, id, owner = version.type, version.id, version.owner
    number, updated = version.number, version.updated
    return Version(type, id, number, updated, version.body, owner, version.deleted, sequence, leaf)


def reindex(reach: Reach, type: str, id: str, entries: Sequence[Entry]) -> None:
    conn = reach.conn
    kind = reach.kind(type)
    state = conn.execute(_STATE + " AND deleted = 0", (kind, pack_id(id))).fetchone()
    if state is None:
        return
    shared, (pk, _, keys, mix) = reach.shared, state
    shared.reindexed = True
    rows = rows_of(conn, shared.names, type, entries)
    if pk in shared.waiting:
        settle(conn, shared.waiting)
    change_rows(conn, shared.waiting, pk, read_rows(conn, pk, keys, mix), rows)
    conn.execute("UPDATE resource SET mix = ?, keys = ? WHERE pk = ?", (rows.mix, packed(rows), pk))


def agrees(reach: Reach, type: str, id: str, entries: Sequence[Entry]) -> bool:
    """Whether the rows of a live resource are exactly those for these entries. (A token's row that
    its resource does not know of is for `problems` in doctor.py.)"""
    conn = reach.conn
    state = conn.execute(_STATE + " AND deleted = 0", (reach.kind(type), pack_id(id))).fetchone()
    if state is None:
        return False
    pk, _, keys, mix = state
    try:
        due = rows_of(conn, Known(reach.shared.names, reach.current), type, entries)
    except LookupError:
        return False
    return due == read_rows(conn, pk, keys, mix) and not lost_tokens(conn, pk, due.tokens)


_WALK = (
    f"SELECT k.name, {COLUMNS} FROM resource r CROSS JOIN kind k ON k.k = r.type"
    " WHERE r.t > ? AND r.ver > 0 AND r.deleted = 0 ORDER BY r.t LIMIT 100"
)
_WALK_TYPE = (
    f"SELECT {COLUMNS} FROM resource r"
    " WHERE r.type = ? AND r.t > ? AND r.ver > 0 AND r.deleted = 0 ORDER BY r.t LIMIT 20"
)


def walk(reach: Reach, after: int, type: str | None = None) -> list[Version]:
    """The next live versions: a hundred, of one type twenty."""
    if type is not None:
        rows = reach.conn.execute(_WALK_TYPE, (reach.kind(type), after))
        return [reach.version(type, row) for row in rows]
    found = reach.conn.execute(_WALK, (after,))
    return [reach.version(*split_row(row)) for row in found]


# --- history -------------------------------------------------------------------------------------

_HISTORY = (
    f"SELECT k.name, {COLUMNS} FROM resource r CROSS JOIN kind k ON k.k = r.type"
    " WHERE r.ver > 0 AND r.t >= ? AND r.t < ?",
    "SELECT k.name, x.id, r.ver, r.updated, r.body, r.owner, r.deleted, r.t, r.leaf FROM old r"
    " CROSS JOIN kind k ON k.k = r.type CROSS JOIN resource x ON x.pk = r.pk"
    " WHERE r.t >= ? AND r.t < ?",
)
_END = 9_223_372_036_854_775_807


def history(
    reach: Reach,
    type: str | None,
    id: str | None,
    limit: int,
    before: int | None,
    since: int | None,
    until: int | None,
) -> list[Version]:
    where, named = "", list[int | None]()
    if type is not None:
        where, named = " AND r.type = ?", [reach.kind(type)]
    if type is not None and id is not None:
        where, named = " AND r.pk = ?", [reach.pk(type, id)]
    return list(
        islice(
            merge(
                *(
                    _versions(reach, number, where, named, limit, (before, since, until))
                    for number in range(len(_HISTORY))
                ),
                key=lambda version: -version.sequence,
            ),
            limit,
        )
    )


def _versions(
    reach: Reach,
    number: int,
    where: str,
    named: list[int | None],
    limit: int,
    bounds: tuple[int | None, int | None, int | None],
) -> Iterator[Version]:
    """The newest versions of one of the two tables."""
    before, since, until = bounds
    low = 0 if since is None else first_at(reach, number, since)
    high = _END if until is None else first_at(reach, number, until + 1)
    found = reach.conn.execute(
        f"{_HISTORY[number]}{where} ORDER BY r.t DESC LIMIT ?",
        (low, min(high, _END if before is None else before), *named, limit),
    )
    for row in found.fetchall():
        yield reach.version(*split_row(row))


_FIRST = (
    "SELECT t, updated FROM resource WHERE t >= ? AND ver > 0 ORDER BY t LIMIT 1",
    "SELECT t, updated FROM old WHERE t >= ? ORDER BY t LIMIT 1",
)


def first_at(reach: Reach, number: int, updated: int) -> int:
    """The least sequence in one of the two tables (0: current versions, 1: old ones) whose time is
    at or after `updated`, found by halving: time never decreases along the sequence."""
    low, high = 0, reach.shared.sequence + 1
    while low < high:
        middle = (low + high) // 2
        row = reach.conn.execute(_FIRST[number], (middle,)).fetchone()
        if row is None or row[1] >= updated:
            high = middle
        else:
            low = row[0] + 1
    return low
