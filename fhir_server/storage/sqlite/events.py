"""Audit events in SQLite: an append-only table in the order of the log.

https://hl7.org/fhir/R4/auditevent.html
"""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from fhir_server.storage.sqlite.entries import destination, event_number
from fhir_server.storage.sqlite.names import Names
from fhir_server.storage.sqlite.state import Reach, Shared
from fhir_server.storage.store import EVENTS, Event, Version


def get(reach: Reach, id: str, number: int | None) -> Version | None:
    sql = "SELECT at, body FROM event WHERE n = ?"
    row = reach.conn.execute(sql, (event_number(id),)).fetchone()
    return None if row is None or number not in (None, 1) else version(reach, id, *row)


def version(reach: Reach, id: str, at: int, body: bytes) -> Version:
    return Version(EVENTS, id, 1, at, reach.shared.bodies.unpack(body), sequence=int(id))


def record(conn: apsw.Connection, shared: Shared, events: Sequence[Event]) -> list[str]:
    """Append events; their ids."""
    rows: list[tuple[int, int, bytes]] = []
    tokens: set[tuple[int, int, int]] = set()
    links: set[tuple[int, int, int, int]] = set()
    kind = shared.names.kinds.number(conn, (EVENTS,))
    for event in events:
        shared.event += 1
        n = shared.event
        body = b"%s%d%s" % (event.head, n, event.tail)
        rows.append((n, event.at, shared.bodies.pack_event(body)))
        _entries(conn, shared.names, kind, event, -n, tokens, links)
    conn.executemany("INSERT INTO event (n, at, body) VALUES (?, ?, ?)", rows)
    if tokens:
        conn.executemany("INSERT INTO token (p, v, pk) VALUES (?, ?, ?)", sorted(tokens))
    if links:
        conn.executemany("INSERT INTO link (dst, p, at, src) VALUES (?, ?, ?, ?)", sorted(links))
    return [str(row[0]) for row in rows]


def _entries(
    conn: apsw.Connection,
    names: Names,
    kind: int,
    event: Event,
    pk: int,
    tokens: set[tuple[int, int, int]],
    links: set[tuple[int, int, int, int]],
) -> None:
    """Its links carry the time of the event, so that a search by patient walks them in order."""
    for entry in event.entries:
        p = names.make_param(conn, kind, entry.param, entry.shape)
        if entry.shape == "link":
            dst = destination(conn, names, entry.system or "", entry.code or "")
            links.add((dst, p, event.at, pk))
        elif entry.shape == "token":
            tokens.add((p, names.make_value(conn, entry.system, entry.code), pk))
        else:
            raise ValueError(f"an event has no {entry.shape} entries, as {entry.param} is")
