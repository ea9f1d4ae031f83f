"""Audit events in SQLite: an append-only table in the order of the log.

https://hl7.org/fhir/R4/auditevent.html
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from os import urandom

from fhir_server.log.merkle import salted_leaf
from fhir_server.storage.leaves import SALT
from fhir_server.storage.sealed import RANDOM, apart_place, event_place, unseal
from fhir_server.storage.sealed import sealed as seal
from fhir_server.storage.sqlite.entries import event_number, mentioned
from fhir_server.storage.sqlite.entries import settle as settle_rows
from fhir_server.storage.sqlite.state import Reach, Shared
from fhir_server.storage.store import EVENTS, Erased, Event, Logged, Version

COLUMNS = "r.at, r.body, r.leaf, r.apart"
_INSERT = "INSERT INTO event (n, at, body, leaf, apart) VALUES (?, ?, ?, ?, ?)"
_DAY = 86_400_000_000  # microseconds


def month(at: int) -> str:
    """The owner of the events that are recorded at a time: they are sealed, and end, by month."""
    return _month(at // _DAY)


@lru_cache(8)
def _month(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("audit/%Y-%m")


def get(reach: Reach, id: str, number: int | None) -> Version | None:
    row = _row(reach, id, number)
    return None if row is None else version(reach, id, *row)


def _sealed(reach: Reach, n: int, apart: bytes, whose: str | None) -> bytes | None:
    """What an event has apart, sealed for whose it is; nothing for an owner without a key, who was
    erased meanwhile and must not get one again."""
    if whose is not None and not reach.has_key(whose):
        return None
    return reach.seal(whose or "", apart_place(n), apart)[0]


def _row(reach: Reach, id: str, number: int | None) -> tuple[int, bytes, int, bytes | None] | None:
    sql = f"SELECT {COLUMNS} FROM event r WHERE n = ?"
    row: tuple[int, bytes, int, bytes | None] | None
    row = reach.conn.execute(sql, (event_number(id),)).fetchone()
    return row if number in (None, 1) else None


def version(
    reach: Reach, id: str, at: int, blob: bytes, leaf: int, sealed: bytes | None
) -> Version:
    """The event in a row. Damaged, Erased."""
    shared, n = reach.shared, int(id)
    opened = unseal(shared.sealing.keys, blob, event_place(n))
    body = shared.bodies.unpack(opened[SALT:])
    apart = None if sealed is None else _apart(shared, n, sealed)
    return Version(EVENTS, id, 1, at, body, None, False, n, leaf, apart)


def _apart(shared: Shared, n: int, sealed: bytes) -> bytes | None:
    """What an event has apart, unless it was erased meanwhile."""
    try:
        return unseal(shared.sealing.keys, sealed, apart_place(n))[SALT:]
    except Erased:
        return None


def logged(reach: Reach, id: str, number: int | None) -> Logged | None:
    row = _row(reach, id, number)
    if row is None:
        return None
    shared = reach.shared
    opened = unseal(shared.sealing.keys, row[1], event_place(int(id)))
    return Logged(row[2], opened[:SALT], shared.bodies.unpack(opened[SALT:]))


def defer(shared: Shared, event: Event) -> str:
    """Let an event be written with others; its id."""
    require_shapes(event)
    shared.deferred.append(event)
    return str(shared.event + len(shared.deferred))


def require_shapes(event: Event) -> None:
    """ValueError for an event with entries of another shape than events have."""
    for entry in event.entries:
        if entry.shape not in ("token", "link"):
            raise ValueError(f"an event has no {entry.shape} entries, as {entry.param} is")


def settle(reach: Reach, now: int, further: Sequence[Event] = ()) -> None:
    """Write the rows that wait, the events that were deferred, and then these. Unavailable."""
    settle_rows(reach.conn, reach.shared.waiting)
    events = [*reach.shared.deferred, *further]
    if events:
        record(reach, now, events)
        reach.shared.deferred.clear()


def record(reach: Reach, now: int, events: Sequence[Event]) -> None:
    """Append events. Their links carry the time of the event, so that a search by patient walks
    them in order. Unavailable."""
    conn, shared = reach.conn, reach.shared
    rows: list[tuple[int, int, bytes, int, bytes | None]] = []
    tokens: set[tuple[int, int, int]] = set()
    links: set[tuple[int, int, int, int]] = set()
    names, pack = shared.names, shared.bodies.pack_event
    shortcuts = names.shortcuts
    kind = names.make_kind(conn, EVENTS)
    append, key = shared.leaves.append, reach.key(month(now))
    cipher, random = shared.sealing.keys.cipher(key), urandom(RANDOM * len(events))
    for at, head, tail, entries, apart, whose in events:
        shared.event += 1
        n = shared.event
        content = b"%s%d%s" % (head, n, tail)
        own, random = random[:RANDOM], random[RANDOM:]
        blob, salt = seal(cipher, key, event_place(n), pack(content), own)
        sealed = None if apart is None else _sealed(reach, n, apart, whose)
        rows.append((n, at, blob, append(salted_leaf(salt, content)), sealed))
        for shape, param, system, code, _, _, _ in entries:
            p = shortcuts.get((kind, param, shape)) or names.make_param(conn, kind, param, shape)
            if shape == "link":
                dst = shortcuts.get((system, code, None))
                dst = dst or mentioned(conn, names, system or "", code or "")
                links.add((dst, p, at, -n))
            else:
                v = shortcuts.get((system, code)) or names.make_value(conn, system, code)
                tokens.add((p, v, -n))
    conn.executemany(_INSERT, rows)
    if tokens:
        conn.executemany("INSERT INTO token (p, v, pk) VALUES (?, ?, ?)", sorted(tokens))
    if links:
        conn.executemany("INSERT INTO link (dst, p, at, src) VALUES (?, ?, ?, ?)", sorted(links))
