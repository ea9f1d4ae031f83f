"""Tombstones: notices of the log that say which leaves have no record any more, when and why.

https://gdpr-info.eu/art-17-gdpr/: what is erased leaves its leaf, and this word about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, get_args

import msgspec

Kind: TypeAlias = Literal["erased", "expired", "purged", "redacted"]

_KINDS = frozenset(get_args(Kind))


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Leaves whose records were removed, or (`redacted`) written anew without something: then `now`
    has the hash of the leaf that each would have now. `leaves`: ranges, both ends inclusive, in
    order. `keys`: ids of the data keys that were destroyed. `at`: microseconds since 1970. `basis`
    says why, without a word about anybody."""

    kind: Kind
    keys: tuple[bytes, ...]
    leaves: tuple[tuple[int, int], ...]
    at: int
    basis: str
    now: Mapping[int, bytes] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        kind: Kind,
        keys: Iterable[bytes],
        leaves: Iterable[int],
        at: int,
        basis: str,
        now: Mapping[int, bytes] | None = None,
    ) -> Tombstone:
        """For these leaves, in whatever order."""
        return cls(kind, tuple(keys), ranges(leaves), at, basis, now or {})

    def encode(self) -> bytes:
        """The content of the notice."""
        at = datetime.fromtimestamp(self.at // 1_000_000, UTC).replace(
            microsecond=self.at % 1_000_000
        )
        said: dict[str, Any] = {
            "kind": self.kind,
            "keys": [key.hex() for key in self.keys],
            "leaves": self.leaves,
            "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "basis": self.basis,
        }
        if self.now:
            said["now"] = [(leaf, hash.hex()) for leaf, hash in sorted(self.now.items())]
        return msgspec.json.encode(said)


class _Written(msgspec.Struct):
    kind: str
    keys: list[str]
    leaves: list[tuple[int, int]]
    at: datetime
    basis: str
    now: list[tuple[int, str]] = []


def parse(content: bytes) -> Tombstone | None:
    """The tombstone that a notice is; None when it is something else."""
    try:
        said = msgspec.json.decode(content, type=_Written)
        keys = tuple(map(bytes.fromhex, said.keys))
        now = {leaf: bytes.fromhex(hash) for leaf, hash in said.now}
    except (msgspec.MsgspecError, ValueError):
        return None
    if said.kind not in _KINDS:
        return None
    at = round(said.at.timestamp() * 1_000_000)
    return Tombstone(said.kind, keys, tuple(said.leaves), at, said.basis, now)  # type: ignore[arg-type]


def ranges(leaves: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """The same as ranges, in order."""
    found: list[tuple[int, int]] = []
    for leaf in sorted(set(leaves)):
        if found and found[-1][1] == leaf - 1:
            found[-1] = (found[-1][0], leaf)
        else:
            found.append((leaf, leaf))
    return tuple(found)
