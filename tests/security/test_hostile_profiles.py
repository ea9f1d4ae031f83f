"""A stored StructureDefinition can neither stop the server nor keep its threads."""

from time import monotonic

from fhir_server.apart import Apart
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
