"""How the writes of many share a commit when one of them fails."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest

from fhir_server.storage.sqlite import lane
from fhir_server.storage.store import EVENTS, EVERYTHING, Event, Page, Version
from tests.storage.test_store import code, has_code, ids


def told(story):
    return asyncio.run(story())


class _Work:
    """Puts a resource with an event, and counts how often it was run; `fails` before or after it
    has written."""

    def __init__(self, store, number, fails=None):
        self.store, self.number, self.fails = store, number, fails
        self.runs = 0

    async def __call__(self, tx):
        self.runs += 1
        if self.fails == "before":
            raise RuntimeError("on purpose")
        version = Version("Patient", str(self.number), 1, tx.now, b"1")
        stored = await tx.put(version, [code(f"code-{self.number}")])
        event = await tx.record(Event(self.number, b"", b"", ()))
        if self.fails == "after":
            raise RuntimeError("on purpose")
        return stored.sequence, event

    async def done(self):
        return await self.store.transaction(self, write=True)


async def _all(works):
    return await asyncio.gather(*(work.done() for work in works), return_exceptions=True)


def _refused(told):
    return [isinstance(each, RuntimeError) for each in told]


def test_a_work_that_fails_before_it_writes_costs_its_neighbours_nothing(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            works = [_Work(store, n, "before" if n == 5 else None) for n in range(10)]
            assert _refused(await _all(works)) == [n == 5 for n in range(10)]
            assert [work.runs for work in works] == [1] * 10
            assert len(await ids(store)) == 9
            assert list(store.check()) == []

    told(story)


def test_the_neighbours_of_a_work_that_fails_after_it_wrote_run_again(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            works = [_Work(store, n, "after" if n == 5 else None) for n in range(10)]
            results = await _all(works)
            assert _refused(results) == [n == 5 for n in range(10)]
            assert [work.runs for work in works] == [2] * 5 + [1] * 5
            stored = sorted(each for each in results if isinstance(each, tuple))
            assert stored == [(n, str(n)) for n in range(1, 10)]
            assert sorted(map(int, await ids(store))) == [n for n in range(10) if n != 5]
            assert await ids(store, type=EVENTS) == [str(n) for n in range(1, 10)]
            assert list(store.check()) == []

    told(story)


def test_after_such_a_failure_works_fail_alone_for_a_while(open_sqlite, monkeypatch):
    monkeypatch.setattr(lane, "CAREFUL", 15)

    async def story():
        async with open_sqlite() as store:
            with pytest.raises(RuntimeError):
                await _Work(store, 0, "after").done()
            works = [_Work(store, n, "after" if n % 3 == 0 else None) for n in range(1, 16)]
            assert _refused(await _all(works)) == [n % 3 == 0 for n in range(1, 16)]
            assert [work.runs for work in works] == [1] * 15
            works = [_Work(store, n, "after" if n == 20 else None) for n in range(16, 21)]
            await _all(works)
            assert [work.runs for work in works] == [2, 2, 2, 2, 1]
            assert list(store.check()) == []

    told(story)


def test_closing_waits_for_works_that_run_again(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            works = [_Work(store, n, "after" if n == 5 else None) for n in range(10)]
            tasks = [asyncio.create_task(work.done()) for work in works]
            await asyncio.sleep(0)
            await store.close()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert _refused(results) == [n == 5 for n in range(10)]
        async with open_sqlite() as store:
            assert len(await ids(store)) == 9

    told(story)


@pytest.mark.parametrize("careful", [False, True])
def test_the_events_of_others_stay_when_a_work_looks_at_them_and_fails(open_sqlite, careful):
    async def looks(tx):
        await tx.count(EVENTS, EVERYTHING)  # so that what was deferred is written
        raise RuntimeError("on purpose")

    async def story():
        async with open_sqlite() as store:
            if careful:
                await _all([_Work(store, 99, "after")])
            works = [_Work(store, n) for n in range(6)]
            asked = [
                each for work in works for each in (work.done(), store.transaction(looks, True))
            ]
            done = await asyncio.gather(*asked, return_exceptions=True)
            events = await ids(store, EVERYTHING, type=EVENTS)
            assert [each for each in done[::2] if isinstance(each, Exception)] == []
            assert (
                sorted(event for _, event in done[::2]) == events == [str(n) for n in range(1, 7)]
            )
            assert await store.transaction(lambda tx: tx.size()) == 12
            assert list(store.check()) == []

    told(story)


def test_who_leaves_while_the_file_is_rebuilt_takes_nothing_from_who_writes(open_sqlite):
    """The connection is the rebuilding thread's until that is done, whoever waits for it."""

    async def story():
        async with open_sqlite() as store:
            begun, go = threading.Event(), threading.Event()

            def held():
                begun.set()
                go.wait(10)

            def job(conn):
                conn.create_scalar_function("held", held)
                conn.execute("SELECT held()").fetchall()

            before = asyncio.create_task(_Work(store, 0).done())
            rebuilding = asyncio.create_task(store._lane.alone(job))
            await asyncio.to_thread(begun.wait, 10)
            rebuilding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await rebuilding
            writing = asyncio.create_task(_Work(store, 1).done())
            await asyncio.sleep(0.05)
            assert not writing.done()
            go.set()
            assert [await before, await writing] == [(1, "1"), (2, "2")]
            assert list(store.check()) == []

    told(story)


def test_who_leaves_while_what_was_before_is_committed_leaves_nobody_without_an_answer(
    open_sqlite, monkeypatch
):
    async def story():
        begun, go = threading.Event(), threading.Event()
        commit = lane.Lane._commit_here

        def held(self):
            begun.set()
            go.wait(10)
            commit(self)

        monkeypatch.setattr(lane.Lane, "_commit_here", held)
        monkeypatch.setattr(lane, "QUICK_SECONDS", 0)
        async with open_sqlite() as store, asyncio.timeout(10):
            writing = [asyncio.create_task(_Work(store, n).done()) for n in range(5)]
            rebuilding = asyncio.create_task(store._lane.alone(lambda conn: None))
            await asyncio.to_thread(begun.wait, 10)
            rebuilding.cancel()
            await asyncio.sleep(0.05)
            go.set()
            assert len(await asyncio.gather(*writing)) == 5
            assert len(await ids(store)) == 5

    told(story)


def test_a_quick_commit_wakes_no_thread_and_a_slow_disk_makes_it_wake_one(open_sqlite, monkeypatch):
    monkeypatch.setattr(lane, "QUICK_SECONDS", 5.0)  # whatever else this machine does

    async def story():
        async with open_sqlite() as store:
            mine, threads = threading.get_ident(), []
            commit = store._lane._commit_here

            def noted():
                threads.append(threading.get_ident())
                commit()

            monkeypatch.setattr(store._lane, "_commit_here", noted)
            await _Work(store, 0).done()
            store._lane._usual = 2 * lane.QUICK_SECONDS  # as after commits that took so long
            await _Work(store, 1).done()
            for number in range(2, 40):  # until it is told that the disk is quick again
                await _Work(store, number).done()
            monkeypatch.setattr(lane, "FEW", 1)
            await _Work(store, 40).done()
            assert (threads[0], threads[-2]) == (mine, mine)
            assert mine not in (threads[1], threads[-1])
            assert len(await ids(store)) == 41

    told(story)


def test_the_log_of_writes_is_moved_into_the_file_once_it_is_long(open_sqlite, monkeypatch):
    monkeypatch.setattr(lane, "CHECKPOINT", 30)

    async def story():
        async with open_sqlite() as store:
            pages = []
            for number in range(60):
                await _Work(store, number).done()
                pages.append(store._lane._pages)
            assert max(pages[1:]) < 60
            assert sum(after < before for before, after in itertools.pairwise(pages)) > 3
            assert list(store.check()) == []

    told(story)


async def _found(tx, word):
    page = await tx.find("Patient", has_code(word), (), Page(100))
    return sorted(each.id for each in page.versions)


@pytest.mark.parametrize("careful", [False, True])
def test_rows_that_wait_are_there_for_who_looks_and_go_with_the_work_that_fails(
    open_sqlite, careful
):
    async def looks(tx):
        """Puts, looks, changes what waits, and puts more: all of it is to be gone."""
        await tx.put(Version("Patient", "mine", 1, tx.now, b"1"), [code("code-mine")])
        seen = [await _found(tx, "code-mine"), await _found(tx, "code-1")]
        await tx.put(Version("Patient", "mine", 2, tx.now, b"2"), [code("code-new")])
        await tx.put(Version("Patient", "mine", 3, tx.now, b"3"), [code("code-newer")])
        seen += [await _found(tx, each) for each in ("code-mine", "code-new", "code-newer")]
        await tx.put(Version("Patient", "more", 1, tx.now, b"1"), [code("code-mine")])
        assert seen == [["mine"], ["1"], [], [], ["mine"]]
        raise RuntimeError("on purpose")

    async def story():
        async with open_sqlite() as store:
            if careful:
                await _all([_Work(store, 99, "after")])
            works = [_Work(store, n) for n in range(6)]
            asked = [works[0].done(), works[1].done(), store.transaction(looks, True)]
            asked += [each.done() for each in works[2:]]
            done = await asyncio.gather(*asked, return_exceptions=True)
            assert [each.args for each in done if isinstance(each, Exception)] == [("on purpose",)]
            assert sorted(await ids(store)) == [str(n) for n in range(6)]
            for word in ("code-mine", "code-new", "code-newer"):
                assert await store.transaction(lambda tx, word=word: _found(tx, word)) == []
            assert await store.transaction(lambda tx: _found(tx, "code-5")) == ["5"]
            assert list(store.check()) == []

    told(story)


def test_what_is_changed_and_indexed_anew_while_its_rows_wait_has_the_last_ones(open_sqlite):
    async def work(tx):
        await tx.put(Version("Patient", "a", 1, tx.now, b"1"), [code("one")])
        await tx.put(Version("Patient", "a", 2, tx.now, b"2"), [code("one"), code("two")])
        await tx.reindex("Patient", "a", [code("two"), code("three")])
        await tx.put(Version("Patient", "b", 1, tx.now, b"1"), [code("three")])
        await tx.put(Version("Patient", "b", 2, tx.now, b"", deleted=True), ())

    async def story():
        async with open_sqlite() as store:
            await store.transaction(work, write=True)
            found = [
                await store.transaction(lambda tx, word=word: _found(tx, word))
                for word in ("one", "two", "three")
            ]
            assert found == [[], ["a"], ["a"]]
            assert list(store.check()) == []

    told(story)
