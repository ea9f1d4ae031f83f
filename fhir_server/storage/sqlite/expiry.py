"""Audit events whose month is over: they go in chunks, with their entries, and the month's key.

https://gdpr-info.eu/art-5-gdpr/ (storage limitation)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apsw

from fhir_server.storage.sealed import KEY_ID
from fhir_server.storage.sqlite import log
from fhir_server.storage.sqlite.erasure import release
from fhir_server.storage.sqlite.state import Reach
from fhir_server.storage.store import EVENTS, Expired, Gone

AT_ONCE = 50_000  # events that are looked for in one walk through the entries
CHUNK = 1_000  # events that go in one transaction


class Expiring(NamedTuple):
    """Some events of a month: number and leaf of each, and the rows of their entries."""

    events: tuple[tuple[int, int], ...] = ()
    links: tuple[tuple[int, int, int, int], ...] = ()  # dst, p, at, src
    tokens: tuple[tuple[int, int, int], ...] = ()  # p, v, pk


def owner_of(month: str) -> str:
    """Whose data the events of a month are."""
    return f"audit/{month}"


def expiring(conn: apsw.Connection, month: str) -> Expiring:
    """The oldest events that are sealed under the keys of a month; on a reader's connection, since
    it looks at every event and entry."""
    keys = _keys(conn, month)
    if not keys:
        return Expiring()
    marks = ",".join("?" * len(keys))
    events: list[Any] = conn.execute(
        f"SELECT n, leaf FROM event WHERE substr(body, 1, {KEY_ID}) IN ({marks})"
        " ORDER BY n LIMIT ?",
        (*keys, AT_ONCE),
    ).fetchall()
    gone = {-n for n, _ in events}
    links = conn.execute("SELECT dst, p, at, src FROM link WHERE src < 0")
    params = conn.execute(
        "SELECT p FROM param JOIN kind ON k = type WHERE name = ? AND shape = 'token'", (EVENTS,)
    ).fetchall()
    tokens = (
        row
        for (p,) in params
        for row in conn.execute("SELECT p, v, pk FROM token WHERE p = ? AND pk < 0", (p,))
    )
    return Expiring(
        tuple(events),
        tuple([row for row in links if row[3] in gone]),
        tuple([row for row in tokens if row[2] in gone]),
    )


def chunks(found: Expiring) -> Iterator[Expiring]:
    """The same in parts that a transaction can take."""
    for start in range(0, len(found.events), CHUNK):
        events = found.events[start : start + CHUNK]
        those = {-n for n, _ in events}
        yield Expiring(
            events,
            tuple([row for row in found.links if row[3] in those]),
            tuple([row for row in found.tokens if row[2] in those]),
        )


def remove(reach: Reach, part: Expiring, notice: Expired) -> None:
    """Remove some events, and say so."""
    conn = reach.conn
    conn.executemany("DELETE FROM link WHERE dst = ? AND p = ? AND at = ? AND src = ?", part.links)
    conn.executemany("DELETE FROM token WHERE p = ? AND v = ? AND pk = ?", part.tokens)
    conn.executemany("DELETE FROM event WHERE n = ?", [(n,) for n, _ in part.events])
    for pk in sorted({dst for dst, _, _, _ in part.links if dst > 0}):
        release(reach, pk)
    log.note(reach, notice([leaf for _, leaf in part.events], ()))


def finish(reach: Reach, month: str, leaves: Sequence[int], notice: Expired) -> Gone:
    """Give up the keys of a month of which no event is left."""
    keys = tuple(_keys(reach.conn, month))
    if keys:
        reach.conn.execute("DELETE FROM sealing WHERE owner = ?", (owner_of(month),))
        reach.shared.sealing.forget()
        log.note(reach, notice((), keys))
    return Gone((), tuple(leaves), keys)


def _keys(conn: apsw.Connection, month: str) -> list[bytes]:
    found = conn.execute("SELECT id FROM sealing WHERE owner = ?", (owner_of(month),))
    return [id for (id,) in found]
