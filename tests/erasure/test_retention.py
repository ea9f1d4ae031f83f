"""What is older than it is to be kept goes by itself, in small steps, and the log and the audit say so."""

from __future__ import annotations

import asyncio
import json

import pytest

from conformance.definitions import load
from conformance.outcome import FhirError
from fhir_server.erasure import holds, retention
from fhir_server.erasure.months import cutoff, expire_before, months
from fhir_server.erasure.retention import apply
from fhir_server.erasure.rules import Rule, read_rules
from fhir_server.log.tombstone import parse
from fhir_server.storage.memory import MemoryStore
from fhir_server.storage.store import EVENTS, EVERYTHING, Event, Gone, Page, Version
from salus.operator import patients, requests
from salus.problem import Problem
from tests.erasure.world import Clinic, told

DAY = 86_400_000_000
TYPES = load().types


@pytest.mark.parametrize(
    ("text", "days"), [("Observation=10d", 10), ("Observation=2m", 60), ("Observation=10y", 3650)]
)
def test_a_rule_is_read(text, days):
    assert read_rules([text], TYPES) == (Rule("Observation", days),)


@pytest.mark.parametrize(
    "parts",
    [
        ["Observation"],
        ["Observation=0d"],
        ["Observation=10"],
        ["Observation=10w"],
        ["Observations=10d"],
        ["Patient=10y"],
        ["AuditEvent=6y"],
        ["Observation=1d", "Observation=2d"],
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(parts):
    with pytest.raises(ValueError, match=r"[A-Z]"):
        read_rules(parts, TYPES)


class Shop:
    """A store whose clock is set by hand."""

    def __init__(self):
        self.now = 0
        self.store = MemoryStore(lambda: self.now)

    async def put(self, id, type="Communication", owner=None, deleted=False):
        async def work(tx):
            current = await tx.get(type, id)
            number = current.number + 1 if current else 1
            body = b"" if deleted else b'{"resourceType":"Communication"}'
            await tx.put(Version(type, id, number, tx.now, body, owner, deleted), ())

        await self.store.transaction(work, write=True)

    async def ids(self, type="Communication"):
        found = await self.store.transaction(lambda tx: tx.find(type, EVERYTHING, (), Page(100)))
        return [each.id for each in found.versions]

    async def history(self):
        found = await self.store.transaction(lambda tx: tx.history("Communication", None, 100))
        return {each.id for each in found}


def test_the_newest_version_says_how_old_a_resource_is(monkeypatch):
    monkeypatch.setattr(retention, "_AT_ONCE", 2)
    monkeypatch.setattr(retention, "_PAGE", 3)

    async def story():
        shop = Shop()
        for n in range(7):
            await shop.put(f"old{n}")
        await shop.put("worked-with")
        await shop.put("deleted")
        await shop.put("deleted", deleted=True)
        await shop.put("other", "Observation")
        await shop.put("held", owner="Patient/held")
        await shop.store.transaction(lambda tx: holds.hold(tx, "held", "claim"), write=True)
        shop.now = 5 * DAY
        await shop.put("worked-with")
        shop.now = 11 * DAY
        done = await apply(shop.store, [Rule("Communication", 10)], shop.now)
        assert done == [("Communication", 8, 1)]
        assert await shop.history() == {"worked-with", "held"}
        assert await shop.ids("Observation") == ["other"]
        notices = await shop.store.transaction(lambda tx: tx.notices())
        stones = [parse(each.content) for each in notices]
        assert {each.kind for each in stones} == {"purged"}
        assert sum(last - first + 1 for s in stones for first, last in s.leaves) == 9
        (event,) = await shop.ids(EVENTS)
        body = await shop.store.transaction(lambda tx: tx.get(EVENTS, event))
        said = json.loads(body.body)
        assert said["outcomeDesc"] == "8 removed, older than 10 days"
        assert said["entity"][0]["type"]["code"] == "Communication"
        assert await apply(shop.store, [Rule("Communication", 10)], shop.now) == []

    asyncio.run(story())


def test_the_event_of_a_run_is_a_valid_audit_event():
    from conformance.validator import Validator
    from fhir_server.erasure.patient import event
    from smart_auth.grant import Grant

    made = [
        retention._event(Rule("Communication", 10), 3, DAY),
        event("ann", "basis", Grant.operator("operator"), DAY),
        event("ann", "basis", Grant("x", agent="Practitioner/p"), DAY),
    ]
    for each in made:
        issues = Validator(load()).validate(json.loads(each.head + b"1" + each.tail))
        assert [issue for issue in issues if issue.severity in ("error", "fatal")] == []


# --- the audit's months ----------------------------------------------------------------------------


class Keys:
    def __init__(self):
        self.gone = []

    def destroy(self, ids, why):
        self.gone += [(id, why) for id in ids]


def test_only_months_that_are_over_end():
    assert cutoff(6, 1_795_338_138_000_000) == "2020-11"

    async def story():
        shop = Shop()
        await shop.store.record([Event(0, b'{"id":"', b'"}', ())])
        assert await months(shop.store) == []  # nothing is sealed here
        assert await expire_before(shop.store, Keys(), "9999-01") == []

    asyncio.run(story())


def test_what_was_recorded_before_there_were_months_ends_with_the_first():
    class Sealed(MemoryStore):
        """As one that was brought from an older version."""

        def __init__(self, months):
            super().__init__()
            self.months, self.expired = months, []

        async def transaction(self, work, write=False):
            return [(f"audit/{month}", b"") for month in self.months]

        async def expire(self, month, notice):
            self.expired.append(month)
            return Gone()

    async def story():
        store = Sealed(["2019-04", "2019-03", "before"])
        await expire_before(store, Keys(), "2019-03")
        assert store.expired == []
        await expire_before(store, Keys(), "2019-04")
        assert store.expired == ["before", "2019-03"]

    asyncio.run(story())


def test_audit_events_of_a_month_end_and_the_log_says_so(tmp_path, monkeypatch):
    from fhir_server.storage.sqlite import events

    monkeypatch.setattr(events, "month", lambda at: "audit/2019-03")

    async def first(clinic: Clinic):
        await clinic.put("Patient", "ann")
        await clinic.found("Patient", name="x")

    told(tmp_path, first)
    monkeypatch.undo()

    async def then(clinic: Clinic):
        await clinic.put("Patient", "bob")
        before = await clinic.found("AuditEvent", _count="100")
        for wrong in ("2020", "2999-01"):
            with pytest.raises(Problem, match="--before"):
                await patients.expire(clinic.product, requests.ExpireAudit(wrong))
        done = await patients.expire(clinic.product, requests.ExpireAudit())
        ((month, count),) = done.months
        assert month == "2019-03"
        assert count >= 2
        after = await clinic.found("AuditEvent", _count="100")
        assert not {"1", "2"} & set(after)
        assert {"1", "2"} <= set(before)
        with pytest.raises(FhirError):
            await clinic.ask("read", "AuditEvent", "1")
        assert (await patients.expire(clinic.product, requests.ExpireAudit())).months == ()
        assert list(clinic.server.store.check()) == []
        return await clinic.server.store.transaction(lambda tx: tx.notices())

    notices = told(tmp_path, then)
    assert {parse(each.content).kind for each in notices} == {"expired"}
    assert [len(parse(each.content).keys) for each in notices] == [0, 1]
    from tests.erasure.test_erasure import verified

    assert verified(tmp_path) == ()


def test_the_daily_round_does_what_the_settings_say(tmp_path):
    async def story(clinic: Clinic):
        purged, ended = await clinic.product.ending.daily()
        assert (purged, ended) == ([], [])

    told(tmp_path, story)
