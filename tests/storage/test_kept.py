"""What every engine promises of kept records."""

from __future__ import annotations

import asyncio

import pytest

from fhir_server.storage.store import (
    ANY,
    Conflict,
    Kept,
)


def keep(store, *asked, **more):
    return store.transaction(lambda tx: tx.keep(*asked, **more), write=True)


def test_a_record_is_kept_and_its_revision_grows(with_store):
    async def story(store):
        assert await keep(store, "s", "k", b"1") == 1
        assert await keep(store, "s", "k", b"2", expect=1) == 2
        assert await keep(store, "s", "k", b"3", expect=ANY, until=2**60) == 3
        assert await store.transaction(lambda tx: tx.kept("s", "k")) == Kept("k", b"3", 3, 2**60)
        assert await store.transaction(lambda tx: tx.kept("t", "k")) is None
        for expect in (0, 2):
            with pytest.raises(Conflict) as conflict:
                await keep(store, "s", "k", b"4", expect=expect)
            assert conflict.value.current == 3
        with pytest.raises(Conflict) as conflict:
            await keep(store, "s", "new", b"4", expect=1)
        assert conflict.value.current == 0

    with_store(story)


def test_of_many_takers_one_gets_the_record(with_store):
    async def story(store):
        await keep(store, "s", "k", b"1")
        take = [store.transaction(lambda tx: tx.take("s", "k"), write=True) for _ in range(20)]
        assert sorted(filter(None, await asyncio.gather(*take))) == [Kept("k", b"1", 1, None)]

    with_store(story)


def test_an_expired_record_is_as_good_as_gone(with_store):
    now = [100]

    async def story(store):
        await keep(store, "s", "k", b"1", until=200)
        await keep(store, "s", "l", b"1", until=300)
        now[0] = 199
        assert await store.transaction(lambda tx: tx.kept("s", "k")) is not None
        now[0] = 200
        assert await store.transaction(lambda tx: tx.kept("s", "k")) is None
        assert [
            each.key for each in await store.transaction(lambda tx: tx.range("s", "", "~"))
        ] == ["l"]
        assert await store.transaction(lambda tx: tx.take("s", "k"), write=True) is None
        assert await keep(store, "s", "k", b"2", expect=0) == 1
        now[0] = 300
        assert await store.transaction(lambda tx: tx.clear("s", "", "~"), write=True) == 1

    with_store(story, clock=lambda: now[0])


def test_records_are_listed_and_cleared_by_key(with_store):
    async def story(store):
        for key in ("b", "a", "c", "é", ""):
            await keep(store, "s", key, b"")
            await keep(store, "t", key, b"")

        async def keys(low, high, limit=1000):
            found = await store.transaction(lambda tx: tx.range("s", low, high, limit))
            return [each.key for each in found]

        assert await keys("", "\U0010ffff") == ["", "a", "b", "c", "é"]
        assert await keys("a", "c") == ["a", "b"]
        assert await keys("", "z", 2) == ["", "a"]
        assert await store.transaction(lambda tx: tx.clear("s", "a", "c"), write=True) == 2
        assert await keys("", "\U0010ffff") == ["", "c", "é"]
        assert len(await store.transaction(lambda tx: tx.range("t", "", "z"))) == 4

    with_store(story)
