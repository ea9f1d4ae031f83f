"""What the SQLite engine remembers is never out of date, shared or mixed up; it knows its rows."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from fhir_server.storage.sqlite.codec import Bodies
from fhir_server.storage.store import (
    All,
    Condition,
    Entry,
    Match,
    Page,
    ReferredBy,
    RefersTo,
    Sort,
)
from tests.storage.test_store import code, has_code, put


def told(story):
    return asyncio.run(story())


async def total(store, query, type="Patient"):
    return await store.transaction(lambda tx: tx.count(type, query))


def test_a_total_follows_every_write(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            seen = []
            await put(store, "a", code("x"), owner="Patient/a")
            seen.append(await total(store, has_code("x")))
            await put(store, "b", code("x"))
            seen.append(await total(store, has_code("x")))
            await put(store, "b", code("z"))
            seen.append(await total(store, has_code("x")))
            await store.transaction(lambda tx: tx.reindex("Patient", "b", [code("x")]), write=True)
            seen.append(await total(store, has_code("x")))
            await put(store, "b", deleted=True)
            seen.append(await total(store, has_code("x")))
            await store.transaction(lambda tx: tx.erase("Patient/a"), write=True)
            seen.append(await total(store, has_code("x")))
            assert seen == [1, 2, 1, 2, 1, 0]

    told(story)


def test_a_total_over_references_follows_the_other_type(open_sqlite):
    subject = Entry("link", "subject", "Patient", "a")
    of_x = RefersTo("subject", "Patient", has_code("x"))
    named = ReferredBy("Observation", "subject", All())

    async def story():
        async with open_sqlite() as store:
            await put(store, "o", subject, type="Observation")
            before = await total(store, of_x, "Observation")
            await put(store, "a", code("x"))
            assert (before, await total(store, of_x, "Observation")) == (0, 1)
            before = await total(store, named)
            await put(store, "o", type="Observation")
            assert (before, await total(store, named)) == (1, 0)

    told(story)


def test_a_write_transaction_counts_what_it_wrote_and_leaves_nothing_of_it_behind(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            await put(store, "a", code("x"))

            async def work(tx):
                await tx.reindex("Patient", "a", [code("z")])
                counted.append(await tx.count("Patient", has_code("x")))
                raise ZeroDivisionError

            counted = [await total(store, has_code("x"))]
            with pytest.raises(ZeroDivisionError):
                await store.transaction(work, write=True)
            counted.append(await total(store, has_code("x")))
            assert counted == [1, 0, 1]

    told(story)


@pytest.mark.parametrize("codes", [("x", "y"), tuple("xyabcdefg")])
def test_a_resource_with_two_of_the_codes_is_found_and_counted_once(open_sqlite, codes):
    either = Match("code", "token", (Condition("code", "in", frozenset(codes)),))

    async def story():
        async with open_sqlite() as store:
            for n in range(5):
                await put(store, f"p{n}", *map(code, ("x", "y", "q")[n % 3 :]))
            shown, after = [], None
            while True:
                ask = Page(2, after)
                found = await store.transaction(
                    lambda tx, ask=ask: tx.find("Patient", either, (), ask)
                )
                shown += [version.id for version in found.versions]
                after = found.after
                if after is None:
                    break
            assert shown == ["p0", "p1", "p3", "p4"]
            assert await total(store, either) == 4
            assert await store.transaction(lambda tx: tx.count("Patient", either, 3)) == 3

    told(story)


def test_one_shape_of_search_takes_other_values_each_time(open_sqlite):
    by_date = (Sort(("date",), "range", True, True),)

    def of(id):
        return Match("subject", "link", (Condition("code", "eq", id),))

    async def story():
        async with open_sqlite() as store:
            for n, subject in enumerate("abab"):
                link = Entry("link", "subject", "Patient", subject, low=n)
                date = Entry("range", "date", low=n, high=n)
                await put(store, f"o{n}", link, date, type="Observation")
            found = [
                await store.transaction(
                    lambda tx, id=id: tx.find("Observation", of(id), by_date, Page(9))
                )
                for id in "abac"
            ]
            ids = [[version.id for version in each.versions] for each in found]
            assert ids == [["o2", "o0"], ["o3", "o1"], ["o2", "o0"], []]

    told(story)


ENTRIES = (
    code("x"),
    Entry("text", "family", text="reed", code="Reed"),
    Entry("range", "birthdate", low=1, high=2),
    Entry("link", "of", "Patient", "b"),
)


@pytest.mark.parametrize("lost", range(len(ENTRIES)))
def test_a_resource_agrees_with_exactly_the_entries_it_was_put_with(open_sqlite, lost):
    fewer = [each for n, each in enumerate(ENTRIES) if n != lost]
    more = [*ENTRIES, Entry("token", "gender", code="male")]

    async def story():
        async with open_sqlite() as store:
            await put(store, "a", *ENTRIES)
            answers = [
                await store.transaction(lambda tx, asked=asked: tx.agrees("Patient", "a", asked))
                for asked in (ENTRIES, fewer, more)
            ]
            assert answers == [True, False, False]

    told(story)


def test_a_token_that_the_table_lost_is_no_agreement(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            await put(store, "a", *ENTRIES)
            store._writer.execute("DELETE FROM token")
            assert not await store.transaction(lambda tx: tx.agrees("Patient", "a", ENTRIES))

    told(story)


def test_bodies_are_read_by_several_threads_at_once():
    chance = Random(7)
    bodies = Bodies({1: chance.randbytes(4_000).hex().encode()})
    texts = [chance.randbytes(chance.randint(100, 3_000)).hex().encode() * 3 for _ in range(50)]
    packed = [bodies.pack(text) for text in texts]

    def read(_):
        return all([bodies.unpack(each) for each in packed] == texts for _ in range(400))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(read, range(4)))
