"""What a search takes from memory is what the database holds, whatever became of it meanwhile."""

from __future__ import annotations

import asyncio
import random

import pytest

from fhir_server.storage.sqlite import current, opened
from fhir_server.storage.store import (
    EVERYTHING,
    Condition,
    Erased,
    Match,
    Page,
    Sort,
    Unavailable,
    Version,
)
from tests.derived_keys import DerivedKeys
from tests.storage.test_store import code, get, has_code, ids, put


def told(story):
    return asyncio.run(story())


async def bodies(store, query=EVERYTHING, limit=1000, *sort):
    found = await store.transaction(lambda tx: tx.find("Patient", query, sort, Page(limit)))
    return [version.body for version in found.versions]


async def several(store, count):
    """So many patients, in one transaction."""

    async def work(tx):
        for number in range(count):
            body = b"%d" % number
            await tx.put(Version("Patient", f"p{number}", 1, tx.now, body), ())

    await store.transaction(work, write=True)


@pytest.fixture
def opening(monkeypatch):
    """How many versions were opened by searches."""
    rows, counted = opened._rows, []

    def counting(reach, pks):
        counted.extend(pks)
        return rows(reach, pks)

    monkeypatch.setattr(opened, "_rows", counting)
    return counted


def test_a_page_that_is_asked_for_again_opens_nothing_not_even_what_was_written_meanwhile(
    open_sqlite, opening
):
    async def story():
        async with open_sqlite() as store:
            for id in "abc":
                await put(store, id)
            store._shared.current.clear()
            assert await bodies(store) == [b"a 1", b"b 1", b"c 1"]
            assert len(opening) == 3
            assert await bodies(store) == [b"a 1", b"b 1", b"c 1"]
            assert len(opening) == 3
            await put(store, "b")
            assert sorted(await bodies(store)) == [b"a 1", b"b 2", b"c 1"]
            await put(store, "a", deleted=True)
            assert sorted(await bodies(store)) == [b"b 2", b"c 1"]
            assert len(opening) == 3
            store._shared.current.clear()
            assert sorted(await bodies(store)) == [b"b 2", b"c 1"]
            assert len(opening) == 5

    told(story)


def test_a_read_opens_nothing_that_a_search_has_and_the_other_way_round(open_sqlite, opening):
    async def story():
        async with open_sqlite() as store:
            await put(store, "a")
            store._shared.current.clear()
            assert await bodies(store) == [b"a 1"]
            asked = []
            store._readers._idle[-1].conn.exec_trace = lambda _, sql, __: asked.append(sql) or True
            assert (await get(store, "a")).body == b"a 1"
            assert asked == []
            await put(store, "a")
            assert (await get(store, "a")).body == b"a 2"
            assert await bodies(store) == [b"a 2"]
            assert len(opening) == 1

    told(story)


def test_the_row_behind_a_page_is_not_opened(open_sqlite, opening):
    async def story():
        async with open_sqlite() as store:
            await several(store, 5)
            store._shared.current.clear()
            assert await bodies(store, EVERYTHING, 2) == [b"0", b"1"]
            assert len(opening) == 2

    told(story)


def test_a_page_with_more_versions_than_one_statement_opens_is_whole(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            await several(store, 70)
            for limit in (1, 15, 16, 17, 33, 69, 70):
                async with asyncio.timeout(5):
                    assert await bodies(store, EVERYTHING, limit) == [
                        b"%d" % n for n in range(limit)
                    ]
                    store._shared.current.clear()

    told(story)


def test_what_is_erased_or_whose_key_is_gone_or_away_is_not_found_in_memory(open_sqlite):
    keys = DerivedKeys()

    async def story():
        async with open_sqlite(keys=keys) as store:
            await put(store, "a", code("x"), owner="Patient/a")
            await put(store, "b", code("y"), owner="Patient/b")
            assert await bodies(store) == [b"a 1", b"b 1"]
            held = store._writer.execute("SELECT id FROM sealing WHERE owner = 'Patient/a'").get
            keys.gone.add(held)
            with pytest.raises(Erased):
                await bodies(store)
            assert await bodies(store, has_code("y")) == [b"b 1"]
            await store.transaction(lambda tx: tx.erase("Patient/a"), write=True)
            assert await bodies(store) == [b"b 1"]
            keys.cipher = away
            with pytest.raises(Unavailable):
                await bodies(store)

    def away(_):
        raise Unavailable("the key service does not answer")

    told(story)


def test_what_is_redacted_is_found_as_it_is_now(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            await put(store, "a")
            assert await bodies(store) == [b"a 1"]
            assert (await get(store, "a")).body == b"a 1"
            await store.transaction(lambda tx: tx.redact("Patient", "a", 1, b"-"), write=True)
            assert await bodies(store) == [b"-"]
            assert (await get(store, "a")).body == b"-"

    told(story)


def test_a_large_page_and_a_large_body_push_out_nothing(open_sqlite, opening, monkeypatch):
    monkeypatch.setattr(current, "PAGE", 3)
    monkeypatch.setattr(current, "LARGE", 10)

    async def story():
        async with open_sqlite() as store:
            await several(store, 4)
            for expected in (4, 8):
                await bodies(store)
                assert len(opening) == expected

            async def work(tx):
                body = b"more than ten bytes"
                await tx.put(Version("Patient", "p0", 2, tx.now, body), ())

            await store.transaction(work, write=True)
            del opening[:]
            for expected in (1, 2):
                await bodies(store, Match("_id", "token", (Condition("code", "eq", "p0"),)))
                assert len(opening) == expected

    told(story)


def test_what_is_kept_is_bounded(open_sqlite, monkeypatch):
    monkeypatch.setattr(current, "MOST", 10 * current._EACH)

    async def story():
        async with open_sqlite() as store:
            await several(store, 300)
            after = None
            while True:
                page = Page(7, after)
                found = await store.transaction(
                    lambda tx, page=page: tx.find("Patient", EVERYTHING, (), page)
                )
                after = found.after
                held = store._shared.current
                assert len(held._recent) + len(held._older) <= 2 * 10 + 1
                assert len(held._recent_found) + len(held._older_found) <= 2 * 10 + 1
                if after is None:
                    break

    told(story)


@pytest.mark.parametrize("most", [0, 3_000, current.MOST])
def test_pages_are_of_one_state_while_others_write(open_sqlite, monkeypatch, most):
    monkeypatch.setattr(current, "MOST", most)
    chance = random.Random(7)

    async def story():
        async with open_sqlite() as store:
            names = [f"p{number}" for number in range(6)]

            async def rewrite(number):
                async def work(tx):
                    for id in names:
                        body = b"%d" % number
                        await tx.put(Version("Patient", id, number, tx.now, body, "Patient/a"), ())

                await store.transaction(work, write=True)

            await rewrite(1)
            newest = 1

            async def writer():
                nonlocal newest
                for number in range(2, 60):
                    await rewrite(number)
                    newest = number
                    if chance.random() < 0.3:
                        await asyncio.sleep(0)

            async def reader():
                for _ in range(80):
                    least = newest

                    async def both(tx):
                        first = await tx.find("Patient", EVERYTHING, (), Page(6))
                        if chance.random() < 0.5:
                            await asyncio.sleep(0)
                        again = await tx.find("Patient", EVERYTHING, (), Page(4))
                        return [*first.versions, *again.versions, await tx.get("Patient", "p1")]

                    told = {version.body for version in await store.transaction(both)}
                    assert len(told) == 1
                    assert int(told.pop()) >= least
                    await asyncio.sleep(0)

            await asyncio.gather(writer(), *(reader() for _ in range(4)))

    told(story)


def test_what_nobody_had_when_it_was_asked_for_is_found_once_somebody_has(open_sqlite):
    by_rank = Sort(("rank",), "token")

    async def story():
        async with open_sqlite() as store:
            await put(store, "a")
            asked = has_code("x", "rank")
            begun, written = asyncio.Event(), asyncio.Event()

            async def early(tx):
                """Looks at the state of before, and after the write too."""
                before = (await tx.find("Patient", asked, (), Page(10))).versions
                begun.set()
                await written.wait()
                return before, (await tx.find("Patient", asked, (), Page(10))).versions

            running = asyncio.ensure_future(store.transaction(early))
            await begun.wait()
            assert await ids(store, asked) == []
            assert await ids(store, EVERYTHING, by_rank) == ["a"]
            await put(store, "b", code("x", "rank"))
            written.set()
            assert await running == ((), ())
            assert await ids(store, asked) == ["b"]
            assert await ids(store, EVERYTHING, by_rank) == ["b", "a"]
            assert await ids(store, EVERYTHING, type="Device") == []
            await put(store, "d", type="Device")
            assert await ids(store, EVERYTHING, type="Device") == ["d"]

    told(story)


def test_what_was_undone_lacks_again_and_is_found_once_it_is_there(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            asked = has_code("x", "rank")
            assert await ids(store, asked) == []

            async def work(tx):
                await tx.put(Version("Patient", "a", 1, tx.now, b"1"), (code("x", "rank"),))
                raise RuntimeError("no")

            with pytest.raises(RuntimeError):
                await store.transaction(work, write=True)
            assert await ids(store, asked) == []
            await put(store, "a", code("x", "rank"))
            assert await ids(store, asked) == ["a"]

    told(story)
