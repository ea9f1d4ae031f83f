"""What of an event a patient reads, and of which one there is a receipt."""

from __future__ import annotations

import asyncio
import json

import pytest

from conformance.outcome import FhirError
from tests.salus.console.record import opened

_SEARCH = (("code", "718-7"), ("patient", "Patient/ann"))


@pytest.fixture
def tell(tmp_path):
    def run(story):
        async def told():
            async with opened(tmp_path) as clinic:
                return await story(clinic)

        return asyncio.run(told())

    return run


async def events(clinic, patient):
    """What the patient's own app finds, newest first, without what that asked itself."""
    found = await clinic.act(
        clinic.patient(patient),
        "search-type",
        "AuditEvent",
        parameters=(("agent", "Practitioner/may"), ("_sort", "-date")),
    )
    return [each["resource"] for each in json.loads(found.body).get("entry", ())]


async def proof(clinic, patient, id):
    caller = clinic.patient(patient)
    return await clinic.act(caller, "operation", "AuditEvent", id, operation="proof")


def test_of_a_search_the_patient_learns_what_was_searched_and_no_value(tell):
    async def story(clinic):
        await clinic.act(clinic.doctor(), "search-type", "Observation", parameters=_SEARCH)
        (event,) = await events(clinic, "ann")
        named = [each["what"] for each in event["entity"] if "what" in each]
        (asked,) = (each for each in event["entity"] if "what" not in each)
        assert {"reference": "Patient/ann"} in named
        assert {"identifier": {"value": "request-1"}} in named
        assert asked["description"] == "Observation?code&patient"
        assert "query" not in asked
        assert "718-7" not in json.dumps(event)

    tell(story)


def test_a_search_within_somebody_elses_compartment_is_not_named(tell):
    async def story(clinic):
        within = {"compartment": ("Practitioner", "may")}
        sent = {"resourceType": "Observation", "id": "of-ann", "status": "final"}
        sent |= {"code": {"text": "x"}, "subject": {"reference": "Patient/ann"}}
        sent |= {"performer": [{"reference": "Practitioner/may"}]}
        await clinic.act(clinic.doctor(), "update", "Observation", "of-ann", resource=sent)
        await clinic.act(clinic.doctor(), "search-type", "Observation", **within)
        found, _ = await events(clinic, "ann")
        assert all("description" not in each for each in found["entity"])

    tell(story)


def test_the_words_of_another_system_are_cut(tell):
    async def story(clinic):
        event = {
            "resourceType": "AuditEvent",
            "type": {"code": "110110"},
            "recorded": "2026-11-22T08:00:00Z",
            "agent": [{"requestor": True, "who": {"reference": "Practitioner/may"}}],
            "source": {"observer": {"display": "another"}},
            "entity": [
                {"what": {"reference": "Patient/ann"}},
                {"role": {"code": "24"}, "description": "Patient?Bob Bold"},
            ],
        }
        await clinic.act(clinic.doctor(), "create", "AuditEvent", resource=event)
        found = await events(clinic, "ann")
        assert found
        assert "Bold" not in json.dumps(found)

    tell(story)


def test_there_is_a_receipt_of_what_concerns_one_patient_and_of_nothing_that_names_others(tell):
    async def story(clinic):
        doctor = clinic.doctor()
        await clinic.act(doctor, "read", "Observation", "of-ann")
        await clinic.act(doctor, "search-type", "Observation", parameters=_SEARCH)
        await clinic.act(doctor, "search-type", "Observation", parameters=(("code", "718-7"),))
        both, searched, read = await events(clinic, "ann")
        for event in (read, searched):
            given = json.loads((await proof(clinic, "ann", event["id"])).body)["parameter"]
            receipt = next(each["valueString"] for each in given if each["name"] == "receipt")
            assert receipt.startswith("c2sp.org/tlog-proof@v1\n")
            assert "718-7" not in json.dumps(given)
        refused = await proof(clinic, "ann", both["id"])
        assert isinstance(refused, FhirError)
        assert refused.status == 403
        refused = await proof(clinic, "bob", read["id"])
        assert isinstance(refused, FhirError)
        assert refused.status == 404

    tell(story)
