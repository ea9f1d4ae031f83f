"""The tiles of a store as they are, the trees that they make, and what mends them.

https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fhir_server.audit.proven import Signed
from fhir_server.log.merkle import HASH, WIDTH, Frontier, complete_root
from fhir_server.storage.sqlite.proving import Reading

_FULL = WIDTH * HASH
_LEVELS = 7  # above that of the leaves: then there are more leaves than numbers for them
_STRAYS = 100  # that are told


class Tiles:
    """The leaves of a store's log: as many as its tiles have, or as were signed once (`most`).
    `stored`: how many the tiles have. Hashes that are not there are zeros. `strays`: tiles that
    have no place in the log, in words."""

    def __init__(self, reading: Reading, most: int) -> None:
        self._reading = reading
        self._uppers: dict[tuple[Any, Any], bytes] = {}
        self._misshapen: set[int] = set()  # numbers of tiles on level 0
        self._mended: dict[int, bytes] = {}  # leaf hashes that count instead of those in tiles
        self._read: tuple[int, bytes] = (-1, b"")
        self.stored = 0
        self.strays: list[str] = []
        self._look()
        self.size = max(self.stored, most)

    def _look(self) -> None:
        most = self._reading.plausible()
        for level, number, data in self._reading.tiles():
            if not _is_place(level, number, most):
                if len(self.strays) < _STRAYS:
                    self.strays.append(f"Tile {number!r} of level {level!r} is none of the log's")
            elif level != 0:
                self._uppers[level, number] = data if isinstance(data, bytes) else b""
            elif not isinstance(data, bytes):
                self._misshapen.add(number)
            else:
                if self.stored != number * WIDTH or len(data) % HASH or len(data) > _FULL:
                    self._misshapen.add(number)
                self.stored = number * WIDTH + min(len(data), _FULL) // HASH

    def leaf(self, index: int) -> bytes:
        """The hash of a leaf."""
        if index in self._mended:
            return self._mended[index]
        number, place = divmod(index, WIDTH)
        if self._read[0] != number:
            self._read = (number, self._hashes(self._reading.tile(0, number), number))
        return self._read[1][place * HASH : (place + 1) * HASH]

    def find(self, hash: bytes) -> int | None:
        """The leaf that has this hash."""
        for number, data in self._leaves({}):
            at = data.find(hash)
            while at != -1 and at % HASH:
                at = data.find(hash, at + 1)
            if at != -1:
                return number * WIDTH + at // HASH
        return None

    def mend(self, hashes: Mapping[int, bytes], signed: Sequence[Signed]) -> None:
        """Let the hashes of records count where they, and not the tiles, are what was signed. Where
        neither is, a tile's root on the level above tells."""
        if not hashes:
            return
        if self._agreeing(hashes, signed) > self._agreeing({}, signed):
            self._mended = dict(hashes)
        elif not self._agreeing({}, signed[-1:]):
            for number in {leaf // WIDTH for leaf in hashes}:
                these = {leaf: hash for leaf, hash in hashes.items() if leaf // WIDTH == number}
                if self._is_mended_by(number, these):
                    self._mended |= these

    def _agreeing(self, hashes: Mapping[int, bytes], signed: Sequence[Signed]) -> int:
        """How many of the signed states are those of the log with these hashes in it."""
        roots = self.roots([each.checkpoint.size for each in signed], hashes)
        return sum(root == each.checkpoint.root for root, each in zip(roots, signed, strict=True))

    def _is_mended_by(self, number: int, hashes: Mapping[int, bytes]) -> bool:
        above, place = divmod(number, WIDTH)
        root = self._uppers.get((1, above), b"")[place * HASH : (place + 1) * HASH]
        data = self._hashes(self._reading.tile(0, number), number)
        return complete_root(data) != root == complete_root(_replaced(data, number, hashes))

    def roots(self, sizes: Sequence[int], hashes: Mapping[int, bytes] | None = None) -> list[bytes]:
        """The roots of the log when it had these many leaves, which ascend."""
        made, wanted, above = list[bytes](), list(sizes), Frontier()
        for number, data in self._leaves(self._mended if hashes is None else hashes):
            while wanted and wanted[0] < (number + 1) * WIDTH:
                made.append(_root(above, data, wanted.pop(0)))
            if len(data) == _FULL:
                above.append(complete_root(data))
        made += [_root(above, b"", size) for size in wanted]
        return made

    def damaged(self) -> Iterator[tuple[int, int, int]]:
        """Tiles that are not what they must be: their level, their number, and the first leaf that
        this speaks of."""
        mended = {leaf // WIDTH for leaf in self._mended}
        for number in sorted(self._misshapen - mended):
            yield 0, number, number * WIDTH
        roots = b"".join(
            complete_root(data) for _, data in self._leaves(self._mended) if len(data) == _FULL
        )
        due: dict[tuple[int, int], bytes] = {}
        level = 1
        while roots:
            rows = [roots[at : at + _FULL] for at in range(0, len(roots), _FULL)]
            due |= {(level, number): row for number, row in enumerate(rows)}
            roots = b"".join(complete_root(row) for row in rows if len(row) == _FULL)
            level += 1
        for place in sorted(due.keys() | self._uppers.keys(), key=str):
            have, wanted = self._uppers.get(place, b""), due.get(place, b"")
            if have != wanted:
                level, number = place
                first = (number * WIDTH + _unlike(have, wanted)) * WIDTH**level
                yield level, number, first

    def _leaves(self, mended: Mapping[int, bytes]) -> Iterator[tuple[int, bytes]]:
        """Every tile of level 0 as it counts, by its number."""
        by_tile: dict[int, dict[int, bytes]] = {}
        for leaf, hash in mended.items():
            by_tile.setdefault(leaf // WIDTH, {})[leaf] = hash

        def as_it_counts(stored: Any, number: int) -> bytes:
            return _replaced(self._hashes(stored, number), number, by_tile.get(number, {}))

        due = 0
        last = (self.size - 1) // WIDTH
        for number, stored in _in_order(self._reading.leaf_tiles(), last):
            for missing in range(due, number):
                yield missing, as_it_counts(b"", missing)
            yield number, as_it_counts(stored, number)
            due = number + 1
        for missing in range(due, -(-self.size // WIDTH)):
            yield missing, as_it_counts(b"", missing)

    def _hashes(self, data: Any, number: int) -> bytes:
        """As many hashes as a tile must have, zeros where there are none."""
        due = min(self.size - number * WIDTH, WIDTH) * HASH
        have = data if isinstance(data, bytes) else b""
        return have[:due].ljust(due, b"\0")


def _is_place(level: Any, number: Any, most: int) -> bool:
    """Whether a tile can be where it is, when those of leaves can have numbers up to `most`."""
    if not isinstance(level, int) or not isinstance(number, int):
        return False
    return 0 <= level <= _LEVELS and 0 <= number <= most


def _in_order(rows: Iterable[tuple[Any, Any]], last: int) -> Iterator[tuple[int, Any]]:
    return ((n, data) for n, data in rows if isinstance(n, int) and 0 <= n <= last)


def _replaced(data: bytes, number: int, hashes: Mapping[int, bytes]) -> bytes:
    """A tile with other hashes at some leaves."""
    if not hashes:
        return data
    made = bytearray(data)
    for leaf, hash in hashes.items():
        at = (leaf - number * WIDTH) * HASH
        made[at : at + HASH] = hash
    return bytes(made)


def _root(above: Frontier, data: bytes, size: int) -> bytes:
    """The root over the full tiles so far and the first leaves of the next."""
    part = Frontier()
    for at in range(0, (size - above.size * WIDTH) * HASH, HASH):
        part.append(data[at : at + HASH])
    return Frontier(size, [*above.nodes, *part.nodes]).root()


def _unlike(have: bytes, wanted: bytes) -> int:
    """The first hash in which two tiles differ."""
    most = max(len(have), len(wanted))
    places = range(0, most, HASH)
    found = (at for at in places if have[at : at + HASH] != wanted[at : at + HASH])
    return next(found, 0) // HASH
