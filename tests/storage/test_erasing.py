"""What every engine promises of removal: by owner, by name, by month; and what is put in its place."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest

from fhir_server.storage.sqlite import schema
from fhir_server.storage.store import (
    EVENTS,
    EVERYTHING,
    Condition,
    Entry,
    Event,
    Match,
    Page,
)
from tests.storage.test_store import code, get, has_code, ids, put

MONTH = 30 * 86_400_000_000


def write(store, work):
    return store.transaction(work, write=True)


def event(*links, at=1, apart=None, owner=None):
    entries = tuple(Entry("link", "entity", *link) for link in links)
    return Event(at, b'{"id":"', b'"}', entries, apart, owner)


def naming(type, id):
    return Match("entity", "link", (Condition("system", "eq", type), Condition("code", "eq", id)))


async def events(store, query=EVERYTHING):
    found = await store.transaction(lambda tx: tx.find(EVENTS, query, (), Page(100)))
    return [each.id for each in found.versions]


def test_events_find_an_erased_name_and_say_nothing_apart(with_store):
    async def story(store):
        await put(store, "ann", owner="Patient/ann")
        await put(store, "bob", owner="Patient/bob")
        both = event(("Patient", "ann"), ("Patient", "bob"), apart=b"x", owner=None)
        await store.record([both, event(("Patient", "bob"), apart=b"y", owner="Patient/bob")])
        await write(store, lambda tx: tx.erase("Patient/ann"))
        await store.record([event(("Patient", "ann"))])
        assert await events(store, naming("Patient", "ann")) == ["1", "3"]
        assert await events(store, naming("Patient", "bob")) == ["1", "2"]
        assert (await get(store, "1", type=EVENTS)).apart is None
        assert (await get(store, "2", type=EVENTS)).apart == b"y"
        await put(store, "ann")
        assert await events(store, naming("Patient", "ann")) == ["1", "3"]
        assert await ids(store) == ["ann", "bob"] or await ids(store) == ["bob", "ann"]

    with_store(story)


def test_a_name_that_others_refer_to_is_veiled_once_they_do_not(with_store):
    async def story(store):
        link = Entry("link", "of", "Patient", "ann")
        await put(store, "ann", owner="Patient/ann")
        await put(store, "bob", link, owner="Patient/bob")
        await store.record([event(("Patient", "ann"))])
        await write(store, lambda tx: tx.erase("Patient/ann"))
        assert await write(store, lambda tx: tx.veil([("Patient", "ann")])) == 1
        await put(store, "bob", owner="Patient/bob")
        assert await write(store, lambda tx: tx.veil([("Patient", "ann"), ("X", "y")])) == 0
        assert await events(store, naming("Patient", "ann")) == ["1"]
        await put(store, "bob", link, owner="Patient/bob")
        asked = Match("of", "link", (Condition("code", "eq", "ann"),))
        assert await ids(store, asked) == ["bob"]

    with_store(story)


def test_one_resource_is_purged_with_every_version(with_store):
    async def story(store):
        first = await put(store, "a", code("x"))
        second = await put(store, "a", code("y"))
        other = await put(store, "b", code("y"))
        gone = await write(store, lambda tx: tx.purge("Patient", "a"))
        assert gone == ((("Patient", "a"),), (first.leaf, second.leaf), ())
        assert await get(store, "a") is await get(store, "a", 1) is None
        assert await ids(store, has_code("y")) == ["b"]
        assert await store.transaction(lambda tx: tx.history(None, None, 9)) == [other]
        assert await write(store, lambda tx: tx.purge("Patient", "a")) == ((), (), ())
        assert (await put(store, "a")).number == 1

    with_store(story)


def test_whose_the_versions_of_a_resource_were_is_known(with_store):
    async def story(store):
        await put(store, "a", owner="Patient/ann")
        await put(store, "a", owner="Patient/bob")
        await put(store, "a")
        whose = await store.transaction(lambda tx: tx.whose("Patient", "a"))
        assert whose == {"Patient/ann", "Patient/bob"}
        assert await store.transaction(lambda tx: tx.whose("Patient", "none")) == frozenset()
        assert not await store.transaction(lambda tx: tx.erased(["Patient/ann"]))
        await write(store, lambda tx: tx.erase("Patient/ann"))
        assert await store.transaction(lambda tx: tx.whose("Patient", "a")) == {"Patient/bob"}
        assert await store.transaction(lambda tx: tx.erased(["Patient/bob", "Patient/ann"]))
        assert not await store.transaction(lambda tx: tx.erased(["Patient/bob"]))

    with_store(story)


def test_a_survey_is_the_history_and_goes_on_by_sequence(with_store):
    async def story(store):
        made = [await put(store, id) for id in ("a", "b", "a", "a")]
        every = await store.transaction(lambda tx: tx.survey(None, None, 9))
        assert every == made[::-1]
        before = made[2].sequence
        page = await store.transaction(lambda tx: tx.survey("Patient", "a", 1, before))
        assert page == [made[0]]
        assert await store.transaction(lambda tx: tx.survey("Patient", "none", 9)) == []

    with_store(story)


def test_what_events_have_apart_is_told_by_their_number(with_store):
    async def story(store):
        await store.record([event(apart=b"one"), event(), event(apart=b"three")])
        assert await store.transaction(lambda tx: tx.aparts(0, 9)) == [(1, b"one"), (3, b"three")]
        assert await store.transaction(lambda tx: tx.aparts(1, 1)) == [(3, b"three")]
        await write(store, lambda tx: tx.strip(["3"]))
        assert await store.transaction(lambda tx: tx.aparts(1, 9)) == []

    with_store(story)


def test_another_body_takes_the_place_of_one_and_keeps_its_leaf(with_store):
    async def story(store):
        old = await put(store, "a", owner="Patient/a")
        await put(store, "a", owner="Patient/a")
        for number, body in ((1, b"less"), (2, b"least")):
            leaf, hash = await write(
                store, lambda tx, n=number, b=body: tx.redact("Patient", "a", n, b)
            )
            assert (await get(store, "a", number)).body == body
            logged = await store.transaction(lambda tx, n=number: tx.logged("Patient", "a", n))
            assert logged.leaf == leaf
            assert hash == sha256(b"\0" + sha256(logged.salt + body).digest()).digest()
        assert (await get(store, "a", 1)).leaf == old.leaf
        with pytest.raises(LookupError):
            await write(store, lambda tx: tx.redact("Patient", "a", 3, b""))

    with_store(story)


def test_who_owns_what_and_how_old_it_is(with_store):
    now = [10]

    async def story(store):
        await put(store, "a", owner="Patient/a")
        now[0] = 20
        await put(store, "b", owner="Patient/a")
        await put(store, "b", owner="Patient/a", deleted=True)
        await put(store, "c")
        now[0] = 30
        last = await put(store, "d")
        owned = await store.transaction(lambda tx: tx.owned("Patient/a"))
        assert owned == [("Patient", "a"), ("Patient", "b")]

        async def aged(before, limit=9, after=0):
            found = await store.transaction(lambda tx: tx.aged("Patient", before, limit, after))
            return [(each.id, each.owner) for each in found], found

        names, found = await aged(30)
        assert names == [("a", "Patient/a"), ("b", "Patient/a"), ("c", None)]
        assert (await aged(30, 1))[0] == names[:1]
        assert (await aged(30, 9, found[0].sequence))[0] == names[1:]
        assert (await aged(10))[0] == []
        assert last.updated >= 30

    with_store(story, clock=lambda: now[0])


def test_the_events_of_a_month_end_together(with_store):
    now = [0]

    async def story(store):
        await put(store, "ann")
        await store.record([event(("Patient", "ann"), ("Patient", "gone"), at=n) for n in range(3)])
        now[0] = MONTH + 5 * 86_400_000_000
        await store.record([event(("Patient", "ann"), at=0)])
        said = []

        def notice(leaves, keys):
            said.append((tuple(leaves), len(keys)))
            return b"%d" % len(said)

        gone = await store.expire("1970-01", notice)
        assert gone.leaves == (1, 2, 3)
        assert said[0] == ((1, 2, 3), 0)
        assert await events(store) == ["4"]
        assert await events(store, naming("Patient", "ann")) == ["4"]
        assert await events(store, naming("Patient", "gone")) == []
        assert await get(store, "1", type=EVENTS) is None
        notices = await store.transaction(lambda tx: tx.notices())
        assert [each.content for each in notices] == [b"%d" % (n + 1) for n in range(len(said))]
        assert (await store.expire("1970-01", notice)).leaves == ()
        await store.record([event(at=0)])
        assert await events(store) in (["4", "5"], ["5", "4"])

    with_store(story, clock=lambda: now[0])


# --- what a search of the opened file finds --------------------------------------------------------


def test_copies_in_unused_parts_of_pages_go_when_the_file_is_rebuilt(open_sqlite, tmp_path):
    """secure_delete does not reach them: cells that were moved when a page was split."""

    async def grow(store):
        async def work(tx):
            for n in range(1_500):
                who = "ann" if n % 40 == 7 else f"p{n % 300}"
                name = f"secretzz{n}" if who == "ann" else f"plain{(n * 7919) % 3001}"
                entries = (Entry("text", "name", text=name, code=name.upper()), code(name))
                await put_in(tx, f"{name}-{n}", entries, f"Patient/{who}")

        for _ in range(3):
            await store.transaction(work, write=True)

    async def put_in(tx, id, entries, owner):
        from fhir_server.storage.store import Version

        current = await tx.get("Observation", id)
        number = current.number + 1 if current else 1
        body = (id * ((len(id) * number * 31) % 60 + 1)).encode()
        await tx.put(Version("Observation", id, number, tx.now, body, owner), entries)

    async def story():
        async with open_sqlite() as store:
            await grow(store)
            await store.transaction(lambda tx: tx.erase("Patient/ann"), write=True)
            await store.tidy(0)
            before = store._writer.serialize("main").lower().count(b"secretzz")
            assert store.untidy
            assert await store.tidy()
            after = store._writer.serialize("main").lower().count(b"secretzz")
            assert not store.untidy
            assert list(store.check()) == []
            return before, after

    before, after = asyncio.run(story())
    assert before > 0, "this store left no copies, so it proves nothing"
    assert after == 0


def test_writers_go_on_while_the_file_is_rebuilt(open_sqlite):
    async def story():
        async with open_sqlite() as store:
            await put(store, "a", code("x"), owner="Patient/a")
            await store.transaction(lambda tx: tx.erase("Patient/a"), write=True)
            done = await asyncio.gather(
                store.tidy(), *(put(store, f"n{n}", code("x")) for n in range(20))
            )
            assert done[0] is True
            assert len(await ids(store, has_code("x"))) == 20
            assert list(store.check()) == []

    asyncio.run(story())


def test_the_log_of_writes_is_not_emptied_while_a_reader_holds_it(open_sqlite, monkeypatch):
    from fhir_server.storage.sqlite import pages

    monkeypatch.setattr(pages, "_TRIES", 2)

    async def story():
        async with open_sqlite() as store:
            await put(store, "a", code("x"), owner="Patient/a")
            reader = store._connect(writes=False)
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM resource").get == 1
            await store.transaction(lambda tx: tx.erase("Patient/a"), write=True)
            assert not await store.tidy()
            assert store.untidy
            reader.execute("COMMIT")
            reader.close()
            assert await store.tidy()
            assert not store.untidy

    asyncio.run(story())


# --- every table takes part ------------------------------------------------------------------------

# How erasure handles each table: a new one must say so here, and its test above must search it.
HANDLED = {
    "meta": "numbers and the sealed secret of veiled names; of nobody",
    "dictionary": "what bodies are packed with; of nobody",
    "kind": "names of types; of nobody",
    "param": "names of search parameters; of nobody",
    "mix": "sets of params; of nobody",
    "mixed": "sets of params; of nobody",
    "system": "freed with its last value (erasure, strays)",
    "value": "freed with its last token or unit (erasure, strays)",
    "phrase": "freed with its last text (erasure, strays)",
    "resource": "removed by owner; the id of what events name is veiled",
    "old": "removed by owner; redacted where others name the erased",
    "token": "removed with its resource; of events by month",
    "text": "removed with its resource",
    "range": "removed with its resource",
    "link": "removed with its resource; of events by month, to a veiled name",
    "event": "`apart` removed; the rest by month, under keys of its own",
    "kept": "removed by owner; others by those who keep them (tests/erasure/test_spaces.py)",
    "tile": "hashes over random salts that are lost",
    "notice": "what is said about nobody",
    "sealing": "removed by owner",
}
# Columns that may hold what is a patient's, of those tables; every other column is a number.
CONTENT = {
    "meta": {"name", "value"},
    "dictionary": {"data"},
    "kind": {"name"},
    "param": {"shape", "param"},
    "mix": {"params"},
    "system": {"name"},
    "value": {"code"},
    "phrase": {"text", "code"},
    "resource": {"id", "keys", "body"},
    "old": {"body"},
    "range": {"low", "high"},
    "link": {"at"},
    "event": {"body", "apart"},
    "kept": {"space", "key", "value"},
    "tile": {"data"},
    "notice": {"content"},
    "sealing": {"owner", "id"},
}


def columns(open_sqlite):
    """Every table with its columns that are not declared to be whole numbers."""

    async def story():
        async with open_sqlite() as store:
            conn = store._writer
            tables = [
                name
                for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
                if not name.startswith("sqlite_")
            ]
            return {
                table: {
                    row[1]
                    for row in conn.execute(f"PRAGMA table_info({table})")
                    if row[2].upper() not in ("INT", "INTEGER")
                }
                for table in tables
            }

    return asyncio.run(story())


def test_every_table_says_how_it_takes_part_in_erasure(open_sqlite):
    found = columns(open_sqlite)
    assert found.keys() == HANDLED.keys()
    assert {table: content for table, content in found.items() if content} == CONTENT


def test_a_table_that_nobody_thought_of_is_noticed(open_sqlite, monkeypatch):
    more = schema.TABLES + "CREATE TABLE diary (n INTEGER PRIMARY KEY, words TEXT);"
    monkeypatch.setattr("fhir_server.storage.sqlite.migrations.TABLES", more)
    assert columns(open_sqlite).keys() - HANDLED.keys() == {"diary"}
