"""The building of new search parameters while a server runs, and what operators are told of it.

https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fhir_server.indexing.registry import SearchParameters, Told
from fhir_server.search.guests import failed
from fhir_server.server import Server
from fhir_server.storage.store import Transaction


@asynccontextmanager
async def built(server: Server) -> AsyncIterator[None]:
    """The entries of new search parameters, built in the background while this lasts."""
    parameters = server.parameters
    task = asyncio.create_task(parameters.run()) if parameters else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class BuildingMetrics(Collector):
    """How many search parameters beyond R4's there are by state, and how far what is being indexed
    is, without a word about how many resources there are: anybody may read it."""

    def __init__(self) -> None:
        self.parameters: SearchParameters | None = None

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client."""
        if self.parameters is None:
            return
        counts = {"active": 0, "building": 0, "refused": 0}
        for each in self.parameters.told():
            counts[each.state] += 1
        by_state = GaugeMetricFamily(
            "salus_search_parameters", "Search parameters beyond R4's", labels=("state",)
        )
        for state, count in counts.items():
            by_state.add_metric((state,), count)
        share = GaugeMetricFamily(
            "salus_search_building_ratio", "Share of a type that is indexed", labels=("type",)
        )
        for type, progress in self.parameters.building().items():
            share.add_metric((type,), progress.percent / 100)
        yield by_state
        yield share


async def summary(server: Server) -> list[str]:
    """What `salus doctor` says of search parameters beyond R4's, a sentence each."""
    if server.parameters is None:
        return []
    told = server.parameters.told()
    lacking = await _lacking(server, [each for each in told if each.state != "refused"])
    said = []
    if known := [each for each in told if each.state != "refused"]:
        said.append(f"Search parameters beyond R4's: {len(known)}")
    for type, progress in server.parameters.building().items():
        said.append(
            f"{type} is being indexed anew: {progress.done:,} of about {progress.total:,} resources"
        )
    for each in told:
        if each.state == "refused":
            on = f" on {each.type}" if each.type else ""
            said.append(f"{each.url} of {each.origin} has no effect{on}: {each.why}")
    for each, count in lacking:
        said.append(
            f"`{each.code}` of {each.type} finds {count:,} resources not: its expression fails on"
            " them, or gives too much"
        )
    return said


async def _lacking(server: Server, told: list[Told]) -> list[tuple[Told, int]]:
    """The parameters that failed on resources, and on how many."""

    async def work(tx: Transaction) -> list[tuple[Told, int]]:
        counts = [(each, await tx.count(each.type, failed(each.code))) for each in told]
        return [(each, count) for each, count in counts if count]

    return await server.store.transaction(work)
