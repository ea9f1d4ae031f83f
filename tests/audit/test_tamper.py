"""Whatever is done to the records or tiles of a store, a verification finds it and names the first
record that is not as it was."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from fhir_server.audit.verify import verify
from fhir_server.storage.sqlite.proving import Reading
from fhir_server.storage.sqlite.schema import connect
from fhir_server.storage.store import StoreError
from tests.audit.meddling import MEDDLING, UNREADABLE
from tests.audit.tampering import ATTACKS, Attack
from tests.audit.worlds import KEY, World, make


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return make(tmp_path_factory.mktemp("world") / "data")


def verified(folder: Path, world: World):
    with closing(Reading(folder, KEY, world.keys)) as reading:
        return verify(reading, world.signed, world.destroyed)


def tampered(world: World, folder: Path, attack, seed) -> tuple:
    """A copy of the store after an attack: what must be found, and what is."""
    shutil.copytree(world.folder, folder)
    with closing(connect(folder / "salus.db", KEY, writes=True)) as conn:
        caught = attack(Attack(conn, world, Random(seed)))
    found = verified(folder, world)
    shutil.rmtree(folder)
    return caught, found


def test_a_store_that_nobody_touched_is_found_to_be_whole(world):
    report = verified(world.folder, world)
    assert report.findings == ()
    assert report.stands == world.signed[-1]
    assert report.size > 512 < report.records
    assert report.erased > 10
    assert report.size == report.records + report.notices + report.erased


@pytest.mark.parametrize("damage", UNREADABLE)
def test_what_nothing_can_be_read_without_is_said_to_be_missing(world, tmp_path, damage):
    shutil.copytree(world.folder, tmp_path / "data")
    with closing(connect(tmp_path / "data" / "salus.db", KEY, writes=True)) as conn:
        conn.execute(damage)
    try:
        report = verified(tmp_path / "data", world)
    except StoreError as error:
        assert "salus.db" in str(error)
    else:
        assert not report.well


@pytest.mark.parametrize(
    "cases", [2, pytest.param(32, marks=pytest.mark.slow)], ids=["short", "long"]
)
@pytest.mark.parametrize("attack", ATTACKS + MEDDLING, ids=lambda attack: attack.__name__)
def test_whatever_is_done_to_a_store_is_found_and_named(world, tmp_path, attack, cases):
    for seed in range(cases):
        caught, report = tampered(world, tmp_path / "data", attack, seed)
        told = (seed, caught, report.findings[:5])
        assert not report.well, told
        assert caught.leaves is None or report.first.leaf in caught.leaves, told
        kinds = {each.kind for each in report.findings}
        assert not caught.kinds or kinds & caught.kinds, told


@pytest.mark.parametrize(
    "cases", [8, pytest.param(100, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_a_bit_that_flips_in_the_file_is_found(world, tmp_path, cases):
    folder, random = tmp_path / "data", Random(5)
    shutil.copytree(world.folder, folder)
    with closing(connect(folder / "salus.db", KEY, writes=True)) as conn:
        conn.execute("VACUUM")
    file = folder / "salus.db"
    whole = file.read_bytes()
    assert verified(folder, world).well
    unseen = []
    for _ in range(cases):
        at = random.randrange(len(whole))
        flipped = bytearray(whole)
        flipped[at] ^= 1 << random.randrange(8)
        file.write_bytes(flipped)
        try:
            found = verified(folder, world).findings
        except StoreError:
            continue
        unseen += [at] if not found else []
    assert unseen == []
