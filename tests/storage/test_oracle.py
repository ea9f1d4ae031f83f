"""The SQLite engine answers what the plain meaning answers, whatever is stored and asked."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fhir_server.storage.memory import MemoryStore, sort_values
from fhir_server.storage.sqlite import (
    SqliteStore,
    entries,
    matches,
    plan,
    resources,
    sorting,
    sql,
    terms,
)
from fhir_server.storage.sqlite import search as search_module
from fhir_server.storage.store import Page, Store, Version
from tests.derived_keys import DerivedKeys
from tests.storage import worlds

KEY = bytes(range(32))
seeds = given(st.integers(0, 2**40))
often = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

_empty: list[bytes] = []  # the file of an empty store, so that it is made once


@asynccontextmanager
async def both():
    """An empty store of each kind, with clocks that agree."""
    with tempfile.TemporaryDirectory() as folder:
        if not _empty:
            await (await SqliteStore.open(Path(folder), KEY, DerivedKeys())).close()
            _empty.append((Path(folder) / "salus.db").read_bytes())
        (Path(folder) / "salus.db").write_bytes(_empty[0])
        sqlite = await SqliteStore.open(Path(folder), KEY, DerivedKeys(), clock=worlds.Clock())
        memory = MemoryStore(worlds.Clock())
        try:
            yield sqlite, memory
        finally:
            await sqlite.close()


def page_of(store: Store, type, query, sort, page):
    return store.transaction(lambda tx: tx.find(type, query, sort, page))


async def pages(store: Store, type, query, sort, limit) -> list[Version]:
    """All pages of a search, one after another."""
    found, after = [], None
    while True:
        page = await page_of(store, type, query, sort, Page(limit, after))
        assert len(page.versions) <= limit
        found += map(without_leaf, page.versions)
        after = page.after
        if after is None:
            return found


def without_leaf(version: Version) -> Version:
    """In the log, an engine may put the events of a commit after its versions."""
    return replace(version, leaf=-1)


def ranks(oracle: MemoryStore, sort, versions: list[Version]):
    """What the plain meaning sorts these by."""
    return [sort_values(oracle.entries(version), sort) for version in versions]


async def agree(sqlite: SqliteStore, memory: MemoryStore, search) -> None:
    type, query, sort, limit = search
    if limit % 2:  # half of the searches open what they find
        sqlite._shared.current.clear()
    ours = await pages(sqlite, type, query, sort, limit)
    theirs = await pages(memory, type, query, sort, limit)
    assert {v.id: v for v in ours} == {v.id: v for v in theirs}, search
    assert len(ours) == len(theirs), search
    assert ranks(memory, sort, ours) == ranks(memory, sort, theirs), search
    for bound in (None, 2):
        number = await sqlite.transaction(lambda tx, bound=bound: tx.count(type, query, bound))
        assert number == min(len(theirs), bound or len(theirs)), search


async def compare(seed: int) -> None:
    """One world in both stores, and many searches."""
    chance = Random(seed)
    world = worlds.world(chance)
    async with both() as (sqlite, memory):
        together = chance.randint(1, 5)
        for store in (sqlite, memory):
            await worlds.grow(store, world, together)
        for _ in range(25):
            await agree(sqlite, memory, worlds.search(chance, world))
        if chance.random() < 0.1:
            assert list(sqlite.check()) == []


@pytest.fixture
def large(monkeypatch):
    """As if each store were large: nearly every driver counts as many, so indexes are walked."""
    for module in (plan, sorting, search_module):
        monkeypatch.setattr(module, "MANY", 1)
    monkeypatch.setattr(plan, "FEW", 0)


@often
@seeds
def test_every_search_finds_what_the_plain_meaning_finds(seed):
    asyncio.run(compare(seed))


@often
@seeds
def test_so_it_does_in_a_large_store(large, seed):
    asyncio.run(compare(seed))


@pytest.mark.slow
@settings(often, max_examples=10_000)
@seeds
def test_so_it_does_for_a_quarter_of_a_million_searches(seed):
    asyncio.run(compare(seed))


# --- paging while others write -------------------------------------------------------------------


async def page_among_writes(seed: int) -> None:
    """Over all pages a resource that does not change and always matches appears once, one that
    changes at most once more, as its new version. (Whether it matches may be up to others, that it
    refers to. Re-indexing is left out: it moves resources without a new version.)"""
    chance = Random(seed)
    world = worlds.world(chance)
    type, query, sort, limit = worlds.search(chance, world)
    async with both() as (sqlite, memory):
        store: Store = chance.choice((sqlite, sqlite, memory))
        for each in {store, memory}:
            await worlds.grow(each, world, 3)
        states = [await pages(memory, type, query, (), 100)]
        seen: list[Version] = []
        after = None
        while True:
            page = await page_of(store, type, query, sort, Page(limit, after))
            seen += map(without_leaf, page.versions)
            after = page.after
            if after is None:
                break
            change = worlds.world(chance, 6) if chance.random() < 0.7 else []
            change = [step for step in change if not isinstance(step, worlds.Reindex)]
            for each in {store, memory}:
                await worlds.grow(each, change, 3)
            states.append(await pages(memory, type, query, (), 100))
    promised([{v.id: v for v in state} for state in states], seen)


def promised(states: list[dict[str, Version]], seen: list[Version]) -> None:
    shown: dict[str, list[Version]] = {}
    for version in seen:
        shown.setdefault(version.id, []).append(version)
    for id, version in states[0].items():
        always = [state.get(id) for state in states]
        if all(each == version for each in always):
            assert shown.get(id) == [version]
        elif None not in always:
            assert shown.get(id)
    for versions in shown.values():
        sequences = [version.sequence for version in versions]
        assert len(sequences) <= 2
        assert sequences == sorted(set(sequences))


@often
@seeds
def test_pages_keep_their_promises_while_others_write(seed):
    asyncio.run(page_among_writes(seed))


@often
@seeds
def test_pages_of_a_large_store_keep_theirs_too(large, seed):
    asyncio.run(page_among_writes(seed))


# --- that the comparison sees faults -------------------------------------------------------------


def _like(column, condition):
    """Contains as LIKE, which takes % and _ for wildcards and folds case."""
    if condition.operator == "contains" and condition.value is not None:
        return sql.Sql(f"{column} LIKE '%' || ? || '%'", (condition.value,))
    return sql.holds(column, condition)


def _nothing(*_):
    return []


FAULTS = {
    "a NOT is dropped": (terms, "_not", lambda compiled: compiled),
    "a prefix has no end": (sql, "_beyond", lambda prefix: None),
    "contains is LIKE": (matches, "holds", _like),
    "a link may lead to what is deleted": (terms, "live", lambda *_: lambda pk: sql.TRUE),
    "of alternatives only one counts": (terms, "_merged", lambda found: iter(found[:1])),
    "long ranges are taken for short": (
        matches,
        "SPANS",
        {**entries.SPANS, "range+": 1, "number+": 1},
    ),
    "an absent field is not looked at": (matches, "_present", lambda asked, _: asked and asked[:1]),
    "missing values are left out": (sorting, "_computed", _nothing),
    "an update leaves old entries": (resources, "read_rows", lambda *_: entries.Rows()),
    "ties are told apart differently": (sorting, "_tie", lambda *_: (">", "ASC")),
}
PAGING_FAULTS = {
    "a changed resource is forgotten": (search_module, "_changed", _nothing),
    "a changed resource comes where it now belongs": (
        search_module.Frame,
        "_known",
        lambda *_: sql.TRUE,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_search_is_seen(fault, monkeypatch):
    monkeypatch.setattr(*FAULTS[fault])
    with pytest.raises((AssertionError, apsw.Error)):
        for seed in range(2000):
            asyncio.run(compare(seed))


@pytest.mark.parametrize("fault", PAGING_FAULTS)
def test_a_fault_in_paging_is_seen(fault, monkeypatch):
    monkeypatch.setattr(*PAGING_FAULTS[fault])
    with pytest.raises(AssertionError):
        for seed in range(5000):
            asyncio.run(page_among_writes(seed))
