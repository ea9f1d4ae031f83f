"""A log in memory, as tiles, and the standard's own recursive definitions to hold it to.

https://www.rfc-editor.org/rfc/rfc9162#section-2.1
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from functools import cache
from hashlib import sha256
from typing import Any, TypeVar, cast

from fhir_server.log import merkle
from fhir_server.log.checkpoint import Checkpoint

T = TypeVar("T")


def now(work: Coroutine[Any, Any, T]) -> T:
    """The result of what waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    raise AssertionError("it waits")


def leaves(count: int, start: int = 0) -> list[bytes]:
    return [merkle.leaf_hash(b"%d" % each) for each in range(start, start + count)]


class Log:
    """Tiles that grow, beside the frontier."""

    def __init__(self, hashes: Sequence[bytes] = ()) -> None:
        self.tiles: dict[tuple[int, int], bytes] = {}
        self.frontier = merkle.Frontier()
        self.roots = [merkle.EMPTY_ROOT]
        for each in hashes:
            self.append(each)

    def append(self, leaf: bytes) -> None:
        level, number, hash = 0, self.frontier.size // merkle.WIDTH, leaf
        while True:
            tile = self.tiles[level, number] = self.tiles.get((level, number), b"") + hash
            if len(tile) < merkle.WIDTH * merkle.HASH:
                break
            level, number, hash = level + 1, number // merkle.WIDTH, merkle.complete_root(tile)
        self.frontier.append(leaf)
        self.roots.append(self.frontier.root())

    async def tile(self, level: int, number: int) -> bytes:
        return self.tiles.get((level, number), b"")

    @property
    def size(self) -> int:
        return self.frontier.size

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        return now(merkle.inclusion(index, self.size if size is None else size, self.tile))

    def consistency(self, old: int, size: int | None = None) -> list[bytes]:
        return now(merkle.consistency(old, self.size if size is None else size, self.tile))

    def checkpoint(self, origin: str, size: int | None = None) -> Checkpoint:
        size = self.size if size is None else size
        return Checkpoint(origin, size, self.roots[size])


class Plain:
    """The definitions, word for word, on a fixed list of leaf hashes."""

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self.hashes = tuple(hashes)
        self.root = cache(self._root)

    def _root(self, first: int, end: int) -> bytes:
        if end == first:
            return sha256(b"").digest()
        if end - first == 1:
            return self.hashes[first]
        k = largest_below(end - first)
        pair = self.root(first, first + k) + self.root(first + k, end)
        return sha256(b"\x01" + pair).digest()

    def path(self, m: int, first: int, end: int) -> list[bytes]:
        if end - first == 1:
            return []
        k = largest_below(end - first)
        if m < k:
            return [*self.path(m, first, first + k), self.root(first + k, end)]
        return [*self.path(m - k, first + k, end), self.root(first, first + k)]

    def proof(self, m: int, first: int, end: int, whole: bool = True) -> list[bytes]:
        if m == end - first:
            return [] if whole else [self.root(first, end)]
        k = largest_below(end - first)
        if m <= k:
            return [*self.proof(m, first, first + k, whole), self.root(first + k, end)]
        return [*self.proof(m - k, first + k, end, False), self.root(first, first + k)]


def largest_below(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k
