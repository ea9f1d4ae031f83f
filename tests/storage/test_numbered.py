"""Versions by their sequence: what an export has fixed is read again, whatever came later."""

from __future__ import annotations

from msgspec.structs import replace

from fhir_server.storage.store import EVERYTHING, Page
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


def test_a_page_without_bodies_finds_what_a_page_with_them_finds(with_store):
    async def story(store):
        await put(store, "a", owner="Patient/a")
        await put(store, "b")
        await put(store, "a", owner="Patient/a")
        await put(store, "c", deleted=True)

        async def page(tx, bodies, after=None):
            return await tx.find("Patient", EVERYTHING, (), Page(1, after, bodies))

        full = await store.transaction(lambda tx: page(tx, True))
        bare = await store.transaction(lambda tx: page(tx, False))
        assert (full.versions[0].id, full.versions[0].body != b"") == ("a", True)
        assert bare.versions == (replace(full.versions[0], body=b"", leaf=-1),)
        assert bare.after == full.after

        rest = await store.transaction(lambda tx: page(tx, False, bare.after))
        assert [(v.id, v.body, v.owner) for v in rest.versions] == [("b", b"", None)]
        assert rest.after is None
        again = await store.transaction(lambda tx: page(tx, True))
        assert again == full  # how one was asked is not what the next is given

    with_store(story)
