"""A folder that an earlier Salus wrote is brought to this version, with everything in it."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from fhir_server.log.merkle import salted_leaf
from fhir_server.storage.sqlite.schema import FILE, connect
from fhir_server.storage.store import EVENTS, EVERYTHING, Page
from tests.derived_keys import DerivedKeys
from tests.storage.conftest import KEY, sqlite

# Written by the code of schema 1: a patient in two versions, an observation of hers, an
# organisation that was deleted, a group that names somebody who is not there, three events and two
# kept records.
FIRST = Path(__file__).with_name("folder-v1.sql.gz")
OBSERVATION = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    conn = connect(data / FILE, KEY, writes=True)
    conn.execute(gzip.decompress(FIRST.read_bytes()).decode())
    conn.close()
    return data


def test_a_folder_of_the_first_schema_is_sealed_and_every_record_has_its_leaf(folder):
    async def story():
        async with sqlite(folder, extraction="one") as store:
            return await store.transaction(_everything)

    seen = asyncio.run(story())
    bodies = [(each.type, each.id, each.number, each.owner, each.body) for each in seen["history"]]
    assert bodies == [
        ("Group", "g", 1, None, b'{"resourceType":"Group","id":"g"}'),
        ("Organization", "org", 2, None, b""),
        ("Organization", "org", 1, None, b'{"resourceType":"Organization","id":"org"}'),
        (
            "Observation",
            OBSERVATION,
            1,
            "Patient/ada",
            b'{"resourceType":"Observation","id":"o","status":"final"}',
        ),
        (
            "Patient",
            "ada",
            2,
            "Patient/ada",
            b'{"resourceType":"Patient","id":"ada","gender":"unknown"}',
        ),
        (
            "Patient",
            "ada",
            1,
            "Patient/ada",
            b'{"resourceType":"Patient","id":"ada","gender":"female"}',
        ),
    ]
    assert [each.leaf for each in seen["history"]] == [5, 4, 3, 2, 1, 0]
    assert [(each.id, each.leaf) for each in seen["events"]] == [("1", 6), ("2", 7), ("3", 8)]
    assert seen["events"][0].body == b'{"resourceType":"AuditEvent","id":"1","n":0}'
    assert seen["kept"] == b"value"
    hashes = [salted_leaf(each.salt, each.content) for each in seen["logged"]]
    assert seen["size"] == 9
    assert seen["tile"] == b"".join(hashes)


def test_what_was_migrated_lies_sealed_and_stays_what_it_is_at_the_next_start(folder):
    keys = DerivedKeys()

    async def story():
        async with sqlite(folder, keys=keys, extraction="one"):
            pass
        conn = connect(folder / FILE, KEY, writes=False)
        values = [value for row in conn.execute("SELECT body FROM resource") for value in row]
        values += [value for row in conn.execute("SELECT value FROM kept") for value in row]
        conn.close()
        assert not any(b"value" in each or b"gender" in each for each in values if each)
        async with sqlite(folder, keys=keys, extraction="one") as store:
            assert list(store.check()) == []
            return await store.transaction(_everything)

    assert asyncio.run(story())["size"] == 9


async def _everything(tx):
    history = await tx.history(None, None, 100)
    events = (await tx.find(EVENTS, EVERYTHING, (), Page(100))).versions
    named = [(each.type, each.id, each.number) for each in (*reversed(history), *events)]
    return {
        "history": history,
        "events": events,
        "kept": (await tx.kept("space", "key")).value,
        "logged": [await tx.logged(*each) for each in named],
        "size": await tx.size(),
        "tile": await tx.tile(0, 0),
    }
