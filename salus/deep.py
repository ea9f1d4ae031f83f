"""Proof that the indexes agree with the bodies: each resource is extracted anew and asked for.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

from conformance.json import parse
from fhir_server.indexing.looking import Exact
from fhir_server.search.index import Index
from fhir_server.search.kinds import KINDS
from fhir_server.storage.store import (
    ID,
    All,
    Condition,
    Entry,
    Field,
    Match,
    Not,
    Query,
    Store,
    Transaction,
    Version,
)

BATCH = 200  # resources in one read transaction


# What distinguishes two entries of a shape.
_FIELDS: dict[str, tuple[Field, ...]] = {
    "token": ("system", "code"),
    "text": ("text", "code"),
    "range": ("low", "high", "system", "code"),
    "link": ("system", "code"),
}


async def disagreements(
    store: Store, index: Index, progress: Callable[[int], None] = lambda done: None
) -> AsyncIterator[str]:
    """A sentence for each current resource that a search for its own entries does not find, or
    that a search finds by a parameter for which it has no value. `progress` hears how many
    resources were read. Holds no lock: what is written meanwhile may be read or not."""
    after, done = 0, 0

    async def step(tx: Transaction) -> tuple[int, int, list[str]]:
        found: list[str] = []
        count, reached = 0, after
        async for version in tx.walk(after):
            found += await _wrong(tx, index, version)
            reached, count = version.sequence, count + 1
            if count == BATCH:
                break
        return reached, count, found

    while True:
        after, count, found = await store.transaction(step)
        for each in found:
            yield each
        done += count
        progress(done)
        if count < BATCH:
            return


async def _wrong(tx: Transaction, index: Index, version: Version) -> list[str]:
    entries = index.entries(parse(version.body))
    exactly = tx.agrees if isinstance(tx, Exact) else None
    if exactly and await exactly(version.type, version.id, entries):
        return []
    queries = [*map(_has, entries), *_lacks(index, version.type, entries)]
    place = f"{version.type}/{version.id}"
    if await _holds(tx, version, queries):
        return [f"{place}: the index disagrees in its order"] if exactly else []
    wrong = [each for each in queries if not await _holds(tx, version, [each])]
    return [f"{place}: the index disagrees about {name}" for name in sorted(set(_names(wrong)))]


async def _holds(tx: Transaction, version: Version, queries: Sequence[Query]) -> bool:
    this = Match(ID, "token", (Condition("code", "eq", version.id),))
    return await tx.count(version.type, All((this, *queries)), bound=1) == 1


def _has(entry: Entry) -> Query:
    """The resource has exactly this entry."""
    conditions = tuple(
        Condition(field, "eq", getattr(entry, field)) for field in _FIELDS[entry.shape]
    )
    return Match(entry.param, entry.shape, conditions)


def _lacks(index: Index, type: str, entries: Iterable[Entry]) -> Iterator[Query]:
    """The resource has no entry of any parameter for which it has no value."""
    present = {(entry.param, entry.shape) for entry in entries}
    for parameter in index.parameters(type).values():
        if parameter.own and parameter.kind in KINDS and not parameter.code.startswith("_"):
            for shape in KINDS[parameter.kind].shapes:
                if (parameter.code, shape) not in present:
                    yield Not(Match(parameter.code, shape))


def _names(queries: Iterable[Query]) -> Iterator[str]:
    for query in queries:
        match query:
            case Match():
                yield query.param
            case Not(Match(param=param)):
                yield f"{param}, for which it has no value"
