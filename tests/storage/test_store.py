"""What every engine promises of transactions, versions, events and kept records."""

from __future__ import annotations

import asyncio

import pytest

from fhir_server.storage.store import (
    EVENT_TIME,
    EVENTS,
    EVERYTHING,
    UPDATED,
    Condition,
    Conflict,
    Entry,
    Event,
    Match,
    Not,
    Page,
    Sort,
    Version,
)

ALL = Page(1000)


def code(value, param="code"):
    return Entry("token", param, "s", value)


def has_code(value, param="code"):
    return Match(param, "token", (Condition("code", "eq", value),))


async def put(store, id, *entries, type="Patient", owner=None, deleted=False, expect=None):
    """Write the next version of a resource."""

    async def work(tx):
        current = await tx.get(type, id)
        number = current.number + 1 if current else 1
        body = b"" if deleted else f"{id} {number}".encode()
        version = Version(type, id, number, tx.now, body, owner, deleted)
        return await tx.put(version, entries, expect)

    return await store.transaction(work, write=True)


async def get(store, id, number=None, type="Patient"):
    return await store.transaction(lambda tx: tx.get(type, id, number))


async def ids(store, query=EVERYTHING, *sort, type="Patient"):
    found = await store.transaction(lambda tx: tx.find(type, query, sort, ALL))
    assert found.after is None
    return [version.id for version in found.versions]


# --- versions ------------------------------------------------------------------------------------


def test_what_is_put_is_read_back(with_store):
    async def story(store):
        written = await put(store, "a", owner="Patient/a")
        assert (written.number, written.body, written.owner) == (1, b"a 1", "Patient/a")
        assert written.sequence > 0
        assert await get(store, "a") == written
        assert await get(store, "A") is None
        assert await get(store, "a", type="Unheard") is None

    with_store(story)


@pytest.mark.parametrize(
    "id",
    [
        "0190a1b2-0000-7000-8000-00000000000f",
        "0190A1B2-0000-7000-8000-00000000000F",
        "0190a1b200007000800000000000000f",
        "-" * 36,
        "12",
        "x" * 64,
    ],
)
def test_an_id_comes_back_as_it_was(with_store, id):
    async def story(store):
        await put(store, id)
        assert (await get(store, id)).id == id
        assert await ids(store) == [id]
        assert (await store.transaction(lambda tx: tx.history("Patient", id, 5)))[0].id == id

    with_store(story)


def test_older_versions_can_still_be_read(with_store):
    async def story(store):
        versions = [
            await put(store, "a", owner="Patient/a"),
            await put(store, "a", owner="Patient/b"),
        ]
        versions.append(await put(store, "a", deleted=True))
        for version in versions:
            assert await get(store, "a", version.number) == version
        assert await get(store, "a") == versions[-1]
        assert await get(store, "a", 4) is None
        assert await get(store, "a", 0) is None

    with_store(story)


def test_a_version_that_is_not_expected_is_a_conflict(with_store):
    async def story(store):
        for expect, current in ((3, 0), (2, 1), (0, 1)):
            with pytest.raises(Conflict) as conflict:
                await put(store, "a", expect=expect)
            assert (conflict.value.type, conflict.value.id, conflict.value.current) == (
                "Patient",
                "a",
                current,
            )
            if current == 0:
                await put(store, "a", expect=0)
        assert (await get(store, "a")).number == 1

    with_store(story)


def test_a_deleted_resource_is_found_no_more_and_can_come_back(with_store):
    async def story(store):
        await put(store, "a", code("x"))
        await put(store, "a", deleted=True)
        assert await ids(store) == await ids(store, has_code("x")) == []
        assert (await get(store, "a")).deleted
        back = await put(store, "a", code("y"))
        assert back.number == 3
        assert await ids(store, has_code("y")) == ["a"]
        assert await ids(store, has_code("x")) == []

    with_store(story)


def test_an_update_replaces_the_entries(with_store):
    async def story(store):
        link, text = Entry("link", "of", "Patient", "z"), Entry("text", "name", text="x", code="X")
        await put(
            store, "a", code("x"), code("same"), link, text, Entry("range", "n", low=1, high=2)
        )
        await put(store, "a", code("y"), code("same"), Entry("range", "n", low=1, high=3))
        assert await ids(store, has_code("x")) == []
        assert await ids(store, has_code("y")) == await ids(store, has_code("same")) == ["a"]
        assert (
            await ids(store, Match("of", "link")) == await ids(store, Match("name", "text")) == []
        )
        assert await ids(store, Match("n", "range", (Condition("high", "eq", 2),))) == []
        assert await ids(store, Match("n", "range", (Condition("high", "eq", 3),))) == ["a"]

    with_store(story)


def test_reindexing_replaces_entries_and_makes_no_version(with_store):
    async def story(store):
        before = await put(store, "a", code("x"))
        await store.transaction(lambda tx: tx.reindex("Patient", "a", [code("y")]), write=True)
        await store.transaction(
            lambda tx: tx.reindex("Patient", "missing", [code("y")]), write=True
        )
        assert await get(store, "a") == before
        assert await ids(store, has_code("y")) == ["a"]
        assert await ids(store, has_code("x")) == []

    with_store(story)


def test_time_never_goes_back(with_store):
    times = iter([5, 5, 3, 3, 9, 9, 9, 9, 9, 9])

    async def story(store):
        found = [(await put(store, id)).updated for id in "abc"]
        assert found == sorted(found)

    with_store(story, clock=lambda: next(times))


def test_a_walk_gives_live_versions_by_sequence(with_store):
    async def story(store):
        for number in range(250):
            await put(store, str(number), type=("Patient", "Group")[number % 2])
        await put(store, "3", type="Group")
        await put(store, "4", deleted=True)

        async def walk(tx, after=0):
            return [version async for version in tx.walk(after)]

        everything = await store.transaction(walk)
        assert [version.id for version in everything] == [
            str(n) for n in range(250) if n not in (3, 4)
        ] + ["3"]
        middle = everything[100].sequence
        assert await store.transaction(lambda tx: walk(tx, middle)) == everything[101:]

    with_store(story)


# --- history -------------------------------------------------------------------------------------


def test_history_is_newest_first_with_deletions(with_store):
    async def story(store):
        a1, b1 = await put(store, "a"), await put(store, "b")
        a2 = await put(store, "a", deleted=True)
        g1 = await put(store, "a", type="Group")
        a3 = await put(store, "a")
        everything = [a3, g1, a2, b1, a1]

        def history(*asked, **more):
            return store.transaction(lambda tx: tx.history(*asked, **more))

        assert await history(None, None, 10) == everything
        assert await history("Patient", None, 10) == [a3, a2, b1, a1]
        assert await history("Patient", "a", 10) == [a3, a2, a1]
        assert await history("Patient", "a", 2) == [a3, a2]
        assert await history("Patient", None, 2, before=a2.sequence) == [b1, a1]
        assert await history("Patient", "missing", 10) == await history("Unheard", None, 10) == []
        for since in (a1.updated, a2.updated, a3.updated, a3.updated + 1):
            later = [version for version in everything if version.updated >= since]
            assert await history(None, None, 10, since=since) == later
            earlier = [version for version in everything if version.updated <= since]
            assert await history(None, None, 10, until=since) == earlier

    looks = iter(range(1000))
    with_store(story, clock=lambda: next(looks))


# --- transactions --------------------------------------------------------------------------------


def test_what_fails_leaves_nothing(with_store):
    async def story(store):
        async def fails(tx):
            link = Entry("link", "of", "Group", "new")
            entries = [code("new"), link, Entry("text", "name", text="new")]
            await tx.put(Version("Patient", "a", 1, tx.now, b"1", "Patient/a"), entries)
            await tx.put(Version("Device", "a", 1, tx.now, b"1"), entries)
            await tx.record(Event(1, b"", b"", (code("new"),)))
            await tx.keep("space", "key", b"value")
            raise RuntimeError("on purpose")

        for _ in range(2):
            with pytest.raises(RuntimeError, match="on purpose"):
                await store.transaction(fails, write=True)
        assert await get(store, "a") is None
        assert await ids(store, has_code("new")) == []
        assert await ids(store, type=EVENTS) == await ids(store, type="Device") == []
        assert await store.transaction(lambda tx: tx.kept("space", "key")) is None
        # What the failed one numbered is numbered anew.
        link = Entry("link", "of", "Group", "new")
        await put(store, "b", code("new"), link, Entry("text", "name", text="new"))
        assert await ids(store, has_code("new")) == ["b"]
        assert await ids(store, Match("of", "link", (Condition("code", "eq", "new"),))) == ["b"]
        assert await ids(store, Match("name", "text", (Condition("text", "prefix", "n"),))) == ["b"]
        assert await ids(store, type="Device") == []

    with_store(story)


def test_a_transaction_sees_what_it_wrote_and_others_do_not(with_store):
    async def story(store):
        inside, outside = asyncio.Event(), asyncio.Event()

        async def writes(tx):
            await tx.put(Version("Patient", "a", 1, tx.now, b"1"), [code("x")])
            found = await tx.find("Patient", has_code("x"), (), ALL)
            assert [version.id for version in found.versions] == ["a"]
            inside.set()
            await outside.wait()

        writing = asyncio.create_task(store.transaction(writes, write=True))
        await inside.wait()
        assert await get(store, "a") is None
        assert await ids(store, has_code("x")) == []
        outside.set()
        await writing
        assert await ids(store, has_code("x")) == ["a"]

    with_store(story)


def test_a_reading_transaction_sees_one_state(with_store):
    async def story(store):
        await put(store, "a", code("x"))

        async def reads(tx):
            assert await tx.count("Patient", EVERYTHING) == 1  # from here on
            before = await tx.get("Patient", "a")
            await put(store, "a", code("y"))
            await put(store, "b", code("x"))
            assert await tx.get("Patient", "a") == before
            found = await tx.find("Patient", has_code("x"), (), ALL)
            assert found.versions == (before,)
            assert await tx.count("Patient", EVERYTHING) == 1

        await store.transaction(reads)
        assert await ids(store, has_code("x")) == ["b"]

    with_store(story)


def test_sixty_four_conditional_creates_make_one(with_store):
    async def story(store):
        async def create(number):
            async def work(tx):
                found = await tx.find("Patient", has_code("same"), (), ALL)
                if found.versions:
                    return found.versions[0].id
                await asyncio.sleep(0)
                await tx.put(Version("Patient", str(number), 1, tx.now, b"1"), [code("same")])
                return str(number)

            return await store.transaction(work, write=True)

        made = await asyncio.gather(*(create(number) for number in range(64)))
        assert len(set(made)) == 1
        assert await ids(store, has_code("same")) == made[:1]

    with_store(story)


def test_sixty_four_updates_of_one_version_let_one_through(with_store):
    async def story(store):
        await put(store, "a")

        async def update(number):
            version = Version("Patient", "a", 2, 0, str(number).encode())

            async def work(tx):
                return await tx.put(Version("Patient", "a", 2, tx.now, version.body), (), 1)

            return await store.transaction(work, write=True)

        told = await asyncio.gather(*(update(n) for n in range(64)), return_exceptions=True)
        conflicts = [each for each in told if isinstance(each, Conflict)]
        assert len(conflicts) == 63
        assert {conflict.current for conflict in conflicts} == {2}
        assert (await get(store, "a")).body in [
            version.body for version in told if isinstance(version, Version)
        ]

    with_store(story)


# --- events --------------------------------------------------------------------------------------


def event(at, *entries):
    return Event(at, b'{"id":"', b'"}', entries)


def test_events_are_numbered_in_the_order_of_the_log(with_store):
    async def story(store):
        async def work(tx):
            return await tx.record(event(7))

        first = await store.transaction(work, write=True)
        await store.record([event(9), event(8)])
        found = await store.transaction(lambda tx: tx.find(EVENTS, EVERYTHING, (), ALL))
        assert [version.id for version in found.versions] == [first, "2", "3"] == ["1", "2", "3"]
        assert await get(store, "2", type=EVENTS) == Version(
            EVENTS, "2", 1, 9, b'{"id":"2"}', sequence=2, leaf=1
        )
        for unheard in ("0", "4", "02", "x", "-1", "٢", "9" * 30):
            assert await get(store, unheard, type=EVENTS) is None
        assert await get(store, "2", 2, type=EVENTS) is None
        assert await store.transaction(lambda tx: tx.history(None, None, 10)) == []

    with_store(story)


def test_events_are_found_by_what_was_recorded_of_them(with_store):
    async def story(store):
        ann, bob = (Entry("link", "patient", "Patient", id) for id in ("ann", "bob"))
        await put(store, "ann", code("x"))
        await store.record([event(30, ann, code("R", "action")), event(20, ann), event(10, bob)])
        of_ann = Match(
            "patient",
            "link",
            (Condition("system", "eq", "Patient"), Condition("code", "eq", "ann")),
        )
        late = Match(EVENT_TIME, "range", (Condition("low", "ge", 20),))
        by_time = Sort((EVENT_TIME,), "range", carried=True)
        newest = Sort((EVENT_TIME,), "range", descending=True, carried=True)
        assert await ids(store, of_ann, type=EVENTS) == ["1", "2"]
        assert await ids(store, of_ann, by_time, type=EVENTS) == ["2", "1"]
        assert await ids(store, of_ann, newest, type=EVENTS) == ["1", "2"]
        assert await ids(store, late, by_time, type=EVENTS) == ["2", "1"]
        assert await ids(store, has_code("R", "action"), type=EVENTS) == ["1"]
        assert await ids(
            store, Match(UPDATED, "range", (Condition("high", "lt", 20),)), type=EVENTS
        ) == ["3"]
        assert await ids(store, has_code("W", "action"), type=EVENTS) == []

    with_store(story)


def test_events_are_found_by_a_part_of_their_id_or_its_absence(with_store):
    async def story(store):
        await store.record([event(number) for number in range(12)])
        begins_with_one = Match("_id", "token", (Condition("code", "prefix", "1"),))
        assert await ids(store, begins_with_one, type=EVENTS) == ["1", "10", "11", "12"]
        assert await ids(store, Not(begins_with_one), type=EVENTS) == list("23456789")

    with_store(story)


def test_an_event_cannot_be_put(with_store):
    async def story(store):
        with pytest.raises(ValueError, match="recorded, not put"):
            await put(store, "1", type=EVENTS)

    with_store(story)


# --- erasure -------------------------------------------------------------------------------------


def test_erasing_an_owner_leaves_nothing_of_theirs(with_store):
    async def story(store):
        await put(store, "ann", code("x"), Entry("text", "name", text="ann"), owner="Patient/ann")
        await put(store, "ann", code("y"), owner="Patient/ann")
        await put(
            store,
            "o",
            code("x"),
            Entry("link", "of", "Patient", "ann"),
            owner="Patient/ann",
            type="Group",
        )
        await put(store, "moved", owner="Patient/ann")
        moved = await put(store, "moved", owner="Patient/bob")
        bob = await put(
            store, "bob", code("x"), Entry("link", "of", "Patient", "ann"), owner="Patient/bob"
        )
        gone = await store.transaction(lambda tx: tx.erase("Patient/ann"), write=True)
        assert gone.names == (("Group", "o"), ("Patient", "ann"))
        assert len(gone.leaves) == 4
        assert await get(store, "ann") is await get(store, "o", type="Group") is None
        assert await get(store, "moved", 1) is None
        assert await store.transaction(lambda tx: tx.history(None, None, 10)) == [bob, moved]
        assert await ids(store, has_code("x")) == ["bob"]
        assert await ids(store, Match("of", "link", (Condition("code", "eq", "ann"),))) == ["bob"]
        assert (await store.transaction(lambda tx: tx.erase("Patient/ann"), write=True))[:2] == (
            (),
            (),
        )
        again = await put(store, "ann", code("x"), Entry("text", "name", text="ann"))
        assert again.number == 1
        assert again.sequence > bob.sequence
        assert sorted(await ids(store, has_code("x"))) == ["ann", "bob"]
        assert await ids(store, Match("name", "text", (Condition("text", "eq", "ann"),))) == ["ann"]

    with_store(story)
