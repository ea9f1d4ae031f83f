"""The SQLite engine answers what the plain meaning answers, whatever is stored and asked."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

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
from tests.storage import worlds

KEY = bytes(range(32))
often = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


@asynccontextmanager
async def both():
    """An empty store of each kind, with clocks that agree."""
    with tempfile.TemporaryDirectory() as folder:
        sqlite = await SqliteStore.open(Path(folder), KEY, clock=worlds.Clock())
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
        found += page.versions
        after = page.after
        if after is None:
            return found


def ranks(oracle: MemoryStore, sort, versions: list[Version]):
    """What the plain meaning sorts these by."""
    return [sort_values(oracle.entries(version), sort) for version in versions]


async def agree(sqlite: SqliteStore, memory: MemoryStore, search) -> None:
    type, query, sort, limit = search
    ours = await pages(sqlite, type, query, sort, limit)
    theirs = await pages(memory, type, query, sort, limit)
    assert {v.id: v for v in ours} == {v.id: v for v in theirs}
    assert len(ours) == len(theirs)
    assert ranks(memory, sort, ours) == ranks(memory, sort, theirs)
    for bound in (None, 2):
        number = await sqlite.transaction(lambda tx, bound=bound: tx.count(type, query, bound))
        assert number == min(len(theirs), bound or len(theirs))


@often
@given(worlds.worlds, st.lists(worlds.searches, min_size=1, max_size=8), st.integers(1, 5))
def test_every_search_finds_what_the_plain_meaning_finds(world, searches, together):
    async def check():
        async with both() as (sqlite, memory):
            for store in (sqlite, memory):
                await worlds.grow(store, world, together)
            for search in searches:
                await agree(sqlite, memory, search)
            assert list(sqlite.check()) == []

    asyncio.run(check())


@often
@given(worlds.worlds, st.lists(worlds.searches, min_size=1, max_size=8))
def test_every_plan_finds_the_same(world, searches):
    """As if the store were large: drivers count as many, indexes are walked."""

    async def check():
        async with both() as (sqlite, memory):
            for store in (sqlite, memory):
                await worlds.grow(store, world, 5)
            for search in searches:
                await agree(sqlite, memory, search)

    with pytest.MonkeyPatch.context() as patch:
        for module in (plan, sorting, search_module):
            patch.setattr(module, "MANY", 1)
        patch.setattr(plan, "FEW", 0)
        asyncio.run(check())


# --- paging while others write -------------------------------------------------------------------


@often
@given(
    worlds.worlds,
    st.lists(worlds.worlds, max_size=6),
    worlds.searches,
    st.booleans(),
)
def test_a_page_after_another_keeps_its_promises_while_others_write(world, changes, search, large):
    """Over all pages a matching resource that does not change appears once, one that changes at most
    once more, as its new version; none is lost that still matches; sorted while it lasts."""
    type, query, sort, limit = search

    async def check(kind):
        async with both() as stores:
            store, oracle = stores[kind], stores[1]
            await worlds.grow(store, world, 3)
            if store is not oracle:
                await worlds.grow(oracle, world, 3)
            first = {v.id: v for v in await pages(oracle, type, query, (), 100)}
            seen: list[Version] = []
            after, waiting = None, list(changes)
            while True:
                page = await page_of(store, type, query, sort, Page(limit, after))
                seen += page.versions
                after = page.after
                if after is None:
                    break
                if waiting:
                    change = waiting.pop()
                    await worlds.grow(store, change, 3)
                    if store is not oracle:
                        await worlds.grow(oracle, change, 3)
            last = {v.id: v for v in await pages(oracle, type, query, (), 100)}
            promised(first, last, seen)

    with pytest.MonkeyPatch.context() as patch:
        if large:
            for module in (plan, sorting, search_module):
                patch.setattr(module, "MANY", 1)
        for kind in (0, 1):
            asyncio.run(check(kind))


def promised(first, last, seen):
    shown: dict[str, list[Version]] = {}
    for version in seen:
        shown.setdefault(version.id, []).append(version)
    for id, version in first.items():
        if last.get(id) == version:
            assert shown.get(id) == [version]
        elif id in last and last[id].number == version.number + 1:
            assert len(shown.get(id, ())) >= 1
    for versions in shown.values():
        numbers = [version.sequence for version in versions]
        assert len(numbers) <= 2
        assert numbers == sorted(set(numbers))


# --- that the comparison sees faults -------------------------------------------------------------


def _like(column, condition):
    """Contains as LIKE, which takes % and _ for wildcards and folds case."""
    if condition.operator == "contains" and condition.value is not None:
        return sql.Sql(f"{column} LIKE '%' || ? || '%'", (condition.value,))
    return sql.holds(column, condition)


FAULTS = {
    "a NOT is dropped": [(terms, "_not", lambda compiled: compiled)],
    "a prefix has no end": [(sql, "_beyond", lambda prefix: None)],
    "contains is LIKE": [(matches, "holds", _like)],
    "a link may lead to what is deleted": [(terms, "live", lambda *_: lambda pk: sql.TRUE)],
    "of alternatives only one counts": [(terms, "_merged", lambda found: iter(found[:1]))],
    "long ranges are taken for short": [(entries, "LONG", {"range": "range", "number": "number"})],
    "an absent field is not looked at": [
        (matches, "_present", lambda asked, _: asked and asked[:1])
    ],
    "missing values are left out": [(sorting, "_computed", lambda *_: [])],
    "an update leaves old entries": [(resources, "read_rows", lambda *_: entries.Rows())],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_engine_is_seen(fault, monkeypatch):
    @settings(
        max_examples=2000,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(worlds.worlds, st.lists(worlds.searches, min_size=1, max_size=8), st.integers(1, 5))
    def compare(world, searches, together):
        async def check():
            async with both() as (sqlite, memory):
                for store in (sqlite, memory):
                    await worlds.grow(store, world, together)
                for search in searches:
                    await agree(sqlite, memory, search)

        asyncio.run(check())

    for module, name, wrong in FAULTS[fault]:
        monkeypatch.setattr(module, name, wrong)
    with pytest.raises((AssertionError, apsw.Error)):
        compare()
