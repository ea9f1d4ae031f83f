"""A small store with everything that a log can have in it: versions, deletions, events with and
without what is kept apart, notices, and what was erased; and the states of it that were signed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random
from typing import NamedTuple

from fhir_server.audit.apart import apart, held
from fhir_server.audit.proven import Signed
from fhir_server.log import merkle
from fhir_server.log.checkpoint import Checkpoint
from fhir_server.log.tombstone import Tombstone
from fhir_server.storage.sqlite import SqliteStore
from fhir_server.storage.store import Entry, Event, Version
from fhir_server.times import instant
from tests.derived_keys import DerivedKeys

KEY = bytes(range(32))
ORIGIN = "fhir.example/log"
ERASED = "Patient/p3"
RECORDS = 560


class World(NamedTuple):
    folder: Path
    keys: DerivedKeys
    signed: list[Signed]
    destroyed: set[bytes]


async def made(folder: Path, seed: int = 1) -> World:
    """The store of a seed, closed."""
    random, keys = Random(seed), DerivedKeys()
    store = await SqliteStore.open(folder, KEY, keys)
    signed = []
    for number in range(RECORDS):
        await _step(store, random)
        if number in (90, 300, 301, RECORDS - 1):
            signed.append(await state(store))
        if number == 400:
            await erase(store, keys)
            await redact(store, "Observation", "o1", 1)
    await store.transaction(lambda tx: tx.note(b'{"kind":"hello"}'), write=True)
    await _step(store, random)
    await store.close()
    return World(folder, keys, signed, keys.gone)


async def _step(store: SqliteStore, random: Random) -> None:
    if random.random() < 0.5:
        await store.record([event(random)])
        return
    name = f"p{random.randrange(9)}"
    type, id = random.choice((("Patient", name), ("Observation", f"o{random.randrange(60)}")))
    owner = f"Patient/{name}" if random.random() < 0.8 else None
    await put(store, type, id, owner, deleted=random.random() < 0.15)


async def put(store, type, id, owner=None, deleted=False, **more) -> Version:
    """The next version of a resource."""

    async def work(tx):
        current = await tx.get(type, id)
        number = current.number + 1 if current else 1
        body = b"" if deleted else content(type, id, number, tx.now, **more)
        entries = () if deleted else (Entry("token", "_tag", "s", id),)
        whose = current.owner if current and deleted else owner
        return await tx.put(Version(type, id, number, tx.now, body, whose, deleted), entries)

    return await store.transaction(work, write=True)


def content(type, id, number, updated, **more) -> bytes:
    meta = {"versionId": str(number), "lastUpdated": instant(updated)}
    return json.dumps({"resourceType": type, "id": id, "meta": meta, **more}).encode()


def event(random: Random) -> Event:
    at = 1_700_000_000_000_000 + random.randrange(10**12)
    head = b'{"resourceType":"AuditEvent","id":"'
    meta = f'"meta":{{"versionId":"1","lastUpdated":"{instant(at)}"}}'
    if random.random() < 0.5:
        return Event(at, head, f'",{meta}}}'.encode(), ())
    kept, hash = apart(b"Patient?name=%d" % random.randrange(100))
    whose = f"Patient/p{random.randrange(9)}"
    named = f'"entity":[{{"what":{{"reference":"{whose}"}}}}]'
    tail = f'",{meta},{held(hash)},{named}}}'
    return Event(at, head, tail.encode(), (), kept, whose)


async def erase(store: SqliteStore, keys: DerivedKeys) -> None:
    """Erase one owner as the log must tell it."""
    conn = store._writer
    leaves = [
        leaf
        for table in ("resource", "old")
        for (leaf,) in conn.execute(
            f"SELECT r.leaf FROM {table} r JOIN resource o ON o.pk = r.owner"
            " WHERE o.id = ? AND r.leaf IS NOT NULL",
            (ERASED.partition("/")[2],),
        )
    ]
    gone = [id for (id,) in conn.execute("SELECT id FROM sealing WHERE owner = ?", (ERASED,))]

    async def work(tx):
        before = await leaves_of(tx)
        await tx.erase(ERASED)
        lost = before - await leaves_of(tx)
        assert set(leaves) <= lost
        tombstone = Tombstone.of("erased", gone, lost, tx.now, "asked for by its owner")
        await tx.note(tombstone.encode())
        tx._reach.conn.execute("DELETE FROM sealing WHERE owner = ?", (ERASED,))

    await store.transaction(work, write=True)
    store._shared.sealing.forget()
    keys.gone |= set(gone)


async def redact(store: SqliteStore, type: str, id: str, number: int) -> None:
    """Remove something from a version as an erasure does it."""

    async def work(tx):
        found = await tx.get(type, id, number)
        labelled = {"meta": {**json.loads(found.body)["meta"], "security": [{"code": "REDACTED"}]}}
        body = json.dumps({**json.loads(found.body), **labelled}, separators=(",", ":")).encode()
        leaf, hash = await tx.redact(type, id, number, body)
        stone = Tombstone.of("redacted", (), [leaf], tx.now, "what it named", {leaf: hash})
        await tx.note(stone.encode())

    await store.transaction(work, write=True)


async def leaves_of(tx) -> set[int]:
    conn = tx._reach.conn
    found = conn.execute(
        "SELECT leaf FROM resource WHERE leaf IS NOT NULL UNION SELECT leaf FROM old"
    )
    return {leaf for (leaf,) in found}


async def state(store: SqliteStore) -> Signed:
    """The log as it is, as it would be signed."""

    async def work(tx):
        size = await tx.size()
        return Checkpoint(ORIGIN, size, await merkle.root(size, tx.tile))

    return Signed(await store.transaction(work), "a file", 1_700_000_000_000_000)


def make(folder: Path, seed: int = 1) -> World:
    return asyncio.run(made(folder, seed))
