"""Stores to test: `store` is each kind in turn, `open_sqlite` opens the SQLite engine in a folder."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from fhir_server.storage.memory import MemoryStore
from fhir_server.storage.sqlite import SqliteStore
from tests.derived_keys import DerivedKeys

KEY = bytes(range(32))


@asynccontextmanager
async def memory(folder, **settings):
    yield MemoryStore(**settings)


@asynccontextmanager
async def sqlite(folder, key=KEY, keys=None, **settings):
    store = await SqliteStore.open(folder, key, keys or DerivedKeys(), **settings)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(params=[memory, sqlite], ids=["memory", "sqlite"])
def with_store(request, tmp_path):
    """Runs an async function with an empty store of each kind."""

    def run(story, **settings):
        async def told():
            async with request.param(tmp_path / "data", **settings) as store:
                return await story(store)

        return asyncio.run(told())

    return run


@pytest.fixture
def open_sqlite(tmp_path):
    def opened(key=KEY, **settings):
        return sqlite(tmp_path / "data", key, **settings)

    return opened
