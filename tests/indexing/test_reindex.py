"""$reindex: for callers who may do everything; it mends entries, and goes on answering meanwhile.

https://hl7.org/fhir/R4/operations.html
"""

from __future__ import annotations

import pytest

from conformance.outcome import FhirError
from fhir_server.interaction import Interaction
from smart_auth.grant import NOBODY, Grant, Scope
from tests.indexing.world import EVERYBODY, RACE_PARAMETER, Served, counted, patient
from tests.storage.conftest import memory, sqlite, with_store

__all__ = ["memory", "sqlite", "with_store"]

PATIENTS = range(30)


def _asked(*parts: tuple[str, str, object]) -> Interaction:
    given = [{"name": name, kind: value} for name, kind, value in parts]
    resource = {"resourceType": "Parameters", "parameter": given} if given else None
    return Interaction("operation", operation="reindex", resource=resource)


async def _filled(store) -> Served:
    served = Served(store)
    await served.parameters.settle()
    await served.put({**RACE_PARAMETER, "id": "race"})
    for number in PATIENTS:
        await served.put(patient(number))
    return served


def _rows(told: dict, name: str) -> list[dict]:
    return [
        {
            each["name"]: next(value for key, value in each.items() if key.startswith("value"))
            for each in part["part"]
        }
        for part in told.get("parameter", ())
        if part["name"] == name
    ]


RACE = {
    "url": RACE_PARAMETER["url"],
    "type": "Patient",
    "code": "race",
    "state": "active",
    "origin": "SearchParameter/race",
    "failed": 0,
}


def test_without_parameters_it_tells_and_begins_nothing(with_store):
    async def story(store):
        served = await _filled(store)
        told = await served.ask(_asked())
        assert (_rows(told, "parameter"), _rows(told, "building")) == ([RACE], [])

    with_store(story)


@pytest.mark.parametrize(
    "named",
    [
        ("type", "valueCode", "Patient"),
        ("parameter", "valueUri", RACE_PARAMETER["url"]),
        ("all", "valueBoolean", True),
    ],
)
def test_entries_that_were_wrong_are_mended_while_what_answers_goes_on_answering(with_store, named):
    async def story(store):
        served = await _filled(store)

        async def forget(tx):
            await tx.reindex("Patient", "p1", ())

        await store.transaction(forget, write=True)
        told = await served.ask(_asked(named))
        building = [row for row in _rows(told, "building") if row["type"] == "Patient"]
        assert building == [{"type": "Patient", "done": 0, "total": len(PATIENTS)}]
        assert _rows(told, "parameter") == [RACE]
        assert sum((await served.races()).values()) == sum(counted(PATIENTS).values()) - 1
        await served.parameters.finish()
        assert await served.races() == counted(PATIENTS)
        assert await served.total("Patient", ("gender", "other")) == len(PATIENTS)
        assert _rows(await served.ask(_asked()), "building") == []

    with_store(story)


@pytest.mark.parametrize(
    ("part", "status"),
    [
        (("type", "valueCode", "AuditEvent"), 404),
        (("type", "valueCode", "Nothing"), 404),
        (("parameter", "valueUri", "http://nowhere.example"), 404),
        (("other", "valueString", "x"), 400),
        ((["type"], "valueCode", "Patient"), 400),
        (("type", "code", "Patient"), 400),
    ],
)
def test_what_there_is_not_is_refused(with_store, part, status):
    async def story(store):
        served = await _filled(store)
        with pytest.raises(FhirError) as refused:
            await served.ask(_asked(part))
        assert refused.value.status == status

    with_store(story)


@pytest.mark.parametrize(
    "grant",
    [
        NOBODY,
        Grant("reads", scopes=(Scope("system", "*", "rs"),)),
        Grant("one type", scopes=(Scope("system", "Patient", "cruds"),)),
        Grant("a user", scopes=(Scope("user", "*", "cruds"),), reach=frozenset({"p1"})),
        Grant("a patient", scopes=(Scope("patient", "*", "cruds"),), patient="p1"),
        Grant("granular", scopes=(Scope("system", "*", "cruds", (("_id", "p1"),)),)),
    ],
    ids=lambda grant: grant.name,
)
def test_who_may_not_do_everything_neither_begins_nor_learns_anything(with_store, grant):
    async def story(store):
        served = await _filled(store)
        for asked in (_asked(), _asked(("all", "valueBoolean", True))):
            with pytest.raises(FhirError) as refused:
                await served.ask(asked, grant)
            assert (refused.value.status, refused.value.issues[0].code) == (403, "forbidden")
        assert served.parameters.building() == {}

    with_store(story)


def test_the_audit_says_who_began_it(with_store):
    async def story(store):
        served = await _filled(store)
        await served.ask(_asked(("type", "valueCode", "Patient")), Grant.operator("the office"))
        found = await served.search("AuditEvent", ("_count", "100"), grant=EVERYBODY)
        events = [each["resource"] for each in found["entry"]]
        told = [each for each in events if "reindex" in str(each)]
        assert len(told) == 1
        assert "the office" in str(told[0]["agent"])
        assert "rebuild of 1 types" in str(told[0])

    with_store(story)
