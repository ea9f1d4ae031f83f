"""What a verification makes of notices, of what was signed elsewhere, and of a part of a log."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import closing
from random import Random

import pytest

from conformance.json import encode
from fhir_server.audit.notices import Told
from fhir_server.audit.proven import Signed, trusted
from fhir_server.audit.verify import verify
from fhir_server.audit.whose import is_misplaced
from fhir_server.log.checkpoint import Checkpoint
from fhir_server.log.note import LOG, WITNESS, Note, SigningKey, Untrusted
from fhir_server.log.tombstone import Tombstone, parse
from fhir_server.storage.sealed import unseal
from fhir_server.storage.sqlite import SqliteStore, foreign
from fhir_server.storage.sqlite.proving import Reading, Recorded
from fhir_server.storage.sqlite.schema import connect
from tests.audit.tampering import Attack
from tests.audit.worlds import KEY, ORIGIN, World, erase, event, put, state
from tests.derived_keys import DerivedKeys
from tests.storage.test_migration import FIRST

WHY = "asked for by its owner"


def labelled(body):
    """A body as one from which something was removed."""
    return body[:-1] + b',"security":"REDACTED"}'


@pytest.fixture
def folder(tmp_path):
    """Five versions, then five events, with a full tile of neither."""

    async def made():
        store = await SqliteStore.open(tmp_path, KEY, DerivedKeys())
        for number in range(5):
            await put(store, "Patient", f"p{number}", f"Patient/p{number}")
        await store.record([event(Random(number)) for number in range(5)])
        signed.append(await state(store))
        await store.close()

    signed: list[Signed] = []
    asyncio.run(made())
    return World(tmp_path, DerivedKeys(), signed, set())


def noted(world: World, stone: Tombstone) -> None:
    async def work():
        store = await SqliteStore.open(world.folder, KEY, world.keys)
        await store.transaction(lambda tx: tx.note(stone.encode()), write=True)
        await store.close()

    asyncio.run(work())


def verified(world: World, *more: Signed, since: int = 0, owner_of=None):
    with closing(Reading(world.folder, KEY, world.keys)) as reading:
        signed = [*world.signed, *more]
        return verify(reading, signed, world.destroyed, since, owner_of=owner_of)


def kinds(report):
    return [(each.leaf, each.kind, each.record) for each in report.findings]


def changed(world: World, leaf: int, change=lambda body: body + b" ") -> bytes:
    """Seal a record anew with another content; the leaf that it would have."""
    with closing(connect(world.folder / "salus.db", KEY, writes=True)) as conn:
        attack = Attack(conn, world, Random(1))
        row = next(row for row in attack.rows() if row.leaf == leaf)
        blob, hash = attack.resealed(row, change)
        attack.set(row, body=blob)
    return hash


def removed(world: World, sql: str) -> None:
    with closing(connect(world.folder / "salus.db", KEY, writes=True)) as conn:
        conn.execute(sql)


def test_a_record_that_is_gone_as_a_notice_says_is_no_fault(folder):
    removed(folder, "DELETE FROM resource WHERE leaf = 2")
    assert kinds(verified(folder)) == [(2, "deleted", "")]
    noted(folder, Tombstone.of("purged", (), [2], 5_000, WHY))
    report = verified(folder)
    assert (report.findings, report.erased, report.size) == ((), 1, 11)
    assert report.told == (Told(10, "purged", 1, 5_000, WHY),)


@pytest.mark.parametrize(
    ("sql", "kind", "leaf"),
    [
        ("DELETE FROM event WHERE n = 2", "purged", 6),
        ("DELETE FROM event WHERE n = 2", "erased", 6),
        ("DELETE FROM event WHERE n = 2", "expired", 6),  # the rest of its month is there
        ("DELETE FROM resource WHERE leaf = 2", "expired", 2),
    ],
)
def test_a_record_goes_only_by_the_notice_that_such_records_go_by(folder, sql, kind, leaf):
    removed(folder, sql)
    noted(folder, Tombstone.of(kind, (), [leaf], 5, WHY))
    assert kinds(verified(folder)) == [(leaf, "deleted", "")]


def test_an_event_is_never_redacted(folder):
    now = changed(folder, 7, lambda body: body[:-1] + b',"a":"REDACTED"}')
    noted(folder, Tombstone.of("redacted", (), [7], 5, WHY, {7: now}))
    assert kinds(verified(folder)) == [(7, "altered", "AuditEvent/3")]


def test_what_was_redacted_says_so_and_is_there(folder):
    now = changed(folder, 1)
    noted(folder, Tombstone.of("redacted", (), [1], 5, WHY, {1: now}))
    assert kinds(verified(folder)) == [(1, "altered", "Patient/p1/_history/1")]
    now = changed(folder, 2, labelled)
    noted(folder, Tombstone.of("redacted", (), [2], 5, WHY, {2: now}))
    removed(folder, "DELETE FROM resource WHERE leaf = 2")
    assert kinds(verified(folder))[1:] == [(2, "deleted", "")]


def test_a_notice_of_what_was_redacted_names_what_it_became(folder):
    noted(folder, Tombstone.of("redacted", (), [1], 5, WHY))
    noted(folder, Tombstone.of("erased", (), [1], 5, WHY, {1: b"1" * 32}))
    assert [(leaf, kind) for leaf, kind, _ in kinds(verified(folder))] == [
        (10, "altered"),
        (11, "altered"),
    ]


def resealed(world: World, leaf: int, owner: str) -> None:
    """Let a version be another's, sealed under the key of whose it is then."""
    with closing(connect(world.folder / "salus.db", KEY, writes=True)) as conn:
        row = next(row for row in Attack(conn, world, Random(1)).versions() if row.leaf == leaf)
        pk, key = conn.execute(
            "SELECT r.pk, s.id FROM sealing s, resource r WHERE s.owner = ? AND r.id = ?",
            (owner, owner.partition("/")[2]),
        ).fetchone()
        _, name, number = row.place.split(b"|")
        place = b"|".join((owner.encode(), name, number))
        opened = unseal(world.keys, row.body, row.place)
        blob = key + bytes(12) + world.keys.cipher(key).encrypt(bytes(12), opened, place)
        conn.execute("UPDATE resource SET owner = ?, body = ? WHERE leaf = ?", (pk, blob, leaf))


def of_subject(type, resource):
    """Whose a resource is, as its subject says."""
    return resource.get("subject", {}).get("reference")


def test_a_version_that_was_moved_to_another_patient_is_named(folder):
    async def more():
        store = await SqliteStore.open(folder.folder, KEY, folder.keys)
        subject = {"subject": {"reference": "Patient/p1"}}
        await put(store, "Observation", "o", "Patient/p1", **subject)
        await put(store, "Observation", "gone", "Patient/p1", **subject)
        await put(store, "Observation", "gone", deleted=True)
        await store.close()

    asyncio.run(more())
    assert verified(folder, owner_of=of_subject).findings == ()
    resealed(folder, 10, "Patient/p2")
    resealed(folder, 12, "Patient/p2")
    resealed(folder, 3, "Patient/p2")
    assert kinds(verified(folder, owner_of=of_subject)) == [
        (3, "misplaced", "Patient/p3/_history/1"),
        (10, "misplaced", "Observation/o/_history/1"),
        (12, "misplaced", "Observation/gone/_history/2"),
    ]


@pytest.mark.parametrize(
    ("body", "owner", "redacted", "misplaced"),
    [
        ({"subject": "Patient/a"}, "Patient/a", False, False),
        ({"subject": "Patient/a"}, "Patient/b", False, True),
        ({"subject": "Patient/a"}, None, False, True),
        ({}, None, False, False),
        ({}, "Patient/a", False, True),
        ({"subject": "Patient/a", "author": "Patient/b"}, "Patient/a", False, False),
        ({"subject": "Patient/a", "author": "Patient/b"}, "Patient/b", False, True),
        ({"subject": "Patient/a", "author": "Patient/b"}, None, False, False),
        # What an address names depends on the address that the server had.
        ({"subject": "http://x/fhir/Patient/a"}, "Patient/a", False, False),
        ({"subject": "http://x/fhir/Patient/a"}, None, False, False),
        ({"subject": "http://x/fhir/Patient/a"}, "Patient/b", False, True),
        # Of what was redacted somebody else is not named any more.
        ({"subject": "Patient/a", "author": "Patient/b"}, None, True, False),
        ({"subject": "Patient/a"}, None, True, False),
        ({"subject": "Patient/a"}, "Patient/b", True, True),
        ({}, "Patient/b", True, False),
    ],
)
def test_a_version_is_whose_its_body_says(body, owner, redacted, misplaced):
    named = {name: {"reference": text} for name, text in body.items()}
    content = encode({"resourceType": "Observation", "id": "o", **named})
    record = Recorded(3, "Observation", "o", 1, 3, 0, b"", content, owner=owner)

    def whose(type, resource):
        text = resource.get("subject", {}).get("reference", "")
        return text if text.startswith("Patient/") else None

    assert is_misplaced(record, redacted, whose) == misplaced


def test_a_record_that_is_there_in_spite_of_a_notice_is_named(folder):
    noted(folder, Tombstone.of("erased", [b"12345678"], [2], 5, WHY))
    found = verified(folder)
    assert kinds(found) == [
        (2, "still there", "Patient/p2/_history/1"),
        (10, "still there", "a notice of the log"),
    ]
    assert "3132333435363738" in found.findings[1].text


def test_a_record_whose_key_is_destroyed_needs_a_notice(folder):
    with closing(connect(folder.folder / "salus.db", KEY, writes=True)) as conn:
        body = conn.execute("SELECT body FROM resource WHERE leaf = 3").get
    folder.keys.gone.add(body[:8])
    assert kinds(verified(folder))[:1] == [(3, "erased without a notice", "Patient/p3/_history/1")]
    folder.destroyed.add(body[:8])
    noted(folder, Tombstone.of("erased", [body[:8]], [3], 5, WHY))
    assert verified(folder).findings == ()


def test_a_record_from_which_something_was_removed_is_what_the_notice_says(folder):
    now = changed(folder, 1, labelled)
    assert kinds(verified(folder)) == [(1, "altered", "Patient/p1/_history/1")]
    noted(folder, Tombstone.of("redacted", (), [1], 5, WHY, {1: now}))
    assert verified(folder).findings == ()
    again = changed(folder, 1)
    assert kinds(verified(folder)) == [(1, "altered", "Patient/p1/_history/1")]
    noted(folder, Tombstone.of("redacted", (), [1], 6, WHY, {1: again}))
    assert verified(folder).findings == ()
    noted(folder, Tombstone.of("purged", (), [1], 7, WHY))
    assert kinds(verified(folder)) == [(1, "still there", "Patient/p1/_history/1")]


def test_a_notice_speaks_of_what_came_before_it_only(folder):
    noted(folder, Tombstone.of("purged", (), [10], 5, WHY))
    assert kinds(verified(folder)) == [(10, "altered", "a notice of the log")]


def test_an_erasure_while_one_looks_is_no_fault(folder):
    async def meanwhile():
        store = await SqliteStore.open(folder.folder, KEY, folder.keys)
        await erase(store, folder.keys)
        await store.close()

    with closing(Reading(folder.folder, KEY, folder.keys)) as reading:
        assert reading.size() == 10
        asyncio.run(meanwhile())
        assert len(folder.keys.gone) == 1
        report = verify(reading, folder.signed, lambda: folder.keys.gone)
    assert (report.findings, report.size) == ((), 10)
    folder.keys.gone.add(next(iter(body_keys(folder, 2))))
    assert kinds(verified(folder))[0] == (2, "erased without a notice", "Patient/p2/_history/1")


def body_keys(world: World, leaf: int) -> set[bytes]:
    """The ids of the keys that the version at a leaf is sealed under."""
    with closing(connect(world.folder / "salus.db", KEY, writes=False)) as conn:
        found = conn.execute("SELECT body FROM resource WHERE leaf = ?", (leaf,))
        return {body[:8] for (body,) in found}


def test_a_part_of_a_log_can_be_verified(folder):
    changed(folder, 1)
    changed(folder, 7)
    assert [leaf for leaf, *_ in kinds(verified(folder))] == [1, 7]
    report = verified(folder, since=5)
    assert ([leaf for leaf, *_ in kinds(report)], report.records) == ([7], 5)


def test_what_was_signed_elsewhere_tells_a_log_that_was_cut_or_rewritten(folder):
    more = Signed(Checkpoint(ORIGIN, 14, b"\1" * 32), "elsewhere")
    cut = verified(folder, more)
    assert kinds(cut)[:1] == [(10, "truncated", "")]
    assert cut.findings[0].text == "The log had 14 leaves when it was signed, and has 10"
    assert cut.stands == folder.signed[0]
    other = verified(folder, Signed(Checkpoint(ORIGIN, 7, b"\1" * 32), "elsewhere"))
    assert kinds(other) == [(0, "rewritten", "")]


def test_a_state_counts_when_the_log_and_each_witness_signed_it():
    log, witness = SigningKey.make(ORIGIN, LOG), SigningKey.make("w.example", WITNESS)
    text = Checkpoint(ORIGIN, 3, b"\2" * 32).text
    alone = Note(text, (log.sign(text),))
    both = alone.signed([witness.sign(text, 1_700_000_000)])
    known = ([log.verifier], [witness.verifier])
    assert trusted(both, "f", None, *known).at == 1_700_000_000_000_000
    assert trusted(both, "f", None, *known).cosigned == ("w.example",)
    assert trusted(alone, "f", 5, [log.verifier], ()).at == 5
    for note, keys in ((alone, known), (both, ([SigningKey.make(ORIGIN, LOG).verifier], []))):
        with pytest.raises(Untrusted):
            trusted(note, "f", None, *keys)


def test_a_tombstone_is_read_as_it_was_written():
    stone = Tombstone.of("expired", [b"12345678"], [9, 3, 4, 5], 1_700_000_000_123_000, WHY)
    assert stone.leaves == ((3, 5), (9, 9))
    assert parse(stone.encode()) == stone
    for other in (b"", b"{}", b'{"kind":"continued"}', stone.encode().replace(b"expired", b"x")):
        assert parse(other) is None


def test_a_store_that_was_brought_to_this_version_has_the_schema_of_a_new_one(tmp_path):
    async def opened():
        store = await SqliteStore.open(tmp_path, KEY, DerivedKeys())
        await store.close()

    with closing(connect(tmp_path / "salus.db", KEY, writes=True)) as conn:
        conn.execute(gzip.decompress(FIRST.read_bytes()).decode())
    asyncio.run(opened())
    with closing(connect(tmp_path / "salus.db", KEY, writes=True)) as conn:
        assert list(foreign.found(conn)) == []
        conn.execute("DROP INDEX old_pk; CREATE VIEW v AS SELECT 1")
        conn.execute("ALTER TABLE kept ADD COLUMN x")
        assert list(foreign.found(conn)) == [
            "The database lacks the index old_pk",
            "The table kept of the database is not as this program makes it",
            "The database has a view v, which is none of this program's",
        ]
