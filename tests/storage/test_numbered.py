"""Versions by their sequence: what an export has fixed is read again, whatever came later."""

from __future__ import annotations

from tests.storage.test_store import put


def test_a_version_is_found_by_its_sequence_whatever_followed_it(with_store):
    async def story(store):
        one = await put(store, "a", owner="Patient/a")
        two = await put(store, "b")
        three = await put(store, "a", owner="Patient/a")
        gone = await put(store, "b", deleted=True)
        asked = [gone.sequence, 999, one.sequence, three.sequence, two.sequence]

        found = await store.transaction(lambda tx: tx.numbered(asked))
        assert found == [gone, one, three, two]
        bare = await store.transaction(lambda tx: tx.numbered(asked, bodies=False))
        assert [(v.type, v.id, v.number, v.owner, v.body) for v in bare] == [
            (v.type, v.id, v.number, v.owner, b"") for v in found
        ]

    with_store(story)


def test_what_is_erased_has_no_sequence_any_more(with_store):
    async def story(store):
        one = await put(store, "a", owner="Patient/a")
        two = await put(store, "b", owner="Patient/b")
        await store.transaction(lambda tx: tx.erase("Patient/a"), write=True)

        asked = [one.sequence, two.sequence]
        assert await store.transaction(lambda tx: tx.numbered(asked)) == [two]
        assert len(await store.transaction(lambda tx: tx.numbered(asked, bodies=False))) == 1

    with_store(story)
