"""The log in SQLite: tiles of hashes and notices, beside the records that the leaves stand for.

https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

import apsw

from fhir_server.log.merkle import HASH, WIDTH, salted_leaf
from fhir_server.storage.leaves import Leaves
from fhir_server.storage.sqlite.state import Reach
from fhir_server.storage.store import Notice

# Rows that nobody but somebody with the file can have written are passed over: numbers that are
# none, and tiles beyond what there can be.
_LAST = (
    "SELECT n, data FROM tile WHERE level = ? AND n BETWEEN 0 AND ? AND typeof(data) = 'blob'"
    " ORDER BY n DESC LIMIT 1"
)
_LENGTH = _LAST.replace("data FROM", "length(data) FROM")
_COUNT = "SELECT count(*) FROM tile WHERE level = 0"


def load(conn: apsw.Connection) -> Leaves:
    """The right edge of the log as it is stored."""
    edge: dict[int, bytes] = {}
    size, level, most = 0, 0, plausible(conn)
    while (row := conn.execute(_LAST, (level, most)).fetchone()) is not None:
        number, data = row
        edge[level] = data if len(data) < WIDTH * HASH else b""
        if level == 0:
            size = number * WIDTH + len(data) // HASH
        level += 1
        most = ((size >> 8 * level) - 1) // WIDTH
    return Leaves(size, edge)


def plausible(conn: apsw.Connection) -> int:
    """The greatest number that a tile of leaves can have: of as many as there are, at most half may
    be missing."""
    return 2 * int(conn.execute(_COUNT).get)


def stored(conn: apsw.Connection) -> int:
    """How many leaves the tiles have."""
    number, length = conn.execute(_LENGTH, (0, plausible(conn))).fetchone() or (0, 0)
    return int(number * WIDTH + length // HASH)


def write(conn: apsw.Connection, leaves: Leaves) -> dict[int, bytes]:
    """Write the tiles that the waiting leaves change; the edge that they leave."""
    changed, edge = leaves.tiles()
    rows = [(level, number, data) for (level, number), data in changed.items()]
    conn.executemany("INSERT OR REPLACE INTO tile (level, n, data) VALUES (?, ?, ?)", rows)
    return edge


def size(reach: Reach, writes: bool) -> int:
    leaves = reach.shared.leaves
    if writes:
        return leaves.size
    row = reach.conn.execute(_LENGTH, (0, leaves.size // WIDTH))
    number, length = row.fetchone() or (0, 0)
    return int(number * WIDTH + length // HASH)


def tile(reach: Reach, level: int, number: int, writes: bool) -> bytes:
    if writes and (waiting := reach.shared.leaves.waiting(level, number)) is not None:
        return waiting
    sql = "SELECT data FROM tile WHERE level = ? AND n = ?"
    return reach.conn.execute(sql, (level, number)).get or b""


def note(reach: Reach, content: bytes) -> int:
    leaf = reach.shared.leaves.append(salted_leaf(b"", content))
    reach.conn.execute("INSERT INTO notice (leaf, content) VALUES (?, ?)", (leaf, content))
    return leaf


def notices(reach: Reach, after: int) -> list[Notice]:
    sql = "SELECT leaf, content FROM notice WHERE leaf > ? ORDER BY leaf"
    return [Notice(*row) for row in reach.conn.execute(sql, (after,))]
