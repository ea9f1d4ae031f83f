"""What is answered is durable: the sync of its commit comes before the answer, and a power cut that
forgets what was not synced loses nothing that was acknowledged. `kill -9` could not show either,
since the kernel keeps what a dead process wrote."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from fhir_server.audit.verify import verify
from fhir_server.storage.sqlite import SqliteStore, schema
from fhir_server.storage.sqlite.proving import Reading
from fhir_server.storage.store import EVENTS, Event
from tests.derived_keys import DerivedKeys
from tests.storage import disks
from tests.storage.conftest import KEY
from tests.storage.test_store import code, has_code, ids, put


@pytest.fixture
def disk():
    return disks.Disk(disks.name())


@pytest.fixture(params=["off", "normal"])
def careless(request, monkeypatch):
    """The same engine with another `synchronous` than FULL."""
    pragmas = [
        ("synchronous", request.param, request.param) if row[0] == "synchronous" else row
        for row in schema.PRAGMAS
    ]
    assert pragmas != list(schema.PRAGMAS)
    monkeypatch.setattr(schema, "PRAGMAS", pragmas)


async def early_answers(folder, disk):
    """How many writes were answered while something written was not synced."""
    early = 0
    store = await SqliteStore.open(folder, KEY, DerivedKeys(), vfs=disk.name)

    async def write(number):
        nonlocal early
        if number % 4:
            await put(store, str(number), code("x"))
        else:
            await store.record([Event(number, b"", b"", (code("x"),))])
        early += disk.unsynced.get("salus.db-wal", 0) > 0

    for start in range(0, 200, 10):  # a commit begins only after the last one was answered
        await asyncio.gather(*(write(number) for number in range(start, start + 10)))
    await store.close()
    assert disk.log.count(("write", "salus.db-wal")) > 200
    return early


def test_no_answer_comes_before_the_sync_of_its_commit(tmp_path, disk):
    assert asyncio.run(early_answers(tmp_path / "data", disk)) == 0


def test_that_test_fails_for_a_careless_engine(tmp_path, disk, careless):
    assert asyncio.run(early_answers(tmp_path / "data", disk)) > 100


async def lost_by_power_cuts(tmp_path, disk):
    """Which acknowledged writes are gone after cuts at many moments of many writes at once."""
    store = await SqliteStore.open(tmp_path / "data", KEY, DerivedKeys(), vfs=disk.name)
    acknowledged: set[str] = set()
    recorded = 0
    lost: set[str] = set()

    async def write(numbers):
        nonlocal recorded
        for number in numbers:
            await put(store, str(number), code("x"))
            acknowledged.add(str(number))
            await store.record([Event(number, b"", b"", (code("x"),))])
            recorded += 1

    writers = [asyncio.create_task(write(range(start, start + 40))) for start in range(0, 320, 40)]
    for cut in range(8):
        before = len(acknowledged)
        while len(acknowledged) < before + 20:
            await asyncio.sleep(0)
        with disk.lock:
            promised, events = set(acknowledged), recorded
            disk.after_power_cut(tmp_path / f"cut{cut}")
        lost |= promised - await survivors(tmp_path / f"cut{cut}", events)
    await asyncio.gather(*writers)
    disk.after_power_cut(tmp_path / "end")
    lost |= acknowledged - await survivors(tmp_path / "end", recorded)
    await store.close()
    return lost


async def survivors(folder, events) -> set[str]:
    """What a store on the folder holds; nothing when it lacks acknowledged events. Its log has a leaf
    for each record, and a record for each leaf."""
    store = await SqliteStore.open(folder, KEY, DerivedKeys())
    try:
        assert list(store.check()) == []
        found = await store.transaction(lambda tx: tx.count(EVENTS, has_code("x")))
        return set(await ids(store, has_code("x"))) if found >= events else set()
    finally:
        await store.close()
        with closing(Reading(folder, KEY, DerivedKeys())) as reading:
            report = verify(reading)
        assert report.findings == ()
        assert report.size == report.records


def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path, disk):
    assert asyncio.run(lost_by_power_cuts(tmp_path, disk)) == set()


def test_that_test_fails_for_a_careless_engine_too(tmp_path, disk, careless):
    assert asyncio.run(lost_by_power_cuts(tmp_path, disk)) != set()
