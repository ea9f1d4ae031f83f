"""The log is signed as it grows, cosigned by who can be reached, kept and handed out; and whatever
contradicts what was signed is an alarm."""

from __future__ import annotations

import asyncio

import pytest

from fhir_server.audit import publishing
from fhir_server.audit.publishing import Publisher, newest
from fhir_server.log import checkpoint, merkle, receipt
from fhir_server.log.checkpoint import Head
from fhir_server.log.note import LOG, WITNESS, SigningKey
from fhir_server.log.receipt import Policy, Receipt
from fhir_server.log.signing import LocalSigner
from fhir_server.log.witness import Refused, Request, Unreachable, witnessed
from fhir_server.storage.memory import MemoryStore
from fhir_server.storage.store import Event

KEY = SigningKey.make("fhir.example/log", LOG)
NOW = 1_700_000_000_000_000


class Signer(LocalSigner):
    """A signer that remembers in memory."""

    def __init__(self, key=KEY) -> None:
        self.head: Head | None = None
        super().__init__(key, self._load, self._store_head)

    async def _load(self):
        return self.head

    async def _store_head(self, head):
        self.head = head


class Witness:
    """Cosigns as the standard says, unless `trouble` is raised."""

    def __init__(self, name: str, trouble: Exception | None = None, slow: float = 0.0) -> None:
        self._key = SigningKey.make(name, WITNESS)
        self.verifier = self._key.verifier
        self.trouble, self.slow, self.asked = trouble, slow, 0
        self._heads: dict[str, Head] = {}

    async def cosign(self, note, old, proof):
        self.asked += 1
        await asyncio.sleep(self.slow)
        if self.trouble:
            raise self.trouble
        body = Request(old, tuple(proof), note.encode()).encode()
        accepted = witnessed(body, {KEY.name: [KEY.verifier]}, self._heads)
        self._heads[KEY.name] = accepted.checkpoint.head
        return self._key.sign(note.text, 1_700_000_000)


class Outlet:
    def __init__(self, trouble: Exception | None = None) -> None:
        self.where, self.trouble, self.heard = "outside", trouble, []

    async def publish(self, note):
        if self.trouble:
            raise self.trouble
        self.heard.append(checkpoint.parse(note.text).size)


async def grow(store, leaves=1):
    await store.record([Event(n, b'{"id":"', b'"}', ()) for n in range(leaves)])


def told(story, *witnesses, outlets=(), signer=None):
    """Run a story with a store, its publisher and what alarms it raised."""

    async def run():
        store, alarms = MemoryStore(), []

        async def alarm(text):
            alarms.append(text)

        publisher = Publisher(
            store, signer or Signer(), lambda: NOW, witnesses, outlets, alarm, every=0
        )
        await publisher.start()
        await story(store, publisher, alarms)

    asyncio.run(run())


def test_what_is_published_verifies_and_is_kept():
    async def story(store, publisher, alarms):
        await grow(store, 3)
        assert await publisher.publish()
        kept = await store.transaction(newest)
        state, _ = checkpoint.opened(kept.note, KEY.verifier)
        assert (state.size, kept.at) == (3, NOW)
        assert state.root == await store.transaction(lambda tx: merkle.root(3, tx.tile))
        hours = await store.transaction(lambda tx: tx.range("log", "hour/", "hour0"))
        assert [each.key for each in hours] == ["hour/2023-11-14T22"]
        assert not await publisher.publish(), "nothing changed since"
        await grow(store)
        await publisher.publish()
        assert (await store.transaction(newest)).checkpoint.size == 4
        assert len(await store.transaction(lambda tx: tx.range("log", "hour/", "hour0"))) == 1

    told(story)


def test_witnesses_cosign_and_those_who_cannot_hold_nobody_up(monkeypatch):
    monkeypatch.setattr(publishing, "WITNESS_SECONDS", 0.05)
    well, away = Witness("well.example"), Witness("away.example", Unreachable("no answer"))
    slow = Witness("slow.example", slow=5)

    async def story(store, publisher, alarms):
        await grow(store, 2)
        await publisher.publish()
        note = publisher.newest.note
        assert [each.name for each in note.signatures] == [KEY.name, "well.example"]
        assert publisher.progress.cosigned == 1
        assert set(publisher.progress.troubles) == {"away.example", "slow.example"}
        await grow(store, 2)
        await publisher.publish()
        assert (well.asked, away.asked, slow.asked) == (2, 1, 1), "who failed rests"
        assert alarms == []
        logged = await store.transaction(lambda tx: tx.logged("AuditEvent", "1"))
        proof = await store.transaction(lambda tx: merkle.inclusion(0, 4, tx.tile))
        given = Receipt(*logged, tuple(proof), publisher.newest.note)
        policy = Policy(KEY.verifier, (well.verifier,), 1)
        assert receipt.check(receipt.parse(given.encode()), policy).content == b'{"id":"1"}'

    told(story, well, away, slow)


def test_a_witness_is_asked_at_the_start_and_again_until_it_answers(monkeypatch):
    monkeypatch.setattr(publishing, "TICK", 0.01)
    monkeypatch.setattr(publishing, "PATIENCE", 0.05)
    late, outlet, signer = Witness("late.example", Unreachable("no answer")), Outlet(), Signer()

    async def story(store, publisher, alarms):
        await grow(store, 3)
        await publisher.publish()
        at = publisher.newest.at
        again = Publisher(store, signer, lambda: NOW + 1, [late], [outlet], every=0)
        await again.start()
        working = asyncio.create_task(again.run())
        await until(lambda: late.asked > 1)
        assert set(again.progress.troubles) == {"late.example"}
        assert outlet.heard == [3]
        late.trouble = None
        await until(lambda: len(outlet.heard) > 1)
        working.cancel()
        assert again.progress.troubles == {}
        kept = await store.transaction(newest)
        assert (kept.at, kept.checkpoint.size, again.progress.cosigned) == (at, 3, 1)
        assert [each.name for each in kept.note.signatures] == [KEY.name, "late.example"]
        assert outlet.heard == [3, 3], "with the cosignature, once"

    told(story, signer=signer)


def test_a_witness_that_saw_another_log_is_not_asked_again_before_the_log_grows(monkeypatch):
    monkeypatch.setattr(publishing, "TICK", 0.01)
    monkeypatch.setattr(publishing, "PATIENCE", 0.02)
    other = Witness("other.example", Refused(422, "not consistent", alarm=True))

    async def story(store, publisher, alarms):
        await grow(store)
        await publisher.publish()
        working = asyncio.create_task(publisher.run())
        await asyncio.sleep(0.2)
        working.cancel()
        assert other.asked == 1
        await grow(store)
        await publisher.publish()
        assert other.asked == 2

    told(story, other)


async def until(true):
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


def test_a_witness_that_sees_another_log_is_an_alarm():
    other = Witness("other.example", Refused(422, "not consistent", alarm=True))

    async def story(store, publisher, alarms):
        await grow(store)
        await publisher.publish()
        assert alarms == ["The witness other.example refuses: not consistent"]
        assert publisher.progress.alarms == 1
        assert publisher.newest.checkpoint.size == 1, "service goes on"

    told(story, other)


def test_a_log_that_was_cut_is_an_alarm_at_the_start_and_is_not_signed():
    signer = Signer()

    async def story(store, publisher, alarms):
        await grow(store, 5)
        await publisher.publish()
        newest = await store.transaction(publishing.newest)
        cut = MemoryStore()
        await grow(cut, 3)
        stamped = await store.transaction(lambda tx: tx.kept("log", "newest"))
        await cut.transaction(lambda tx: tx.keep("log", "newest", stamped.value), write=True)

        async def alarm(text):
            alarms.append(text)

        again = Publisher(cut, signer, lambda: NOW, alarm=alarm)
        await again.start()
        assert alarms == ["The log has 3 leaves, 5 were signed: it was cut or rolled back"]
        assert not await again.publish()
        assert alarms[1:] == ["The signer refuses: The log had 5 leaves"]
        await again.publish()
        assert len(alarms) == 2, "the same alarm is not raised again and again"
        assert (await cut.transaction(publishing.newest)) == newest

    told(story, signer=signer)


def test_a_log_that_was_rewritten_is_not_signed():
    signer = Signer()

    async def story(store, publisher, alarms):
        await grow(store, 5)
        await publisher.publish()
        rewritten = MemoryStore()
        await grow(rewritten, 9)

        async def alarm(text):
            alarms.append(text)

        again = Publisher(rewritten, signer, lambda: NOW, alarm=alarm)
        await again.start()
        assert not await again.publish()
        assert alarms == ["The signer refuses: Not proven to begin with the 5 leaves before"]

    told(story, signer=signer)


def test_whoever_waits_for_a_leaf_is_told_when_it_is_signed(monkeypatch):
    monkeypatch.setattr(publishing, "WAIT", 0.2)

    async def story(store, publisher, alarms):
        await grow(store, 2)
        waiting = asyncio.create_task(publisher.covered(1))
        never = asyncio.create_task(publisher.covered(7))
        await asyncio.sleep(0)
        assert not waiting.done()
        await publisher.publish()
        await asyncio.wait_for(waiting, 0.05)
        await asyncio.wait_for(never, 1)
        assert publisher.progress.signed == 2

    told(story)


@pytest.mark.parametrize("trouble", [None, OSError("disk full"), Unreachable("gone")])
def test_checkpoints_go_outside_and_trouble_there_stops_nothing(trouble):
    outlet = Outlet(trouble)

    async def story(store, publisher, alarms):
        await grow(store)
        working = asyncio.create_task(publisher.run())
        await publisher.covered(0)
        await asyncio.sleep(0.3)
        working.cancel()
        await grow(store)
        await publisher.close()
        assert outlet.heard == ([] if trouble else [1, 2])
        assert ("outside" in publisher.progress.troubles) == (trouble is not None)
        assert publisher.newest.checkpoint.size == 2

    told(story, outlets=[outlet])
