"""Audit events in SQLite: an append-only table in the order of the log.

https://hl7.org/fhir/R4/auditevent.html
"""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from fhir_server.storage.sqlite.entries import destination, event_number
from fhir_server.storage.sqlite.state import Reach, Shared
from fhir_server.storage.store import EVENTS, Event, Version


def get(reach: Reach, id: str, number: int | None) -> Version | None:
    sql = "SELECT at, body FROM event WHERE n = ?"
    row = reach.conn.execute(sql, (event_number(id),)).fetchone()
    return None if row is None or number not in (None, 1) else version(reach, id, *row)


def version(reach: Reach, id: str, at: int, body: bytes) -> Version:
    return Version(EVENTS, id, 1, at, reach.shared.bodies.unpack(body), sequence=int(id))


def record(conn: apsw.Connection, shared: Shared, events: Sequence[Event]) -> list[str]:
    """Append events; their ids. Their links carry the time of the event, so that a search by
    patient walks them in order."""
    rows: list[tuple[int, int, bytes]] = []
    tokens: set[tuple[int, int, int]] = set()
    links: set[tuple[int, int, int, int]] = set()
    names, pack = shared.names, shared.bodies.pack_event
    kind = names.make_kind(conn, EVENTS)
    for at, head, tail, entries in events:
        shared.event += 1
        n = shared.event
        rows.append((n, at, pack(b"%s%d%s" % (head, n, tail))))
        for shape, param, system, code, _, _, _ in entries:
            p = names.make_param(conn, kind, param, shape)
            if shape == "link":
                links.add((destination(conn, names, system or "", code or ""), p, at, -n))
            elif shape == "token":
                tokens.add((p, names.make_value(conn, system, code), -n))
            else:
                raise ValueError(f"an event has no {shape} entries, as {param} is")
    conn.executemany("INSERT INTO event (n, at, body) VALUES (?, ?, ?)", rows)
    if tokens:
        conn.executemany("INSERT INTO token (p, v, pk) VALUES (?, ?, ?)", sorted(tokens))
    if links:
        conn.executemany("INSERT INTO link (dst, p, at, src) VALUES (?, ?, ?, ?)", sorted(links))
    return [str(row[0]) for row in rows]
