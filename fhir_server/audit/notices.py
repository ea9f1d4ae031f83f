"""What the notices of a log say of its leaves: which have no record any more, and of which kind the
notice is that says so.

https://gdpr-info.eu/art-17-gdpr/
"""

from __future__ import annotations

from typing import get_args

from msgspec import Struct

from fhir_server.log.tombstone import Kind, Tombstone

_KINDS: tuple[Kind, ...] = get_args(Kind)
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS, 1)}  # 0: no notice speaks of it


class Told(Struct, frozen=True):
    """A notice: its leaf, its kind, of how many leaves it speaks, when it was made (microseconds
    since 1970), and why."""

    leaf: int
    kind: Kind
    leaves: int
    at: int
    basis: str


class Buried:
    """The leaves of a log of which tombstones speak; a byte is held for each leaf. `rewritten`: the
    hashes that those have now which were redacted; `erased`: the last leaf that is a notice of an
    erasure, -1 before there is one."""

    def __init__(self, size: int) -> None:
        self._said = bytearray(size)
        self.rewritten: dict[int, bytes] = {}
        self.told: list[Told] = []
        self.erased = -1

    def take(self, leaf: int, stone: Tombstone) -> bool:
        """Take the tombstone at a leaf at its word; False for one that cannot be true."""
        spoken = sum(last - first + 1 for first, last in stone.leaves)
        if any(not 0 <= first <= last < leaf for first, last in stone.leaves):
            return False
        named = {each for first, last in stone.leaves for each in (first, last)}
        redacted = stone.kind == "redacted"
        if len(stone.now) != (spoken if redacted else 0) or (redacted and named - set(stone.now)):
            return False
        for first, last in stone.leaves:
            count = last - first + 1
            self._said[first : last + 1] = bytes([_NUMBERS[stone.kind]]) * count
        if not redacted:  # the newest word counts
            for each in [each for each in self.rewritten if self.is_gone(each)]:
                del self.rewritten[each]
        self.rewritten |= stone.now
        if stone.kind == "erased":
            self.erased = leaf
        self.told.append(Told(leaf, stone.kind, spoken, stone.at, stone.basis))
        return True

    def kind(self, leaf: int) -> Kind | None:
        """The kind of the newest notice that speaks of a leaf."""
        number = self._said[leaf]
        return _KINDS[number - 1] if number else None

    def is_gone(self, leaf: int) -> bool:
        """Whether a notice says that a leaf has no record any more."""
        return self.kind(leaf) not in (None, "redacted")

    def first(self, before: int, after: int, kind: Kind) -> int:
        """The first leaf between two of which the newest notice is of that kind; -1: none."""
        return self._said.find(_NUMBERS[kind], before + 1, after)

    def count(self, before: int, after: int, kind: Kind) -> int:
        """How many leaves between two."""
        return self._said.count(_NUMBERS[kind], before + 1, after)
