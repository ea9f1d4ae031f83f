"""The Merkle tree of the log: hashes, roots, proofs, and their verification.

https://www.rfc-editor.org/rfc/rfc9162#section-2.1, over the tiles of https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from hashlib import sha256
from typing import TypeAlias

HASH = 32  # bytes of a hash
WIDTH = 256  # hashes of a full tile
HEIGHT = 8  # levels of the tree that one level of tiles spans
EMPTY_ROOT = sha256(b"").digest()

# The hashes of a tile, by its level and number, one after the other; it may be longer than the
# tree that is asked about needs, since the log has grown. Empty where there is none.
Tile: TypeAlias = Callable[[int, int], Awaitable[bytes]]


class TileMissing(Exception):
    """A tile, or the part of it that a tree of this size must have, is not there."""

    def __init__(self, level: int, number: int, width: int) -> None:
        super().__init__(f"Tile {number} of level {level} does not have {width} hashes")
        self.level, self.number, self.width = level, number, width


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def salted_leaf(salt: bytes, content: bytes) -> bytes:
    """The leaf of a record: its entry is the digest of salt and content; a notice has no salt."""
    return leaf_hash(sha256(salt + content).digest())


class Frontier:
    """The roots of the complete subtrees at the right edge, the greatest first: all that a growing
    tree must remember. Not for use by several threads."""

    __slots__ = ("nodes", "size")

    def __init__(self, size: int = 0, nodes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.nodes = list(nodes)
        if len(self.nodes) != size.bit_count():
            raise ValueError(f"A tree of {size} leaves has {size.bit_count()} complete subtrees")

    def append(self, leaf: bytes) -> None:
        """Append a leaf hash."""
        size, nodes = self.size, self.nodes
        self.size = size + 1
        while size & 1:
            leaf = sha256(b"\1" + nodes.pop() + leaf).digest()
            size >>= 1
        nodes.append(leaf)

    def root(self) -> bytes:
        return _joined(self.nodes)


def complete_root(hashes: bytes) -> bytes:
    """The root over a power of two of hashes, one after the other, as of a full tile."""
    while len(hashes) > HASH:
        pairs = range(0, len(hashes), 2 * HASH)
        hashes = b"".join([sha256(b"\1" + hashes[at : at + 2 * HASH]).digest() for at in pairs])
    return hashes


async def frontier(size: int, tile: Tile) -> Frontier:
    """The right edge of the first `size` leaves. TileMissing."""
    read = _Reading(size, tile)
    return Frontier(size, [await read.complete(height, at) for height, at in _parts(0, size)])


async def root(size: int, tile: Tile) -> bytes:
    """The root of the first `size` leaves. TileMissing."""
    return (await frontier(size, tile)).root()


async def inclusion(index: int, size: int, tile: Tile) -> list[bytes]:
    """That a leaf is in the tree of `size`: the siblings on its way up (2.1.3.1). TileMissing,
    ValueError."""
    if not 0 <= index < size:
        raise ValueError(f"A log of {size} leaves has no leaf {index}")
    return await _roots(_beside(index, size), size, tile)


async def consistency(old: int, size: int, tile: Tile) -> list[bytes]:
    """That the tree of `size` begins with that of `old` (2.1.4.1); empty when either is all of the
    other or `old` is 0. TileMissing, ValueError."""
    if not 0 <= old <= size:
        raise ValueError(f"A log of {size} leaves was never one of {old}")
    return await _roots(_between(old, size), size, tile) if old else []


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether the leaf hash is at this index of the tree with this size and root (2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, made = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            made = node_hash(sibling, made)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            made = node_hash(made, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and made == root


def verify_consistency(
    old: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes
) -> bool:
    """Whether the tree with this size and root begins with the old one (2.1.4.2). Every tree
    begins with the empty one."""
    if not 0 <= old <= size:
        return False
    if old in (0, size):
        known = EMPTY_ROOT if old == 0 else root
        return not proof and old_root == known and (size > 0 or root == EMPTY_ROOT)
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    at, last = old - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    if not path:
        return False
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and before == old_root and after == root


# --- which subtrees a proof is made of -----------------------------------------------------------

Span: TypeAlias = tuple[int, int]  # leaves from the first, inclusive, to the second, exclusive


def _split(count: int) -> int:
    """The greatest power of two that is less than `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _beside(index: int, size: int) -> list[Span]:
    """The subtrees beside the way from a leaf up to the root, the lowest first."""
    first, end, spans = 0, size, []
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((first, middle))
            first = middle
    return spans[::-1]


def _between(old: int, size: int) -> list[Span]:
    """The subtrees from which both the old root and the new one can be made, the lowest first."""
    first, end, spans = 0, size, []
    while old != end:
        middle = first + _split(end - first)
        if old <= middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((first, middle))
            first = middle
    if first:
        spans.append((first, end))
    return spans[::-1]


def _parts(first: int, end: int) -> list[tuple[int, int]]:
    """The complete subtrees of a span, each as its height and its number on that height."""
    parts = []
    while first < end:
        height = (end - first).bit_length() - 1
        parts.append((height, first >> height))
        first += 1 << height
    return parts


def _joined(nodes: Sequence[bytes]) -> bytes:
    """The root over complete subtrees, the greatest first."""
    if not nodes:
        return EMPTY_ROOT
    made = nodes[-1]
    for node in nodes[-2::-1]:
        made = sha256(b"\1" + node + made).digest()
    return made


async def _roots(spans: Iterable[Span], size: int, tile: Tile) -> list[bytes]:
    read = _Reading(size, tile)
    return [
        _joined([await read.complete(height, at) for height, at in _parts(*span)]) for span in spans
    ]


class _Reading:
    """Tiles that one proof reads, each asked for once."""

    def __init__(self, size: int, tile: Tile) -> None:
        self._size, self._tile = size, tile
        self._read: dict[tuple[int, int], bytes] = {}

    async def complete(self, height: int, at: int) -> bytes:
        """The root of a complete subtree."""
        level, above = divmod(height, HEIGHT)
        number, first = divmod(at << above, WIDTH)
        hashes = await self._hashes(level, number)
        return complete_root(hashes[first * HASH : (first + (1 << above)) * HASH])

    async def _hashes(self, level: int, number: int) -> bytes:
        found = self._read.get((level, number))
        if found is None:
            width = min((self._size >> (HEIGHT * level)) - number * WIDTH, WIDTH)
            found = await self._tile(level, number)
            if len(found) < width * HASH:
                raise TileMissing(level, number, width)
            self._read[level, number] = found
        return found
