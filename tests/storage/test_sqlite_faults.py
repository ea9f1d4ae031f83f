"""What the SQLite engine promises when the disk fails and when a search takes long."""

from __future__ import annotations

import asyncio
import sys
import threading

import apsw
import pytest

from fhir_server.storage.sqlite import readers
from fhir_server.storage.sqlite.schema import DAMAGED
from fhir_server.storage.store import (
    EVENTS,
    Condition,
    Entry,
    Event,
    Match,
    StoreError,
    TooCostly,
    Unavailable,
    Version,
)
from tests.storage.test_store import ALL, code, get, has_code, ids, put

PATIENT = (
    code("Zebedee-code"),
    Entry("text", "family", text="quillfeather", code="Quillfeather"),
    Entry("link", "of", "Patient", "Xanthippe-id"),
    Entry("range", "birthdate", low=1, high=2),
)


def told(story):
    return asyncio.run(story())


# --- failures of the disk --------------------------------------------------------------------------


class _FullDisk(apsw.VFS):
    """A file system that refuses to write while `full` is set, and to read while `broken` is."""

    def __init__(self):
        super().__init__("fulldisk", "unix")
        self.full = self.broken = False

    def xOpen(self, name, flags):
        return _FullFile(self, name, flags)


class _FullFile(apsw.VFSFile):
    def __init__(self, vfs, name, flags):
        self.vfs = vfs
        super().__init__("unix", name, flags)

    def xWrite(self, data, offset):
        if self.vfs.full:
            raise apsw.FullError
        super().xWrite(data, offset)

    def xRead(self, amount, offset):
        if self.vfs.broken:
            raise apsw.IOError
        return super().xRead(amount, offset)


_DISK = _FullDisk()  # for ever: the cipher's VFS above it keeps pointing at it


@pytest.fixture
def full_disk():
    yield _DISK
    _DISK.full = _DISK.broken = False


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_told_to_everybody_and_passes(open_sqlite, full_disk, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", lambda *_: None)  # apsw reports what a VFS raises

    async def story():
        async with open_sqlite(vfs="multipleciphers-fulldisk") as store:
            await put(store, "before", code("x"))
            full_disk.full = True
            tasks = [put(store, str(n), code("new")) for n in range(5)]
            told = await asyncio.gather(
                *tasks, store.record([Event(1, b"", b"", ())]), return_exceptions=True
            )
            assert [type(each) for each in told] == [Unavailable] * 6
            assert await ids(store) == ["before"]
            full_disk.full = False
            await put(store, "after", code("new"))
            await store.record([Event(1, b"", b"", ())])
            assert await ids(store, has_code("new")) == ["after"]
            assert await ids(store, type=EVENTS) == ["1"]
            assert list(store.check()) == []

    told(story)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broken_disk_is_told_to_who_reads(open_sqlite, full_disk, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", lambda *_: None)

    async def story():
        async with open_sqlite(vfs="multipleciphers-fulldisk") as store:
            await put(store, "a", code("x"))
            await get(store, "a")
            await put(store, "b", code("x"))  # so that the reader's pages are stale
            store._shared.current.clear()
            full_disk.broken = True
            with pytest.raises(Unavailable, match="check the disk"):
                await get(store, "b")
            full_disk.broken = False
            assert await ids(store, has_code("x")) == ["a", "b"]

    told(story)


def test_whatever_page_is_damaged_a_start_fails_with_a_sentence_that_says_what_to_do(
    open_sqlite, tmp_path
):
    async def write():
        async with open_sqlite() as store:
            for number in range(200):
                await put(store, str(number), *PATIENT)

    async def read():
        async with open_sqlite() as store:
            await store.transaction(lambda tx: tx.notices())
            await store.transaction(lambda tx: tx.range("space", "", "z"), write=True)
            await ids(store)

    asyncio.run(write())
    file = tmp_path / "data" / "salus.db"
    whole, said = file.read_bytes(), []
    for page in range(0, len(whole), 4096):
        bad = bytearray(whole)
        bad[page + 2000] ^= 1
        file.write_bytes(bad)
        try:
            asyncio.run(read())
        except StoreError as error:
            said.append(str(error))
    assert said.pop(0).endswith("start with the key folder it was made with")
    assert len(said) > 10
    assert {each.partition(" is damaged and cannot be ")[0] for each in said} == {
        str(file),
        "The database",
    }
    assert all(each.endswith(f": {DAMAGED}") for each in said)
    file.write_bytes(whole)
    asyncio.run(read())


# --- long searches -------------------------------------------------------------------------------

# Nothing drives this but a scan with a probe for every resource.
SLOW = Match(
    "text", "text", (Condition("text", "contains", "x"), Condition("text", "contains", "needle"))
)


async def _many_phrases(store, number=40_000):
    async def work(tx):
        for part in range(0, number, 1000):
            texts = [Entry("text", "text", text=f"x{n}" * 8) for n in range(part, part + 1000)]
            await tx.put(Version("Patient", str(part), 1, tx.now, b"1"), texts)

    await store.transaction(work, write=True)


def test_a_long_search_leaves_the_loop_free_and_answers(open_sqlite, monkeypatch):
    monkeypatch.setattr(readers, "INLINE_SECONDS", 0.0)
    monkeypatch.setattr(readers, "INLINE_STEPS", 100)

    async def story():
        async with open_sqlite() as store:
            await _many_phrases(store)
            searching = asyncio.create_task(ids(store, SLOW))
            await asyncio.sleep(0)
            assert not searching.done()
            assert await get(store, "0")  # meanwhile
            assert await searching == []

    told(story)


def test_a_search_that_takes_too_long_is_given_up(open_sqlite, monkeypatch):
    monkeypatch.setattr(readers, "INLINE_SECONDS", 0.0)
    monkeypatch.setattr(readers, "INLINE_STEPS", 100)
    monkeypatch.setattr(readers, "THREAD_STEPS", 100)

    async def story():
        async with open_sqlite(search_seconds=0.0) as store:
            await _many_phrases(store)
            for write in (False, True):
                with pytest.raises(TooCostly, match="longer than 0 seconds"):
                    await store.transaction(lambda tx: tx.find("Patient", SLOW, (), ALL), write)
                with pytest.raises(TooCostly):
                    await store.transaction(lambda tx: tx.count("Patient", SLOW), write)
            assert await get(store, "0")
            await put(store, "after")

    told(story)


class _Ticking:
    """A clock that goes on by 1/16 s whenever it is looked at."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1 / 16
        return self.now


def test_the_searches_of_one_write_have_a_time_together_and_beyond_it_nothing_is_done(
    open_sqlite, monkeypatch
):
    async def story():
        async with open_sqlite(writing_seconds=1.0) as store:
            await put(store, "before", code("x"))
            monkeypatch.setattr(readers, "monotonic", _Ticking())

            def work(id, searches):
                async def run(tx):
                    await tx.put(Version("Patient", id, 1, tx.now, b"1"), ())
                    for number in range(searches):
                        if number % 2:
                            await tx.find("Patient", has_code("x"), (), ALL)
                        else:
                            await tx.count("Patient", has_code("x"))

                return store.transaction(run, write=True)

            # Each search takes two ticks: from its begin to its end, with a look in between.
            done = await asyncio.gather(
                work("few", 8), work("many", 9), work("again", 8), return_exceptions=True
            )
            assert [type(each) for each in done] == [type(None), TooCostly, type(None)]
            assert str(done[1]) == "The searches of one write took longer than 1 seconds"
            assert sorted(await ids(store)) == ["again", "before", "few"]
            assert list(store.check()) == []

    told(story)


def test_a_search_of_a_write_does_not_wait_for_those_of_others(open_sqlite, monkeypatch):
    monkeypatch.setattr(readers, "INLINE_SECONDS", 0.0)
    monkeypatch.setattr(readers, "INLINE_STEPS", 100)

    async def story():
        async with open_sqlite() as store:
            await _many_phrases(store)
            held = threading.Event()
            busy = [store._threads.run(held.wait) for _ in range(4)]
            try:
                search = store.transaction(lambda tx: tx.find("Patient", SLOW, (), ALL), write=True)
                assert (await asyncio.wait_for(search, 10)).versions == ()
                assert not any(each.done() for each in busy)
            finally:
                held.set()
            await asyncio.gather(*busy)

    told(story)


def test_a_long_search_that_is_cancelled_frees_its_connection(open_sqlite, monkeypatch):
    monkeypatch.setattr(readers, "INLINE_SECONDS", 0.0)
    monkeypatch.setattr(readers, "INLINE_STEPS", 100)
    monkeypatch.setattr(readers, "THREAD_STEPS", 100)
    monkeypatch.setattr(readers, "LIMIT", 1)

    async def story():
        async with open_sqlite() as store:
            await _many_phrases(store)
            searching = asyncio.create_task(ids(store, SLOW))
            await asyncio.sleep(0)
            searching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await searching
            assert await get(store, "0")

    told(story)


def test_more_readers_than_connections_take_turns(open_sqlite, monkeypatch):
    monkeypatch.setattr(readers, "LIMIT", 2)

    async def story():
        async with open_sqlite() as store:
            await put(store, "a")

            async def slowly(tx):
                await asyncio.sleep(0.001)
                return await tx.get("Patient", "a")

            tasks = [asyncio.create_task(store.transaction(slowly)) for _ in range(20)]
            await asyncio.sleep(0)
            for task in tasks[3:6]:
                task.cancel()
            told = await asyncio.gather(*tasks, return_exceptions=True)
            assert sum(isinstance(each, Version) for each in told) == 17

    told(story)
