"""Looking through the resources of a type for those whose entries are not what they are to be.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple, Protocol, runtime_checkable

from conformance.json import parse
from conformance.outcome import FhirError
from fhir_server.search.index import Index
from fhir_server.storage.store import Entry, Store, Transaction, Version

AT_ONCE = 25  # resources in one step
SECONDS = 0.005  # of one step, in which nobody else is answered


@runtime_checkable
class Exact(Protocol):
    """A transaction of an engine that can compare what it keeps with entries itself."""

    async def agrees(self, type: str, id: str, entries: Sequence[Entry]) -> bool:
        """Whether a live resource is indexed by exactly these entries."""
        ...


class Wrong(NamedTuple):
    """A version whose entries are to be these."""

    id: str
    number: int
    entries: Sequence[Entry]


class Looked(NamedTuple):
    """`seen` resources up to the sequence `place` were looked at, in `seconds`; `last`: there
    are no more."""

    place: int
    seen: int
    last: bool
    wrong: tuple[Wrong, ...]
    seconds: float


async def look(store: Store, index: Index, type: str, after: int, until: int) -> Looked:
    """Some resources of a type whose sequence is beyond `after`, at most `until`. StoreError."""

    async def work(tx: Transaction) -> Looked:
        place, seen, wrong = after, 0, list[Wrong]()
        began = monotonic()
        async for version in tx.walk(after, type):
            if version.sequence > until:
                break
            entries = _entries(index, version)
            if entries is not None and not await _agrees(tx, version, entries):
                wrong.append(Wrong(version.id, version.number, entries))
            place, seen = version.sequence, seen + 1
            if seen == AT_ONCE or monotonic() - began > SECONDS:
                return Looked(place, seen, False, tuple(wrong), monotonic() - began)
        return Looked(place, seen, True, tuple(wrong), monotonic() - began)

    return await store.transaction(work)


def _entries(index: Index, version: Version) -> Sequence[Entry] | None:
    """None where a resource has more of them than it may by now: it keeps those that it has."""
    try:
        return index.entries(parse(version.body))
    except FhirError:
        return None


async def _agrees(tx: Transaction, version: Version, entries: Sequence[Entry]) -> bool:
    if not isinstance(tx, Exact):
        return False
    return await tx.agrees(version.type, version.id, entries)
