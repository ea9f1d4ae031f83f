"""The deep examination finds an index that does not agree with its resources."""

import asyncio
from datetime import date
from zoneinfo import ZoneInfo

import pytest

from conformance import definitions
from conformance.json import encode
from fhir_server.search.index import Index
from fhir_server.storage.memory import MemoryStore
from fhir_server.storage.store import Entry, Version
from salus.deep import disagreements
from salus.demo import clinic


@pytest.fixture(scope="module")
def index():
    return Index(definitions.load(), "http://127.0.0.1:8080/fhir", ZoneInfo("UTC"))


def found(index, change=lambda type, entries: entries, bundles=3):
    """What the examination says of a clinic whose entries were changed as they were put."""

    async def go():
        store = MemoryStore()
        for bundle in clinic(bundles, date(2026, 1, 1)):
            await store.transaction(lambda tx, each=bundle: put(tx, each), write=True)
        return [each async for each in disagreements(store, index)]

    async def put(tx, bundle):
        for entry in bundle["entry"]:
            type, id = entry["resource"]["resourceType"], entry["fullUrl"].rpartition(":")[2]
            resource = entry["resource"] | {"id": id}
            version = Version(type, id, 1, tx.now, encode(resource))
            await tx.put(version, change(type, index.entries(resource)))

    return asyncio.run(go())


def test_nothing_is_found_where_all_agree(index):
    assert found(index) == []


def test_a_lost_entry_is_found_and_named(index):
    def lose(type, entries):
        return [e for e in entries if type != "Practitioner" or e.param != "family"]

    told = found(index, lose, 0)

    assert len(told) == 4
    assert all(each.endswith("the index disagrees about family") for each in told)


def test_an_entry_without_a_value_is_found_and_named(index):
    def stray(type, entries):
        more = Entry("token", "email", code="x@example.org")
        return [*entries, more] if type == "Practitioner" else entries

    told = found(index, stray, 0)
    assert len(told) == 4
    assert all(each.endswith("about email, for which it has no value") for each in told)
