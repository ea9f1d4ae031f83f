"""What a verification makes of notices, of what was signed elsewhere, and of a part of a log."""

from __future__ import annotations

import asyncio
from contextlib import closing
from random import Random

import pytest

from fhir_server.audit.proven import Signed, trusted
from fhir_server.audit.verify import verify
from fhir_server.log.checkpoint import Checkpoint
from fhir_server.log.note import LOG, WITNESS, Note, SigningKey, Untrusted
from fhir_server.log.tombstone import Tombstone, parse
from fhir_server.storage.sqlite import SqliteStore
from fhir_server.storage.sqlite.proving import Reading
from fhir_server.storage.sqlite.schema import connect
from tests.audit.tampering import Attack
from tests.audit.worlds import KEY, ORIGIN, World, event, put, state
from tests.derived_keys import DerivedKeys

WHY = "asked for by its owner"


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


def verified(world: World, *more: Signed, since: int = 0):
    with closing(Reading(world.folder, KEY, world.keys)) as reading:
        return verify(reading, [*world.signed, *more], world.destroyed, since)


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
    removed(folder, "DELETE FROM event WHERE n = 2")
    assert kinds(verified(folder)) == [(6, "deleted", "")]
    noted(folder, Tombstone.of("purged", (), [6], 5, WHY))
    report = verified(folder)
    assert (report.findings, report.erased, report.size) == ((), 1, 11)


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
    now = changed(folder, 1)
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
