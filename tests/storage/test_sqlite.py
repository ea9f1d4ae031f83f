"""What the SQLite engine alone promises: of its folder, its file, long searches and failures."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys

import pytest

from fhir_server.storage.sqlite import SqliteStore, lane, migrations
from fhir_server.storage.sqlite.renewal import renew_data_keys
from fhir_server.storage.sqlite.schema import FILE, VERSION, connect
from fhir_server.storage.store import (
    EVENTS,
    Entry,
    Event,
    StoreError,
    Version,
)
from tests.derived_keys import DerivedKeys
from tests.storage.conftest import KEY
from tests.storage.test_store import code, get, has_code, ids, put

PATIENT = (
    code("Zebedee-code"),
    Entry("text", "family", text="quillfeather", code="Quillfeather"),
    Entry("link", "of", "Patient", "Xanthippe-id"),
    Entry("range", "birthdate", low=1, high=2),
)


def told(story):
    return asyncio.run(story())


# --- the folder ----------------------------------------------------------------------------------


def test_everything_is_there_again_after_a_restart(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            written = await put(store, "a", *PATIENT, owner="Patient/a")
            await put(store, "a", *PATIENT, owner="Patient/a")
            await store.record([Event(5, b"<", b">", (code("R", "action"),))])
            await store.transaction(lambda tx: tx.keep("s", "k", b"v"), write=True)
        async with open_sqlite() as store:
            assert await get(store, "a", 1) == written
            assert await ids(store, has_code("Zebedee-code")) == ["a"]
            assert await ids(store, has_code("R", "action"), type=EVENTS) == ["1"]
            assert (await store.transaction(lambda tx: tx.kept("s", "k"))).value == b"v"
            third = await put(store, "b")
            assert third.sequence == written.sequence + 2
            await store.record([Event(5, b"<", b">", ())])
            assert await ids(store, type=EVENTS) == ["1", "2"]
            assert list(store.check()) == []

    told(story)


def test_nothing_stored_can_be_read_in_any_file_of_the_folder(open_sqlite, tmp_path):
    words = [
        b"Zebedee",
        b"uillfeather",
        b"Xanthippe",
        b"ounted-body",
        b"kept-value",
        b"birthdate",
        KEY,
        KEY.hex().encode(),
    ]

    def seen():
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert len(files) > 1
        return [word for file in files for word in words if word in file.read_bytes()]

    async def story():
        async with open_sqlite() as store:
            for number in range(20):
                version = Version("Patient", str(number), 1, 0, b'{"counted-body":"counted-body"}')

                async def work(tx, version=version):
                    await tx.put(Version("Patient", version.id, 1, tx.now, version.body), PATIENT)
                    await tx.keep("s", "k", b"kept-value")

                await store.transaction(work, write=True)
            assert await ids(store, has_code("Zebedee-code"))
            assert seen() == []  # with the log of what is not yet in the main file
        assert seen() == []

    told(story)
    # The fault beside it: the same file in clear would show.
    plain = sqlite3.connect(tmp_path / "plain.db")
    plain.execute("CREATE TABLE t AS SELECT 'Quillfeather'")
    plain.commit()
    plain.close()
    assert seen() == [b"uillfeather"]


def test_a_wrong_key_is_refused(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            await put(store, "a")
        with pytest.raises(StoreError, match="cannot be read with this key"):
            async with open_sqlite(key=bytes(32)):
                pass
        async with open_sqlite() as store:
            assert await get(store, "a")

    told(story)


def test_a_second_store_on_the_folder_is_refused_and_names_the_first(open_sqlite, tmp_path):
    program = (
        "import asyncio, sys; from pathlib import Path; from fhir_server.storage.sqlite import SqliteStore\n"
        "try: asyncio.run(SqliteStore.open(Path(sys.argv[1]), bytes(range(32)), None))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )

    def start():
        return subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "data")],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    async def story():
        async with open_sqlite() as store:
            with pytest.raises(StoreError, match=f"in use by process {os.getpid()} on "):
                async with open_sqlite():
                    pass
            assert (
                f"StoreError {tmp_path / 'data'} is in use by process {os.getpid()} on " in start()
            )
            await put(store, "a")  # the first is not disturbed
        assert start() == ""

    told(story)


def test_a_folder_of_a_newer_version_is_refused(open_sqlite, tmp_path, monkeypatch):
    async def story():
        async with open_sqlite():
            pass
        monkeypatch.setattr(migrations, "VERSION", VERSION - 1)
        with pytest.raises(StoreError, match=f"written by a newer Salus .schema {VERSION}"):
            async with open_sqlite():
                pass

    told(story)


def test_an_older_folder_is_migrated_step_by_step(open_sqlite, monkeypatch):
    def first(conn, _):
        conn.execute("CREATE TABLE came (step)")

    def second(conn, _):
        conn.execute("INSERT INTO came VALUES (2)")
        if fails:
            raise RuntimeError("power cut")

    fails = True

    async def story():
        nonlocal fails
        async with open_sqlite() as store:
            await put(store, "a")
        monkeypatch.setattr(migrations, "VERSION", VERSION + 2)
        monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, first, second))
        with pytest.raises(RuntimeError, match="power cut"):
            async with open_sqlite():
                pass
        fails = False
        async with open_sqlite() as store:  # goes on where it stopped
            assert store._writer.execute("SELECT step FROM came").get == 2
            assert await get(store, "a")
        async with open_sqlite() as store:
            assert store._writer.execute("SELECT count(*) FROM came").get == 1

    told(story)


def test_another_extraction_asks_for_a_reindex_until_it_is_done(open_sqlite):
    async def story():
        async with open_sqlite(extraction="one") as store:
            assert store.extraction_current
            await put(store, "a", code("old"))
        async with open_sqlite(extraction="two") as store:
            assert not store.extraction_current
        async with open_sqlite(extraction="two") as store:
            assert not store.extraction_current  # a restart forgets nothing

            async def reindex(tx):
                async for version in tx.walk():
                    await tx.reindex(version.type, version.id, [code("new")])

            await store.transaction(reindex, write=True)
            await store.finish_reindex("two")
            assert store.extraction_current
        async with open_sqlite(extraction="two") as store:
            assert store.extraction_current
            assert await ids(store, has_code("new")) == ["a"]

    told(story)


def test_a_file_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / FILE).write_bytes(b"no database at all" * 1000)

    async def story():
        with pytest.raises(StoreError, match="cannot be read with this key"):
            await SqliteStore.open(tmp_path / "data", KEY, DerivedKeys())

    told(story)


def test_a_closed_store_refuses(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            await put(store, "a")
        for asked in (get(store, "a"), put(store, "b"), store.record([])):
            with pytest.raises(StoreError, match="closed"):
                await asked
        await store.close()  # again does nothing

    told(story)


def test_closing_waits_for_what_was_begun(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            begun = [asyncio.create_task(put(store, str(number))) for number in range(50)]
            begun.append(asyncio.create_task(store.record([Event(1, b"", b"", ())])))
            await asyncio.sleep(0)
        await asyncio.gather(*begun)
        async with open_sqlite() as store:
            assert len(await ids(store)) == 50
            assert await ids(store, type=EVENTS) == ["1"]

    told(story)


# --- the commit of many --------------------------------------------------------------------------


def test_what_waits_is_committed_together(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            commits = 0
            commit = store._lane._commit_here

            def counted():
                nonlocal commits
                commits += 1
                commit()

            store._lane._commit_here = counted
            await asyncio.gather(*(put(store, str(number)) for number in range(100)))
            assert commits < 20
            assert len(await ids(store)) == 100

    told(story)


def test_one_that_fails_does_not_undo_its_neighbours(open_sqlite):
    async def story():
        async with open_sqlite() as store:

            async def odd_ones_fail(number):
                async def work(tx):
                    await tx.put(
                        Version("Patient", str(number), 1, tx.now, b"1"), [code(str(number % 7))]
                    )
                    await tx.record(Event(number, b"", b"", ()))
                    if number % 2:
                        raise RuntimeError("on purpose")

                await store.transaction(work, write=True)

            told = await asyncio.gather(
                *(odd_ones_fail(n) for n in range(60)), return_exceptions=True
            )
            assert [each is None for each in told] == [True, False] * 30
            assert sorted(map(int, await ids(store))) == list(range(0, 60, 2))
            assert await ids(store, type=EVENTS) == [str(n) for n in range(1, 31)]
            assert list(store.check()) == []

    told(story)


def test_who_is_cancelled_does_not_hold_the_others_up(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            tasks = [asyncio.create_task(put(store, str(number))) for number in range(40)]
            for moment in range(8):
                tasks[5 * moment].cancel()
                await asyncio.sleep(0)
            told = await asyncio.gather(*tasks, return_exceptions=True)
            kept = {version.id for version in told if isinstance(version, Version)}
            assert len(kept) >= 32
            assert kept <= set(await ids(store))
            await put(store, "after")
            assert list(store.check()) == []

    told(story)


def test_a_work_that_is_cancelled_is_undone(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            inside = asyncio.Event()

            async def work(tx):
                await tx.put(Version("Patient", "a", 1, tx.now, b"1"), [code("x")])
                inside.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(store.transaction(work, write=True))
            await inside.wait()
            waits = asyncio.create_task(put(store, "b", code("x")))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await waits
            assert await ids(store, has_code("x")) == ["b"]

    told(story)


def test_a_wrong_event_fails_alone(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            good = asyncio.create_task(store.record([Event(1, b"", b"", ())]))
            with pytest.raises(ValueError, match="no text entries"):
                await store.record([Event(1, b"", b"", (Entry("text", "x", text="y"),))])
            await good
            assert await ids(store, type=EVENTS) == ["1"]

    told(story)


def test_a_reading_transaction_cannot_write(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            with pytest.raises(RuntimeError, match="only reads"):
                await store.transaction(lambda tx: tx.keep("s", "k", b""))

    told(story)


# --- the doctor ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage, words",
    [
        ("DELETE FROM token WHERE pk > 0", "has tokens that no search finds"),
        (
            "INSERT INTO token SELECT p, v + 1, pk FROM token WHERE pk > 0 LIMIT 1",
            "do not have them",
        ),
        ("DELETE FROM range", "has other params than its row says"),
        ("UPDATE resource SET deleted = 1 WHERE ver > 0", "range entries without a live resource"),
        ("DELETE FROM event", "entries of events that are not there"),
        ("UPDATE resource SET body = x'0102' WHERE ver > 0", "cannot be read"),
        ("UPDATE old SET body = x'05'", "_history/1 cannot be read (Damaged)"),
        ("DELETE FROM resource WHERE ver = 0", "to a resource that has no row"),
        ("DELETE FROM value", "of a value that is not there"),
        ("DELETE FROM phrase", "of a phrase that is not there"),
    ],
)
def test_the_doctor_finds_damage(open_sqlite, tmp_path, damage, words):
    async def story():
        async with open_sqlite() as store:
            await put(store, "a", *PATIENT)
            await put(store, "a", *PATIENT)
            await store.record([Event(5, b"<", b">", (code("R", "action"),))])
            assert list(store.check()) == []
        conn = connect(tmp_path / "data" / FILE, KEY, writes=True)
        conn.execute(damage)
        conn.close()
        async with open_sqlite() as store:
            assert any(words in problem for problem in store.check())

    told(story)


def test_sizes_tell_files_tables_and_rows(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            await put(store, "a", *PATIENT)
            sizes = store.sizes()
            assert sizes["rows resource"] == 2  # with the one that a link reserves
            assert sizes[FILE] > 0
            assert sizes["table token"] > 0

    told(story)


def test_erased_values_are_not_kept_anywhere(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            await put(store, "a", *PATIENT, owner="Patient/a")
            await put(store, "b", code("Zebedee-code"), owner="Patient/b")
            await store.transaction(lambda tx: tx.erase("Patient/a"), write=True)

            def rows(sql):
                return store._writer.execute(sql).get

            assert rows("SELECT count(*) FROM phrase") == 0
            assert rows("SELECT count(*) FROM value WHERE code = 'Zebedee-code'") == 1
            await store.transaction(lambda tx: tx.erase("Patient/b"), write=True)
            assert rows("SELECT count(*) FROM value WHERE code = 'Zebedee-code'") == 0
            await put(store, "c", *PATIENT)
            assert await ids(store, has_code("Zebedee-code")) == ["c"]
            assert list(store.check()) == []

    told(story)


def test_expired_records_are_swept(open_sqlite, monkeypatch):
    now = [1]

    async def story():
        async with open_sqlite(clock=lambda: now[0]) as store:
            await store.transaction(lambda tx: tx.keep("s", "k", b"", until=5), write=True)
            monkeypatch.setattr(lane, "SWEEP_SECONDS", -1)
            now[0] = 5
            await put(store, "a")
            assert store._writer.execute("SELECT count(*) FROM kept").get == 0

    told(story)


def test_what_an_event_has_apart_is_kept_after_the_data_keys_were_renewed(open_sqlite):
    event = Event(5, b"<", b">", (), b"the query", "Patient/a")

    async def story():
        async with open_sqlite() as store:

            async def write(tx):
                await tx.put(Version("Patient", "a", 1, tx.now, b"1", "Patient/a"), ())

            await store.transaction(write, write=True)
            await renew_data_keys(store)
            await store.record([event])
            return (await get(store, "1", type=EVENTS)).apart

    assert told(story) == b"the query"


def test_what_an_event_has_apart_is_not_kept_for_an_owner_who_was_erased_meanwhile(open_sqlite):
    event = Event(5, b"<", b">", (), b"the query", "Patient/a")

    async def story():
        async with open_sqlite() as store:

            async def write(tx):
                await tx.put(Version("Patient", "a", 1, tx.now, b"1", "Patient/a"), ())

            await store.transaction(write, write=True)
            await store.record([event])
            await store.transaction(lambda tx: tx.erase("Patient/a"), write=True)
            await store.record([event])
            apart = [(await get(store, id, type=EVENTS)).apart for id in ("1", "2")]
            owners = store._writer.execute("SELECT owner FROM sealing").fetchall()
            return apart[1], [owner for (owner,) in owners if owner.startswith("Patient")]

    assert told(story) == (None, [])
