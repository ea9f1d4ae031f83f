"""A stored StructureDefinition can neither stop the server nor keep its threads."""

from threading import current_thread
from time import monotonic

import pytest

from conformance.profiles import Profiles
from fhir_server.apart import Apart
from fhir_server.storage.effort import counted
from tests.security.clinic import EVERYBODY, Clinic

URL = "http://clinic.example/hostile"
ASKED = f"Patient/$validate?profile={URL}"
PERSON = {"resourceType": "Patient", "name": [{"given": [f"n{each}" for each in range(400)]}]}
GROWING = "name.given.aggregate($total & $total & 'aaaaaaaa', 'a').length() > 0"
NESTED = (
    "name.given.all(%resource.name.given.all(%resource.name.given.all("
    "%resource.name.given.exists($this = 'zz').not())))"
)


def hostile(*expressions):
    asked = [
        {"key": f"own-{n}", "severity": "error", "human": f"Rule {n}", "expression": each}
        for n, each in enumerate(expressions)
    ]
    return {
        "resourceType": "StructureDefinition",
        "id": "hostile",
        "url": URL,
        "name": "Hostile",
        "status": "active",
        "kind": "resource",
        "abstract": False,
        "type": "Patient",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
        "derivation": "constraint",
        "differential": {"element": [{"id": "Patient", "path": "Patient", "constraint": asked}]},
    }


def told(answer):
    return [
        (each["severity"], each["code"])
        for each in answer.json["issue"]
        if "dom-6" not in str(each)
    ]


def test_what_its_invariants_would_take_too_long_to_tell_is_a_warning(clinic):
    clinic.put(hostile(GROWING, NESTED, "name.empty()"))
    begun = monotonic()
    answer = clinic.ask(EVERYBODY, "POST", ASKED, PERSON)
    assert answer.status == 200
    assert told(answer) == [("error", "invariant"), *[("warning", "too-costly")] * 2]
    assert monotonic() - begun < 20


def test_a_validation_by_it_ends_with_its_time(clinic, runner):
    clinic.put(hostile(*[f"{NESTED} or {n} = 0" for n in range(1, 21)]))
    hasty = Clinic(clinic.store, runner, apart=Apart(seconds=0.2))
    begun = monotonic()
    answer = hasty.ask(EVERYBODY, "POST", ASKED, PERSON)
    assert (answer.status, answer.code) == (413, "too-costly")
    assert monotonic() - begun < 5


def test_a_validation_draws_in_so_many_bytes_and_no_more(clinic, monkeypatch):
    long = {"description": "d" * 100_000}
    clinic.put(
        *[
            {**hostile("name.exists()"), "id": f"long{n}", "version": f"{n}", **long}
            for n in range(3)
        ]
    )
    assert clinic.ask(EVERYBODY, "POST", ASKED, PERSON).status == 200
    monkeypatch.setattr("fhir_server.drawing._HEAVIEST", 250_000)
    answer = clinic.ask(EVERYBODY, "POST", ASKED, PERSON)
    assert (answer.status, answer.code) == (422, "too-costly")
    assert clinic.ask(EVERYBODY, "POST", "Patient/$validate", PERSON).status == 200


def test_a_resource_that_names_too_many_profiles_is_refused_soon(clinic):
    def claiming(count):
        return {**PERSON, "meta": {"profile": [f"http://a.example/{n}" for n in range(count)]}}

    begun = monotonic()
    answer = clinic.ask(EVERYBODY, "POST", "Patient/$validate", claiming(20_000))
    assert (answer.status, answer.code) == (422, "too-costly")
    assert monotonic() - begun < 1
    assert clinic.ask(EVERYBODY, "POST", "Patient/$validate", claiming(10)).status == 200


def test_a_large_resource_that_is_stored_is_validated_where_nobody_waits_for_it(
    clinic, monkeypatch
):
    seen = []
    validate = Profiles.validate

    def watched(*given, **more):
        seen.append(current_thread().name.startswith("apart"))
        return validate(*given, **more)

    monkeypatch.setattr(Profiles, "validate", watched)
    clinic.put({"resourceType": "Patient", "id": "light"})
    clinic.put({"resourceType": "Patient", "id": "heavy", "name": [{"text": "n" * 300_000}]})
    for id in ("light", "heavy"):
        assert clinic.ask(EVERYBODY, "GET", f"Patient/{id}/$validate").status == 200
    assert seen == [False, True]


def test_what_is_worked_apart_is_charged(runner):
    async def charged():
        effort = counted()
        await Apart().run(EVERYBODY, lambda: sum(range(100_000)))
        return effort.seconds

    assert runner.run(charged()) > 0


def test_a_definition_is_checked_where_nobody_waits_for_it(clinic, monkeypatch):
    threads = []
    validate = Profiles.validate

    def noted(self, *given, **named):
        threads.append(current_thread().name)
        return validate(self, *given, **named)

    monkeypatch.setattr(Profiles, "validate", noted)
    clinic.ask(EVERYBODY, "POST", "StructureDefinition/$validate", hostile())
    assert all(each.startswith("apart") for each in threads) and threads


@pytest.mark.parametrize(
    "parts",
    [
        5,
        [None],
        [{"name": "mode", "valueCode": []}, {"name": "resource", "resource": PERSON}],
        [{"name": ["mode"], "valueCode": "create"}],
    ],
    ids=["a number", "nothing", "a mode that is a list", "a name that is a list"],
)
def test_parameters_that_are_none_are_refused(clinic, parts):
    body = {"resourceType": "Parameters", "parameter": parts}
    assert clinic.ask(EVERYBODY, "POST", "Patient/$validate", body).status in (400, 422)
