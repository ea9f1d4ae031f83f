"""Current versions that are kept in memory are what the database holds, whoever writes meanwhile."""

from __future__ import annotations

import asyncio
import random

import pytest

from fhir_server.storage.sqlite import current
from fhir_server.storage.store import Erased, Version
from tests.derived_keys import DerivedKeys
from tests.storage.test_store import get, put


def told(story):
    return asyncio.run(story())


async def body(store, id: str) -> bytes:
    return (await get(store, id)).body


async def write(store, *ids: str, body: bytes) -> None:
    """A further version of each, in one transaction."""

    async def work(tx):
        for id in ids:
            there = await tx.get("Patient", id)
            number = there.number + 1 if there else 1
            await tx.put(Version("Patient", id, number, tx.now, body, "Patient/a"), ())

    await store.transaction(work, write=True)


def test_what_is_read_again_is_answered_without_the_database_until_it_changes(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            await write(store, "a", body=b"1")
            store._shared.current.clear()
            await body(store, "a")
            asked = traced(store)
            assert await body(store, "a") == b"1"
            assert asked == []
            store._shared.current.clear()
            assert await body(store, "a") == b"1"
            assert asked[0] == "BEGIN"

    told(story)


def traced(store) -> list[str]:
    """What the connection that reads next is asked from now on."""
    asked: list[str] = []
    store._readers._idle[-1].conn.exec_trace = lambda _, sql, __: asked.append(sql) or True
    return asked


def test_what_was_just_written_is_in_memory_and_is_what_the_database_holds(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            await write(store, "a", body=b"1")
            await get(store, "none")
            asked = traced(store)
            await write(store, "a", body=b"2")
            kept = await get(store, "a")
            assert asked == []
            await store.transaction(
                lambda tx: tx.put(Version("Patient", "a", 3, tx.now, b"", deleted=True), ()),
                write=True,
            )
            gone = await get(store, "a")
            assert (asked, gone.deleted) == ([], True)
            store._shared.current.clear()
            assert (await get(store, "a"), kept.body) == (gone, b"2")
            assert asked[0] == "BEGIN"

    told(story)


def test_of_many_versions_of_one_commit_and_of_large_ones_none_is_kept(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            ids = [f"p{number}" for number in range(current.PAGE + 1)]
            await write(store, *ids, body=b"1")
            await write(store, "large", body=b"1" * (current.LARGE + 1))
            assert store._shared.current.get(("Patient", "p0")) is None
            assert store._shared.current.get(("Patient", "large")) is None
            await write(store, *ids[1:], body=b"2")
            assert store._shared.current.get(("Patient", "p1")).body == b"2"

    told(story)


@pytest.mark.parametrize("careful", [0, 5])
def test_what_a_failed_work_wrote_is_not_kept_by_the_commit_of_the_others(open_sqlite, careful):
    async def story():
        async with open_sqlite() as store:
            await write(store, "a", "b", body=b"1")
            store._lane._careful = careful

            async def failing(tx):
                await tx.put(Version("Patient", "a", 2, tx.now, b"wrong"), ())
                assert (await tx.get("Patient", "a")).body == b"wrong"
                raise RuntimeError("no")

            first = asyncio.create_task(write(store, "b", body=b"2"))
            second = asyncio.create_task(store.transaction(failing, write=True))
            third = asyncio.create_task(write(store, "c", body=b"3"))
            found = await asyncio.gather(first, second, third, return_exceptions=True)
            assert [type(each) for each in found] == [type(None), RuntimeError, type(None)]
            seen = [await get(store, id) for id in "abc"]
            assert [each.body for each in seen] == [b"1", b"2", b"3"]
            store._shared.current.clear()
            assert [await get(store, id) for id in "abc"] == seen

    told(story)


def test_a_write_that_is_undone_leaves_what_was_there(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            await write(store, "a", body=b"1")
            await body(store, "a")

            async def work(tx):
                await tx.put(Version("Patient", "a", 2, tx.now, b"2"), ())
                raise RuntimeError("no")

            with pytest.raises(RuntimeError):
                await store.transaction(work, write=True)
            assert [await body(store, "a") for _ in range(3)] == [b"1"] * 3

    told(story)


def test_a_transaction_sees_one_state_though_a_commit_comes_between_two_of_its_questions(
    open_sqlite,
):
    async def story():
        async with open_sqlite() as store:
            await write(store, "a", "b", body=b"1")
            await body(store, "a")  # from now on in memory
            runs = []

            async def both(tx):
                first = await tx.get("Patient", "a")
                if not runs:
                    await write(store, "a", "b", body=b"2")
                runs.append(first.body)
                second = (await tx.history("Patient", "b", 1))[0]
                return first.body, second.body

            assert await store.transaction(both) == (b"2", b"2")
            assert runs == [b"1", b"2"]  # it ran again

    told(story)


@pytest.mark.parametrize("most", [0, 3_000, current.MOST])
def test_readers_see_whole_transactions_and_their_own_writes_while_others_write(
    open_sqlite, monkeypatch, most
):
    monkeypatch.setattr(current, "MOST", most)
    chance = random.Random(5)

    async def story():
        async with open_sqlite() as store:
            ids = [f"p{number}" for number in range(6)]
            await write(store, *ids, body=b"0")
            newest = 0

            async def writer():
                nonlocal newest
                for number in range(1, 60):
                    await write(store, *ids, body=b"%d" % number)
                    newest = number
                    if chance.random() < 0.3:
                        await asyncio.sleep(0)

            async def reader():
                for _ in range(120):
                    least = newest
                    one, other = chance.sample(ids, 2)

                    async def both(tx, one=one, other=other):
                        first = await tx.get("Patient", one)
                        if chance.random() < 0.5:
                            await asyncio.sleep(0)
                        return first, await tx.get("Patient", other)

                    first, second = await store.transaction(both)
                    assert first.body == second.body
                    assert int(first.body) >= least
                    await asyncio.sleep(0)

            await asyncio.gather(writer(), *(reader() for _ in range(4)))

    told(story)


def test_what_is_erased_or_whose_key_is_gone_is_not_shown_from_memory(open_sqlite):
    keys = DerivedKeys()

    async def story():
        async with open_sqlite(keys=keys) as store:
            await write(store, "a", "b", body=b"1")
            await put(store, "c")
            assert [await body(store, id) for id in "ab"] == [b"1", b"1"]
            held = store._writer.execute("SELECT id FROM sealing WHERE owner = 'Patient/a'").get
            keys.gone.add(held)
            with pytest.raises(Erased):
                await get(store, "b")
            await store.transaction(lambda tx: tx.erase("Patient/a"), write=True)
            assert await get(store, "a") is None
            assert await get(store, "c") is not None

    told(story)
