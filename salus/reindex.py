"""Indexing anew what an earlier version of the extraction indexed; goes on where it stopped.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Callable

from conformance.json import parse
from fhir_server.search.index import Index
from fhir_server.storage.sqlite import SqliteStore
from fhir_server.storage.store import Transaction, Version

_PLACE = ("reindex", "place")
_BATCH = 200


async def reindex(
    store: SqliteStore, index: Index, progress: Callable[[int, int], None] | None = None
) -> int:
    """Give every current version the entries of this extraction; how many. The place reached is
    committed with the entries, so that an interrupted run repeats nothing and skips nothing."""
    done, total = 0, store.sizes()["rows resource"]

    async def step(tx: Transaction) -> int:
        kept = await tx.kept(*_PLACE)
        version, _, place = kept.value.decode().partition(" ") if kept else ("", "", "")
        after = int(place) if version == index.version else 0
        batch: list[Version] = []
        async for each in tx.walk(after):
            batch.append(each)
            if len(batch) == _BATCH:
                break
        for each in batch:
            await tx.reindex(each.type, each.id, index.entries(parse(each.body)))
        if batch:
            reached = f"{index.version} {batch[-1].sequence}"
            await tx.keep(*_PLACE, reached.encode())
        return len(batch)

    while count := await store.transaction(step, write=True):
        done += count
        if progress is not None:
            progress(done, total)
    await store.finish_reindex(index.version)
    return done
