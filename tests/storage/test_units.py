"""Quantities in whatever unit: SQLite finds what the plain meaning finds, and a folder that was
written before it was so finds them after the next start."""

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance.json import parse
from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction
from fhir_server.search.params import parse as search_of
from fhir_server.search.units import IN
from fhir_server.storage.keys import FileKeys, page_key
from fhir_server.storage.sqlite import SqliteStore
from fhir_server.storage.store import Page, Version
from fhir_server.storage.vault import Vault
from salus.app import open_server
from salus.settings import Settings
from smart_auth.grant import Grant
from tests.search.world import INDEX, context, pairs_of
from tests.storage.test_oracle import both

SPEC = parse((Path(__file__).parent.parent / "spec/search-units.json").read_bytes())
CALLER = Caller(Grant.operator("test"), "127.0.0.1", "here")

UNITS = ("mg/dL", "g/dL", "g/L", "[degF]", "Cel", "K", "[pH]", "nmol/L", "mmol/L", "kPa", "mm[Hg]")
PREFIXES = ("", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
numbers = st.decimals(min_value="0.01", max_value=400, places=2)
quantities = st.builds(
    lambda value, unit, comparator: {
        "value": value,
        "system": "http://unitsofmeasure.org",
        "code": unit,
        **({"comparator": comparator} if comparator else {}),
    },
    numbers,
    st.sampled_from(UNITS),
    st.sampled_from(("", "", "", "<", ">", ">=")),
)


async def _put(store, resources):
    async def write(tx):
        for at, each in enumerate(resources):
            body = json.dumps(each, default=str).encode()
            version = Version(each["resourceType"], each.get("id", f"o{at}"), 1, tx.now, body)
            await tx.put(version, INDEX.entries(each))

    await store.transaction(write, write=True)


async def _found(store, url) -> set[str]:
    type, pairs = pairs_of(url)
    query = search_of(type, pairs, context()).query
    found = await store.transaction(lambda tx: tx.find(type, query, (), Page(1000)))
    return {each.id for each in found.versions}


def test_sqlite_and_memory_find_what_the_cases_say():
    async def story():
        async with both() as stores:
            for store in stores:
                await _put(store, SPEC["fixtures"])
                for case in SPEC["cases"]:
                    assert await _found(store, case["search"]) == set(case["ids"]), case["search"]

    asyncio.run(story())


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(quantities, min_size=1, max_size=12),
    st.lists(st.tuples(st.sampled_from(PREFIXES), numbers, st.sampled_from(UNITS)), max_size=12),
)
def test_sqlite_and_memory_agree_about_any_quantities(stored, asked):
    resources = [
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {"text": "x"},
            "valueQuantity": q,
        }
        for q in stored
    ]

    async def story():
        async with both() as (sqlite, memory):
            await _put(sqlite, resources)
            await _put(memory, resources)
            for prefix, number, unit in asked:
                text = f"{prefix}{number}|http://unitsofmeasure.org|{unit}"
                url = ("Observation", [("value-quantity", text)])
                query = search_of(*url, context()).query
                one, other = [
                    await store.transaction(
                        lambda tx, query=query: tx.find("Observation", query, (), Page(1000))
                    )
                    for store in (sqlite, memory)
                ]
                assert {e.id for e in one.versions} == {e.id for e in other.versions}, text

    asyncio.run(story())


def test_an_order_goes_by_the_numbers_as_they_are_written():
    temperatures = [
        _fever("f", Decimal("98.6"), "[degF]"),
        _fever("c", 38, "Cel"),
        _fever("k", 310, "K"),
    ]

    async def story():
        async with both() as stores:
            for store in stores:
                await _put(store, temperatures)
                pairs = [("value-quantity", "gt36||Cel"), ("_sort", "value-quantity")]
                search = search_of("Observation", pairs, context())
                found = await store.transaction(
                    lambda tx, search=search: tx.find(
                        "Observation", search.query, search.sort, Page(10)
                    )
                )
                assert [each.id for each in found.versions] == ["c", "f", "k"]

    asyncio.run(story())


# --- a folder written before ---------------------------------------------------------------------


@pytest.fixture
def server_settings(tmp_path):
    return Settings(data=tmp_path / "data", keys=tmp_path / "keys", open=True)


def _fever(id, value, code):
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5"}]},
        "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": code},
    }


async def _written_before(chosen: Settings) -> None:
    """A folder of the extraction that knew quantities in their own units only."""
    async with open_server(chosen) as server:
        for each in (_fever("f", Decimal("98.6"), "[degF]"), _fever("c", 37, "Cel")):
            await server.perform(
                Interaction("update", "Observation", each["id"], resource=each), CALLER
            )
    keys = FileKeys(chosen.keys)
    vault = Vault.open(chosen.keys, keys)
    store = await SqliteStore.open(chosen.data, page_key(chosen.data, keys), vault)

    async def forget(tx):
        for each in (_fever("f", Decimal("98.6"), "[degF]"), _fever("c", 37, "Cel")):
            entries = [e for e in INDEX.entries(each) if not e.param.endswith(IN + "Cel")]
            await tx.reindex("Observation", each["id"], entries)

    await store.transaction(forget, write=True)
    await store.finish_reindex("an earlier extraction")
    await store.close()
    vault.close()


@pytest.mark.parametrize(
    "asked",
    [
        ("value-quantity", "37||Cel"),
        ("code-value-quantity", "http://loinc.org|8310-5$37||Cel"),
        ("combo-value-quantity", "ge98.6|http://unitsofmeasure.org|[degF]"),
    ],
)
def test_a_folder_written_before_finds_other_units_after_the_next_start(server_settings, asked):
    async def run():
        await _written_before(server_settings)
        async with open_server(server_settings) as server:
            search = Interaction("search-type", "Observation", parameters=(asked,))
            body = parse((await server.perform(search, CALLER)).body)
            assert {each["resource"]["id"] for each in body["entry"]} == {"f", "c"}

    asyncio.run(run())
