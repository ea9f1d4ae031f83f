"""What each assertion claims: one that holds beside one that does not."""

import time
from decimal import Decimal

import pytest

from conformance.testscript import values
from conformance.testscript.message import ActionError
from conformance.testscript.operators import OPERATORS, compared, matches
from tests.conformance.testscript.played import PATIENT, READ, Served, claim, outcomes, play, script

OTHER = {
    "contained": [{**PATIENT, "id": "other", "birthDate": "1980-01-01"}],
    "fixture": [{"id": "other", "resource": {"reference": "#other"}}],
    "profile": [
        {"id": "base", "reference": "http://hl7.org/fhir/StructureDefinition/Patient"},
        {"id": "elsewhere", "reference": "http://example.org/profile"},
    ],
}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"response": "okay"}, {"response": "created"}),
        ({"response": "created", "operator": "notEquals"}, {"response": "notFound"}),
        ({"responseCode": "200"}, {"responseCode": "201"}),
        ({"responseCode": "200,201", "operator": "in"}, {"responseCode": "200,201", "operator": "notIn"}),
        ({"responseCode": "199", "operator": "greaterThan"}, {"responseCode": "200", "operator": "greaterThan"}),
        ({"responseCode": "1000", "operator": "lessThan"}, {"responseCode": "200", "operator": "lessThan"}),
        ({"contentType": "json"}, {"contentType": "xml"}),
        ({"contentType": "application/fhir+json"}, {"contentType": "application/json"}),
        ({"contentType": "fhir", "operator": "contains"}, {"contentType": "json", "operator": "notEquals"}),
        ({"headerField": "ETag", "operator": "notEmpty"}, {"headerField": "ETag", "operator": "empty"}),
        ({"headerField": "etag", "value": 'W/"3"'}, {"headerField": "etag", "value": 'W/"4"'}),
        ({"headerField": "Nothing", "operator": "empty"}, {"headerField": "Nothing", "operator": "notEmpty"}),
        ({"headerField": "Accept", "direction": "request", "operator": "contains", "value": "fhir"},
         {"headerField": "Accept", "direction": "request", "operator": "notContains", "value": "fhir"}),
        ({"resource": "Patient"}, {"resource": "Bundle"}),
        ({"requestMethod": "get"}, {"requestMethod": "post"}),
        ({"requestURL": "/Patient/p1", "operator": "contains"}, {"requestURL": "/Patient/p1"}),
        ({"expression": "Patient.active"}, {"expression": "Patient.active.not()"}),
        ({"expression": "active", "operator": "eval"}, {"expression": "deceased", "operator": "eval"}),
        ({"expression": "name[0].family", "value": "Able"}, {"expression": "name[0].family", "value": "able"}),
        ({"expression": "name.given", "operator": "contains", "value": "nni"},
         {"expression": "name.given", "operator": "notContains", "value": "nni"}),
        ({"expression": "name.family", "operator": "in", "value": "Able, Baker"},
         {"expression": "name.family", "operator": "in", "value": "Baker"}),
        ({"expression": "birthDate", "operator": "lessThan", "value": "1970-01-03"},
         {"expression": "birthDate", "operator": "greaterThan", "value": "1970-01-03"}),
        ({"expression": "photo", "operator": "empty"}, {"expression": "name", "operator": "empty"}),
        ({"path": "fhir:Patient/fhir:name/fhir:family/@value", "value": "Able"},
         {"path": "fhir:Patient/fhir:name/fhir:family/@value", "value": "Baker"}),
        ({"path": "$.name[1].given[0]", "value": "Annie"}, {"path": "$.name[1].given[0]", "value": "Ann"}),
        ({"expression": "gender", "compareToSourceId": "other", "compareToSourceExpression": "gender", "operator": "empty"},
         {"expression": "birthDate", "compareToSourceId": "other", "compareToSourceExpression": "birthDate"}),
        ({"compareToSourceId": "other", "compareToSourceExpression": "name[0].family"},
         {"compareToSourceId": "other", "compareToSourceExpression": "birthDate"}),
        ({"path": "Patient/name/family", "compareToSourceId": "other", "compareToSourcePath": "Patient/name/family"},
         {"path": "Patient/birthDate", "compareToSourceId": "other", "compareToSourcePath": "Patient/birthDate"}),
        ({"minimumId": "there"}, {"minimumId": "other"}),
        ({"validateProfileId": "base"}, {"validateProfileId": "base", "sourceId": "broken"}),
        ({"responseBody": '"family": "Able"', "operator": "contains"}, {"responseBody": "zzz", "operator": "contains"}),
        ({"responseBody": "PATIENT.*given", "operator": "matchesRegex"}, {"responseBody": "^x", "operator": "matchesRegex"}),
    ],
)  # fmt: skip
def test_a_claim_holds_or_does_not(right, wrong):
    kept = {"operation": {**READ["operation"], "responseId": "there"}}
    served = Served(etag='W/"3"')
    broken = {
        **OTHER,
        "contained": [*OTHER["contained"], {**PATIENT, "id": "broken", "gender": "purple"}],
        "fixture": [*OTHER["fixture"], {"id": "broken", "resource": {"reference": "#broken"}}],
    }
    run = play(script(kept, claim(**right), claim(**wrong), **broken), served)
    assert outcomes(run) == ["pass", "pass", "fail"], run.parts[0].reason
    assert "expected" in run.parts[0].reason or "not valid" in run.parts[0].reason


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"validateProfileId": "elsewhere"}, "The profile http://example.org/profile is not known here"),
        ({"validateProfileId": "none"}, "The script has no profile none"),
        ({"expression": "name.("}, "cannot be evaluated"),
        ({"path": "Patient/name[position()=1]", "value": "x"}, "is not understood here"),
        ({"response": "fine"}, "fine is no response code of R4"),
        ({"responseCode": "200", "operator": "alike"}, "alike is no operator of R4 here"),
        ({"minimumId": "nothing"}, "There is no fixture, request or response nothing"),
        ({"compareToSourceId": "other"}, "needs compareToSourceExpression or -Path"),
        ({"label": "nothing"}, "claims nothing that is known here"),
        ({"responseBody": "(", "operator": "matchesRegex"}, "no regular expression"),
        ({"headerField": 7}, "not well formed"),
    ],
)  # fmt: skip
def test_a_claim_that_cannot_be_told_is_an_error(told, why):
    run = play(script(READ, claim(**told), **OTHER))
    assert outcomes(run) == ["pass", "error"]
    assert why in run.parts[0].reason


def test_an_answer_that_is_no_resource_fails_what_is_said_of_it():
    for told in (
        {"expression": "id", "value": "x"},
        {"minimumId": "other"},
        {"resource": "Patient"},
    ):
        run = play(script(READ, claim(**told), **OTHER), Served(b"<html>"))
        assert outcomes(run) == ["pass", "fail"], told


def test_links_are_held_to_lead_on():
    page = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 1,
        "entry": [{"fullUrl": "urn:x"}],
    }
    self = {"relation": "self", "url": "http://x.example/1"}
    for links, total, outcome in (
        ([self], 1, "pass"),
        ([], 1, "fail"),
        ([self, self], 1, "fail"),
        ([{"relation": "self", "url": "Patient?x"}], 1, "fail"),
        ([self], 2, "fail"),  # there is more, and no way to it
    ):
        served = Served({**page, "link": links, "total": total})
        assert outcomes(play(script(READ, claim(navigationLinks=True)), served))[1] == outcome


def test_a_pattern_has_only_so_much_time():
    start = time.monotonic()
    with pytest.raises(ActionError, match=r"takes more than 0\.2 s"):
        matches("(a+)+$", "a" * 60 + "b", 0.2)
    assert time.monotonic() - start < 10


def test_every_operator_of_the_standard_is_there():
    assert {*OPERATORS, "eval"} == {
        "equals", "notEquals", "in", "notIn", "greaterThan", "lessThan", "empty", "notEmpty",
        "contains", "notContains", "eval",
    }  # fmt: skip
    assert not compared("equals", ["72.50"], "72.5", 1), "the digits of a decimal count"
    assert not compared("in", [], "a", 1)
    assert compared("notIn", [], "a", 1)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("fhir:Patient/fhir:name/fhir:given/@value", ["Ann", "Bea", "Annie"]),
        ("/Patient/name[2]/given", ["Annie"]),
        ("//given", ["Ann", "Bea", "Annie"]),
        ("Patient/name[fhir:use/@value='usual']/given", ["Annie"]),
        ("Patient/*/family", ["Able"]),
        ("count(Patient/name)", [2]),
        ("Patient/nothing", []),
        ("Observation/id", []),
        ("$.name[*].family", ["Able"]),
        ("$..given", ["Ann", "Bea", "Annie"]),
        ("$['birthDate']", ["1970-01-02"]),
        ("$.name[0].given", ["Ann", "Bea"]),
        ("Patient.name.family", ["Able"]),
    ],
)
def test_simple_paths_are_read(path, found):
    assert values.by_path(path, PATIENT) == found


def test_a_path_goes_into_the_entries_of_a_bundle():
    bundle = {"resourceType": "Bundle", "entry": [{"resource": PATIENT}]}
    assert values.by_path("Bundle/entry/resource/Patient/id", bundle) == ["p1"]
    assert [values.text(v) for v in (True, Decimal("1.50"), 3, {"a": [1]})] == [
        "true",
        "1.50",
        "3",
        '{"a":[1]}',
    ]


def test_what_a_server_says_of_a_status_that_is_not_the_one_expected_is_told():
    refused = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "not-supported", "diagnostics": "JSON only"}],
    }
    for wanted in ({"responseCode": "200"}, {"response": "okay"}):
        run = play(script(READ, claim(**wanted)), Served(refused, 406))
        assert run.tests[0].reason == (
            "The status is 406; expected: equals 200; the server says: JSON only"
        )
    for answer in ({"resourceType": "OperationOutcome", "issue": []}, PATIENT, b"no resource"):
        run = play(script(READ, claim(responseCode="200")), Served(answer, 406))
        assert run.tests[0].reason == "The status is 406; expected: equals 200"
