"""The leaves of a store's log, appended in the order of its commits, in tiles of 256 hashes.

https://www.rfc-editor.org/rfc/rfc9162#section-2.1, https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

from collections.abc import Iterator

from fhir_server.log.merkle import HASH, WIDTH, complete_root

SALT = 16  # bytes
_FULL = WIDTH * HASH


class Leaves:
    """The right edge of the log: how many leaves there are, those that wait for a commit, and the
    tile of each level that is not full. `edge`: those tiles, by level."""

    __slots__ = ("_edge", "_waiting", "committed")

    def __init__(self, committed: int = 0, edge: dict[int, bytes] | None = None) -> None:
        self.committed = committed
        self._edge = dict(edge or {})
        self._waiting: list[bytes] = []

    @property
    def size(self) -> int:
        return self.committed + len(self._waiting)

    def append(self, hash: bytes) -> int:
        """Its index."""
        self._waiting.append(hash)
        return self.committed + len(self._waiting) - 1

    def undo(self, size: int) -> None:
        """Forget what came after the log had that size."""
        del self._waiting[size - self.committed :]

    def tiles(self) -> tuple[dict[tuple[int, int], bytes], dict[int, bytes]]:
        """The tiles that change by what waits, by level and number; and the edge after it. Nothing
        is changed until `settle`, for a commit may fail."""
        changed: dict[tuple[int, int], bytes] = {}
        edge = dict(self._edge)
        for level, number, tile in _grown(edge, 0, self.committed, self._waiting):
            changed[level, number] = tile
        return changed, edge

    def waiting(self, level: int, number: int) -> bytes | None:
        """A tile as it will be, when what waits changes it."""
        return self.tiles()[0].get((level, number)) if self._waiting else None

    def settle(self, edge: dict[int, bytes]) -> None:
        """What waited is committed."""
        self.committed += len(self._waiting)
        self._edge = edge
        self._waiting = []


def _grown(
    edge: dict[int, bytes], level: int, size: int, hashes: list[bytes]
) -> Iterator[tuple[int, int, bytes]]:
    """The tiles of a level, and of those above, that `hashes` make grow beyond `size`."""
    number, place = divmod(size, WIDTH)
    above: list[bytes] = []
    tile = edge.get(level, b"")
    while hashes:
        room = WIDTH - place
        tile += b"".join(hashes[:room])
        hashes = hashes[room:]
        yield level, number, tile
        if len(tile) == _FULL:
            above.append(complete_root(tile))
            number, place, tile = number + 1, 0, b""
    edge[level] = tile
    if above:
        yield from _grown(edge, level + 1, size // WIDTH, above)
