"""What writes has a time for its searches: beyond it a Bundle is refused, and nothing of it done."""

import asyncio
import json
from dataclasses import replace

import pytest

from conformance.outcome import FhirError
from fhir_server import transaction
from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction
from fhir_server.server import Server
from fhir_server.storage.memory import MemoryStore
from fhir_server.storage.sqlite import SqliteStore
from smart_auth.grant import Grant
from tests.derived_keys import DerivedKeys
from tests.security.clinic import core

CALLER = Caller(Grant.operator("test"), "127.0.0.1", "here")


def bundle(type, *entries):
    return Interaction(
        type, resource={"resourceType": "Bundle", "type": type, "entry": list(entries)}
    )


def create(condition=None, **more):
    """A create of a patient, if none meets the condition."""
    request = {"method": "POST", "url": "Patient"}
    request |= {"ifNoneExist": condition} if condition else {}
    return {"request": request, "resource": {"resourceType": "Patient", **more}}


def about(condition):
    """A create of what refers to the patient that meets a condition."""
    resource = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "pulse"},
        "subject": {"reference": f"Patient?{condition}"},
    }
    return {"request": {"method": "POST", "url": "Observation"}, "resource": resource}


def server(store, seconds=3.0):
    return Server(store, replace(core(), limits=replace(core().limits, writing_seconds=seconds)))


async def total(server, type):
    asked = Interaction("search-type", type, parameters=(("_summary", "count"),))
    return json.loads((await server.perform(asked, CALLER)).body)["total"]


class Ticking:
    """A clock by which every condition takes a second."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def test_the_conditions_of_a_transaction_have_a_time_together(monkeypatch):
    monkeypatch.setattr(transaction, "monotonic", Ticking())

    async def story():
        clinic = server(MemoryStore())
        conditions = [create(f"identifier=urn:x|{n}") for n in range(2)]
        await clinic.perform(bundle("transaction", create(identifier=[{"value": "one"}])), CALLER)
        fair = bundle("transaction", *conditions, about("identifier=one"))
        await clinic.perform(fair, CALLER)
        assert [await total(clinic, "Patient"), await total(clinic, "Observation")] == [3, 1]

        more = [create(f"identifier=urn:y|{n}") for n in range(3)]
        with pytest.raises(FhirError, match="looked up within 3 seconds") as refused:
            await clinic.perform(bundle("transaction", *more, about("identifier=one")), CALLER)
        assert refused.value.status == 422
        assert [issue.code for issue in refused.value.issues] == ["too-costly"]
        assert [await total(clinic, "Patient"), await total(clinic, "Observation")] == [3, 1]

    asyncio.run(story())


def test_others_have_their_turn_while_the_conditions_of_a_transaction_are_looked_up(monkeypatch):
    monkeypatch.setattr(transaction, "_TURN", 0.0)

    async def story():
        clinic = server(MemoryStore())
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        conditions = [create(f"identifier=urn:x|{n}") for n in range(50)]
        await clinic.perform(bundle("transaction", *conditions), CALLER)
        beside.cancel()
        assert turns > 50

    asyncio.run(story())


def sqlite(story, folder, **settings):
    async def told():
        store = await SqliteStore.open(folder, bytes(32), DerivedKeys(), **settings)
        try:
            await story(server(store))
        finally:
            await store.close()

    asyncio.run(told())


def test_a_transaction_whose_searches_take_too_long_while_it_writes_is_undone(tmp_path):
    async def story(clinic):
        remove = {"request": {"method": "DELETE", "url": "Patient?identifier=nobody"}}
        await clinic.perform(bundle("transaction", create(), create()), CALLER)
        with pytest.raises(FhirError, match="took longer than this server allows") as refused:
            await clinic.perform(bundle("transaction", remove, create()), CALLER)
        assert (refused.value.status, refused.value.issues[0].code) == (422, "too-costly")
        assert await total(clinic, "Patient") == 2

    sqlite(story, tmp_path, writing_seconds=0.0)


def test_entries_of_a_batch_whose_conditions_take_too_long_are_refused_and_the_others_not(tmp_path):
    async def story(clinic):
        await clinic.perform(bundle("batch", create()), CALLER)
        read = {"request": {"method": "GET", "url": "Patient?_summary=count"}}
        unfit = create(gender=7)
        asked = bundle("batch", create(), read, create("identifier=x"), unfit)
        answer = json.loads((await clinic.perform(asked, CALLER)).body)

        statuses = [each["response"]["status"][:3] for each in answer["entry"]]
        assert statuses == ["422", "200", "422", "422"]
        issues = [each["response"].get("outcome", {}).get("issue") for each in answer["entry"]]
        codes = [each and (each[0]["code"], each[0]["expression"]) for each in issues]
        assert codes == [
            ("too-costly", ["Bundle.entry[0]"]),
            None,
            ("too-costly", ["Bundle.entry[2]"]),
            ("code-invalid", ["Bundle.entry[3].resource.gender"]),
        ]
        assert answer["entry"][1]["resource"]["total"] == 1
        assert await total(clinic, "Patient") == 1
        trail = Interaction("search-type", "AuditEvent", parameters=(("outcome", "4"),))
        assert len(json.loads((await clinic.perform(trail, CALLER)).body)["entry"]) == 3

    sqlite(story, tmp_path, writing_seconds=0.0)
