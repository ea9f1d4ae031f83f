"""A data folder that an earlier extraction indexed is indexed anew, and goes on where it stopped."""

import asyncio

import pytest

from conformance import definitions
from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction
from fhir_server.search.index import Index
from fhir_server.storage.keys import FileKeys, page_key
from fhir_server.storage.sqlite import SqliteStore
from fhir_server.storage.vault import Vault
from salus import reindex as module
from salus.app import open_server
from salus.settings import Settings
from smart_auth.grant import Grant

CALLER = Caller(Grant.operator("test"), "127.0.0.1", "here")
COUNT = 450


@pytest.fixture
def settings(tmp_path):
    return Settings(data=tmp_path / "data", keys=tmp_path / "keys", open=True)


async def _found(server) -> int:
    asked = Interaction(
        "search-type", "Patient", parameters=(("gender", "female"), ("_summary", "count"))
    )
    body = (await server.perform(asked, CALLER)).body
    return int(body.partition(b'"total":')[2].partition(b",")[0])


async def _opened(settings: Settings) -> tuple[SqliteStore, Vault]:
    keys = FileKeys(settings.keys)
    vault = Vault.open(settings.keys, keys)
    return await SqliteStore.open(settings.data, page_key(settings.data, keys), vault), vault


async def _written_before(settings: Settings) -> None:
    """A folder whose extraction knew nothing."""
    async with open_server(settings) as server:
        for number in range(COUNT):
            patient = {"resourceType": "Patient", "id": f"p{number}", "gender": "female"}
            await server.perform(
                Interaction("update", "Patient", f"p{number}", resource=patient), CALLER
            )
    store, vault = await _opened(settings)

    async def forget(tx):
        for number in range(COUNT):
            await tx.reindex("Patient", f"p{number}", ())

    await store.transaction(forget, write=True)
    await store.finish_reindex("an earlier extraction")
    await store.close()
    vault.close()


def test_a_folder_of_an_earlier_extraction_is_indexed_anew_at_the_next_start(settings):
    async def run():
        await _written_before(settings)
        seen = []
        async with open_server(settings, lambda done, total: seen.append((done, total))) as server:
            assert await _found(server) == COUNT
        assert seen[-1] == (COUNT, COUNT)
        seen.clear()
        async with open_server(settings, lambda done, total: seen.append((done, total))) as server:
            assert await _found(server) == COUNT
        assert seen == []

    asyncio.run(run())


def test_an_indexing_that_was_interrupted_goes_on_where_it_stopped(settings):
    class Killed(Exception):
        pass

    async def run():
        await _written_before(settings)

        def kill(done, total):
            raise Killed

        with pytest.raises(Killed):
            async with open_server(settings, kill):
                pass
        seen = []
        async with open_server(settings, lambda done, total: seen.append(done)) as server:
            assert await _found(server) == COUNT
        assert seen[-1] == COUNT - module._BATCH

    asyncio.run(run())


def test_the_place_reached_counts_only_for_the_extraction_that_reached_it(settings):
    async def run():
        await _written_before(settings)
        store, vault = await _opened(settings)

        async def mark(tx):
            await tx.keep("reindex", "place", b"another 9999")

        await store.transaction(mark, write=True)
        index = Index(definitions.load(), settings.fhir_base, settings.zone)
        assert await module.reindex(store, index) == COUNT
        await store.close()
        vault.close()

    asyncio.run(run())
