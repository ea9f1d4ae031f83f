"""What the SQLite engine costs, printed; a benchmark measures this, a test never asserts a time.

    SALUS_TEST_DATA=... python -m tests.storage.speed [FOLDER]

Loads the bench60 tier of generated patients into a store of its own and prints microseconds of
processor time (which a busy machine distorts less than time by the clock) and bytes.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from conformance.definitions import load
from fhir_server.search.index import Index
from fhir_server.storage.sqlite import SqliteStore
from fhir_server.storage.store import (
    All,
    Condition,
    Entry,
    Event,
    Match,
    Page,
    Query,
    ReferredBy,
    RefersTo,
    Sort,
    Version,
)
from tests.derived_keys import DerivedKeys

KEY = bytes(range(32))
CLIENTS = 32


class Body(NamedTuple):
    type: str
    id: str
    body: bytes
    entries: tuple[Entry, ...]


def bundles() -> list[list[Body]]:
    """The resources of bench60 with the ids of the file as their own."""
    file = Path(os.environ["SALUS_TEST_DATA"]) / "data/synthea/smart-bench60.ndjson.gz"
    index = Index(load(), "http://localhost/fhir", UTC)
    with gzip.open(file, "rt") as lines:
        return [[_body(index, entry["resource"]) for entry in _resolved(line)] for line in lines]


def _resolved(line: str) -> list[dict]:
    types = {
        entry["fullUrl"]: entry["resource"]["resourceType"] for entry in json.loads(line)["entry"]
    }

    def literal(found: re.Match[str]) -> str:
        url = found[1]
        return f'"reference":"{types[url]}/{url[9:]}"' if url in types else found[0]

    return json.loads(re.sub(r'"reference":\s*"(urn:uuid:[^"]+)"', literal, line))["entry"]


def _body(index: Index, resource: dict) -> Body:
    body = json.dumps(resource, ensure_ascii=False, separators=(",", ":")).encode()
    return Body(resource["resourceType"], resource["id"], body, tuple(index.entries(resource)))


def told(what: str, microseconds: float, more: str = "") -> None:
    print(f"{what:32} {microseconds:9.1f} us  {more}")


async def timed(what: str, number: int, work: Awaitable[object], more: str = "") -> None:
    start = time.process_time()
    await work
    told(what, (time.process_time() - start) / number * 1e6, more)


async def together(work: Callable[[Body], Awaitable[object]], bodies: list[Body]) -> None:
    """CLIENTS at once, each doing the next when its last one is done."""
    rest = iter(bodies)

    async def client() -> None:
        for body in rest:
            await work(body)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def main(folder: Path) -> None:
    data = bundles()
    flat = [body for bundle in data for body in bundle]
    store = await SqliteStore.open(folder, KEY, DerivedKeys())

    async def put(body: Body, suffix: str = "", number: int = 1) -> None:
        async def work(tx):
            version = Version(body.type, body.id + suffix, number, tx.now, body.body)
            current = await tx.get(body.type, version.id)
            if number > 1 or current is None:  # the seeds come again in each bundle
                await tx.put(version, body.entries)

        await store.transaction(work, write=True)

    async def import_all() -> None:
        for bundle in data:

            async def work(tx, bundle=bundle):
                for body in bundle:
                    if await tx.get(body.type, body.id) is None:
                        version = Version(body.type, body.id, 1, tx.now, body.body)
                        await tx.put(version, body.entries)

            await store.transaction(work, write=True)

    await timed("import, a resource", len(flat), import_all())
    some = [body for body in flat if body.type in ("Observation", "Condition", "Encounter")][:4000]
    await timed("create, 32 clients", len(some), together(lambda b: put(b, "-new"), some))
    await timed("update, 32 clients", len(some), together(lambda b: put(b, "-new", 2), some))
    get = store.transaction

    async def read(body: Body) -> None:
        await get(lambda tx: tx.get(body.type, body.id))

    await timed("read", len(some), together(read, some))
    await events(store, flat)
    await searches(store, flat)
    sizes = store.sizes()
    await store.close()
    size = (folder / "salus.db").stat().st_size
    print(f"{size / sizes['rows resource']:.0f} bytes a resource, events and old versions included")


async def events(store: SqliteStore, flat: list[Body]) -> None:
    patients = [body.id for body in flat if body.type == "Patient"]
    head, tail = b'{"resourceType":"AuditEvent","id":"', b'","action":"R","outcome":"0"}'

    def event(number: int) -> Event:
        patient = Entry("link", "patient", "Patient", patients[number % len(patients)])
        client = Entry("token", "agent", None, f"client-{number % 7}")
        return Event(number, head, tail, (patient, client))

    async def record(number) -> None:
        await store.record((event(number),))

    await timed("event, 32 clients", 10_000, together(record, list(range(10_000))))


def token(param: str, code: str) -> Query:
    return Match(param, "token", (Condition("code", "eq", code),))


def link(param: str, type: str, id: str) -> Query:
    return Match(param, "link", (Condition("system", "eq", type), Condition("code", "eq", id)))


async def searches(store: SqliteStore, flat: list[Body]) -> None:
    patients = [body.id for body in flat if body.type == "Patient"][:50]
    newest = (Sort(("date",), "range", descending=True, carried=True),)
    male, height = token("gender", "male"), token("code", "8302-2")
    tall = Match("value-quantity", "range", (Condition("high", "gt", 170.0),))
    late = Match("date", "range", (Condition("high", "ge", 1_577_836_800_000_000),))
    shapes: list[tuple[str, str, Callable[[str], Query], tuple[Sort, ...]]] = [
        ("code", "Observation", lambda _: height, ()),
        ("code + value", "Observation", lambda _: All((height, tall)), ()),
        ("date", "Observation", lambda _: late, ()),
        (
            "patient + code, newest first",
            "Observation",
            lambda p: All((link("subject", "Patient", p), height)),
            newest,
        ),
        ("chain to gender", "Observation", lambda _: RefersTo("subject", "Patient", male), ()),
        ("_has a code", "Patient", lambda _: ReferredBy("Observation", "subject", height), ()),
        ("all, newest first", "Observation", lambda _: All(), newest),
    ]
    for name, type, query, sort in shapes:

        async def run(type=type, query=query, sort=sort) -> None:
            for patient in islice(patients * 4, 200):
                asked = query(patient)
                await store.transaction(
                    lambda tx, asked=asked: tx.find(type, asked, sort, Page(20))
                )

        await timed(f"search: {name}", 200, run())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as made:
            asyncio.run(main(Path(made)))
