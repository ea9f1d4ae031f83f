"""Numbered rows that nobody has any more: an update leaves behind what only the version before it
was found by, such as a name. Looked for on a reader's connection, removed by the writer.

https://gdpr-info.eu/art-17-gdpr/
"""

from __future__ import annotations

from typing import NamedTuple

import apsw

from fhir_server.storage.sqlite.codec import unpack_keys
from fhir_server.storage.sqlite.erasure import release
from fhir_server.storage.sqlite.state import Reach
from fhir_server.storage.store import EVENTS

CHUNK = 500  # rows that go in one transaction


class Strays(NamedTuple):
    """What nobody had in the state after a sequence: phrases, values, systems, reserved rows."""

    sequence: int
    phrases: tuple[int, ...]
    values: tuple[int, ...]
    systems: tuple[int, ...]
    reserved: tuple[int, ...]

    def parts(self) -> list[Strays]:
        """The same in parts that a transaction can take. Systems come last."""
        most = max(len(self.phrases), len(self.values), len(self.reserved))
        cut = [
            Strays(
                self.sequence,
                self.phrases[at : at + CHUNK],
                self.values[at : at + CHUNK],
                (),
                self.reserved[at : at + CHUNK],
            )
            for at in range(0, most, CHUNK)
        ]
        return [*cut, Strays(self.sequence, (), (), self.systems, ())]


def look(conn: apsw.Connection) -> Strays:
    """Everything in one state of the store; it reads every entry."""
    conn.execute("BEGIN")
    try:
        sequence = conn.execute("SELECT max(t) FROM resource WHERE ver > 0").get or 0
        used = {v for (v,) in conn.execute("SELECT DISTINCT v FROM token")}
        used |= {v for (v,) in conn.execute("SELECT DISTINCT unit FROM range")}
        values = [row for row in conn.execute("SELECT v, s FROM value") if row[0] not in used]
        gone = {v for v, _ in values}
        kept = {s for v, s in conn.execute("SELECT v, s FROM value") if v not in gone}
        return Strays(
            sequence,
            _all(
                conn, "SELECT w FROM phrase p WHERE NOT EXISTS (SELECT 1 FROM text WHERE w = p.w)"
            ),
            tuple(sorted(gone)),
            tuple(s for s in _all(conn, "SELECT s FROM system") if s not in kept),
            _all(
                conn,
                "SELECT pk FROM resource r WHERE deleted = 1 AND ver = 0 AND NOT EXISTS"
                " (SELECT 1 FROM link WHERE dst = r.pk AND src > 0)",
            ),
        )
    finally:
        conn.execute("COMMIT")


def _all(conn: apsw.Connection, sql: str) -> tuple[int, ...]:
    return tuple([number for (number,) in conn.execute(sql)])


_OF_EVENTS = (
    "SELECT EXISTS (SELECT 1 FROM param x JOIN kind k ON k.k = x.type CROSS JOIN token t"
    " ON t.p = x.p AND t.v = ?1 WHERE k.name = ?2 AND x.shape = 'token')"
)


def remove(reach: Reach, part: Strays) -> None:
    """Remove those that nobody has taken since."""
    conn, names = reach.conn, reach.shared.names
    taken = set(names.units or ())
    for (keys,) in conn.execute("SELECT keys FROM resource WHERE t > ?", (part.sequence,)):
        taken |= {v for _, v in unpack_keys(keys)}
    taken |= {v for v in part.values if conn.execute(_OF_EVENTS, (v, EVENTS)).get}
    for w in part.phrases:
        if conn.execute("SELECT 1 FROM text WHERE w = ? LIMIT 1", (w,)).get is None:
            conn.execute("DELETE FROM phrase WHERE w = ?", (w,))
    conn.executemany("DELETE FROM value WHERE v = ?", [(v,) for v in part.values if v not in taken])
    for s in part.systems:
        if conn.execute("SELECT 1 FROM value WHERE s = ? LIMIT 1", (s,)).get is None:
            conn.execute("DELETE FROM system WHERE s = ?", (s,))
    for pk in part.reserved:
        release(reach, pk)
