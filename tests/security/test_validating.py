"""$validate by definitions that users stored: they take part for whoever may read and search them,
and are as if they were not there for all others."""

import json

import pytest

from tests.security.clinic import EVERYBODY, grant

MINE = "http://clinic.example/StructureDefinition/named"
SHADES = "http://clinic.example/shades"
CODES = "http://clinic.example/shade-codes"
NAMED = {
    "resourceType": "StructureDefinition",
    "id": "named",
    "url": MINE,
    "version": "1",
    "name": "Named",
    "status": "active",
    "kind": "resource",
    "abstract": False,
    "type": "Basic",
    "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Basic",
    "derivation": "constraint",
    "differential": {
        "element": [
            {"id": "Basic.identifier", "path": "Basic.identifier", "min": 1},
            {
                "id": "Basic.code",
                "path": "Basic.code",
                "binding": {"strength": "required", "valueSet": SHADES},
            },
        ]
    },
}
SYSTEM = {
    "resourceType": "CodeSystem",
    "id": "shade-codes",
    "url": CODES,
    "status": "active",
    "content": "complete",
    "caseSensitive": True,
    "concept": [{"code": "dark"}],
}
SET = {
    "resourceType": "ValueSet",
    "id": "shades",
    "url": SHADES,
    "status": "active",
    "compose": {"include": [{"system": CODES}]},
}
DARK = {"coding": [{"system": CODES, "code": "dark"}]}
LIGHT = {"coding": [{"system": CODES, "code": "light"}]}
DEFINING = "user/Basic.r user/StructureDefinition.rs user/ValueSet.rs user/CodeSystem.rs"
READER = grant(DEFINING, reach=None)
READS_ONLY = grant("user/Basic.r user/StructureDefinition.r", reach=None)
FINDS_ONLY = grant("user/Basic.r user/StructureDefinition.s", reach=None)
NO_SCOPE = grant("user/Basic.r", reach=None)
DRAFTS = grant("user/Basic.r user/StructureDefinition.rs?status=draft", reach=None)
LIMITED = {
    "no scope": NO_SCOPE,
    "reads only": READS_ONLY,
    "finds only": FINDS_ONLY,
    "another status": DRAFTS,
}


@pytest.fixture(scope="module", autouse=True)
def stored(clinic):
    clinic.put(NAMED, SYSTEM, SET)


def basic(**more):
    return {"resourceType": "Basic", "code": DARK, **more}


def validated(clinic, caller, resource, profile=MINE):
    url = "Basic/$validate" + (f"?profile={profile}" if profile else "")
    answer = clinic.ask(caller, "POST", url, resource)
    assert answer.status == 200, answer.body
    return answer


def told(answer):
    return [
        (each["severity"], each["code"], each.get("expression", [None])[0])
        for each in answer.json["issue"]
        if each["code"] != "invariant"
    ]


def test_without_a_token_nothing_is_validated(clinic):
    assert clinic.ask(None, "POST", f"Basic/$validate?profile={MINE}", basic()).status == 401


def test_without_a_scope_on_the_type_nothing_is_validated(clinic):
    other = grant("user/Observation.rs", reach=None)
    assert clinic.ask(other, "POST", "Basic/$validate", basic()).status == 403


def test_a_stored_profile_counts_for_whoever_may_read_and_search_it(clinic):
    assert told(validated(clinic, READER, basic())) == [("error", "required", "Basic")]
    claiming = basic(meta={"profile": [MINE]}, code=LIGHT)
    assert told(validated(clinic, READER, claiming, None)) == [
        ("error", "required", "Basic"),
        ("error", "code-invalid", "Basic.code"),
        ("error", "code-invalid", "Basic.code.coding[0].code"),
    ]
    assert told(validated(clinic, READER, basic(), f"{MINE}|1")) == [("error", "required", "Basic")]


@pytest.mark.parametrize("caller", LIMITED.values(), ids=LIMITED)
def test_for_all_others_it_is_as_if_it_were_not_there(clinic, caller):
    hidden = validated(clinic, caller, basic())
    absent = validated(clinic, caller, basic(), MINE.replace("named", "naned"))
    assert hidden.body == absent.body.replace(b"naned", b"named")
    assert told(hidden) == [("error", "not-found", "Basic")]
    claimed = validated(clinic, caller, basic(meta={"profile": [MINE]}), None)
    assert told(claimed) == [("warning", "not-found", "Basic")]


def test_a_profile_that_is_asked_for_and_nobody_knows_is_named(clinic):
    answer = validated(clinic, READER, basic(), MINE.replace("named", "naned"))
    (issue,) = [each for each in answer.json["issue"] if each["code"] == "not-found"]
    assert (issue["severity"], issue["diagnostics"]) == (
        "error",
        "The profile http://clinic.example/StructureDefinition/naned that was asked for is not known"
        " here, or its definition cannot be read, so nothing was checked against it: correct its"
        " url, or install its package",
    )


def test_a_stored_value_set_decides_only_for_whoever_may_use_it(clinic):
    profiles_only = grant("user/Basic.r user/StructureDefinition.rs", reach=None)
    resource = basic(code=LIGHT, identifier=[{"value": "1"}])
    assert told(validated(clinic, profiles_only, resource)) == [
        ("warning", "not-found", "Basic.code")
    ]
    assert ("error", "code-invalid", "Basic.code") in told(validated(clinic, READER, resource))


def test_the_audit_names_what_took_part(clinic):
    validated(clinic, READER, basic())
    found = clinic.ask(EVERYBODY, "GET", "AuditEvent?_sort=-date&_count=1").json
    event = found["entry"][0]["resource"]
    named = {each.get("what", {}).get("reference", "") for each in event["entity"]}
    assert any("StructureDefinition/named" in each for each in named), json.dumps(event)


def test_mode_profile_is_asked_of_a_stored_resource(clinic):
    clinic.put({"resourceType": "Basic", "id": "b1", "code": DARK})
    url = f"Basic/b1/$validate?mode=profile&profile={MINE}"
    answer = clinic.ask(READER, "GET", url)
    assert told(answer) == [("error", "required", "Basic")]
    wrong = clinic.ask(READER, "POST", f"Basic/$validate?mode=profile&profile={MINE}", basic())
    assert (wrong.status, wrong.code) == (400, "invalid")
    missing = clinic.ask(READER, "GET", url.replace("b1", "b2"))
    assert missing.status == 404


def test_a_request_draws_in_a_bounded_number_of_definitions(clinic):
    """A chain of profiles that lead to each other is followed as far as the bound."""
    for number in range(20):
        clinic.put(
            {
                **NAMED,
                "id": f"chain{number}",
                "url": f"{MINE}-{number}",
                "baseDefinition": f"{MINE}-{number + 1}",
            }
        )
    assert told(validated(clinic, READER, basic(), f"{MINE}-0")) == [
        ("error", "not-found", "Basic")
    ]
