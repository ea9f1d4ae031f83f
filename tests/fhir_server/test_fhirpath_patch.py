"""FHIRPath Patch by the published cases and beyond them: https://hl7.org/fhir/R4/fhirpatch.html"""

import copy
import json
import time

import pytest

from conformance.json import parse
from conformance.outcome import FhirError
from fhir_server.patching import apply, fhirpath_patch
from tests.security.clinic import core
from tests.shared import shared


def cases():
    return json.loads(shared("suites/patch/fhir-patch-tests.json").read_text())


def patch(sent, type="Patient"):
    return fhirpath_patch.read(core(), type, sent, 1_000)


def operation(type, path, **parts):
    """One operation. `value` is a part without its name, other parts are their values."""
    made = [{"name": "type", "valueCode": type}, {"name": "path", "valueString": path}]
    for name, part in parts.items():
        if name == "value":
            made.append({"name": name, **part})
        else:
            key = "valueString" if name == "name" else "valueInteger"
            made.append({"name": name, key: part})
    return {"name": "operation", "part": made}


def parameters(*operations):
    return {"resourceType": "Parameters", "parameter": list(operations)}


def patched(resource, *operations):
    sent = patch(parameters(*operations), resource["resourceType"])
    return apply(copy.deepcopy(resource), sent)


def test_every_published_case_ends_as_it_says():
    ends = {}
    for number, case in enumerate(cases()):
        given = parse(json.dumps(case["input"]).encode())
        try:
            found = apply(given, patch(case["diff"]))
            ends[f"{number} {case['name']}"] = found == case.get("output")
        except FhirError:
            ends[f"{number} {case['name']}"] = "error" in case
        assert given == parse(json.dumps(case["input"]).encode())
    assert len(ends) == 33
    assert [name for name, right in ends.items() if not right] == []


PATIENT = {
    "resourceType": "Patient",
    "id": "a",
    "active": True,
    "name": [{"use": "usual", "given": ["x", "y"], "_given": [None, {"id": "second"}]}],
    "birthDate": "1970",
    "_birthDate": {"extension": [{"url": "http://e", "valueString": "noon"}]},
    "contained": [{"resourceType": "Organization", "id": "o", "name": "One"}],
}


@pytest.mark.parametrize(
    ("operations", "changed"),
    [
        ([operation("delete", "Patient.nothing.where(false)")], {}),
        ([operation("delete", "Patient.gender")], {}),
        ([operation("replace", "active", value={"valueBoolean": False})], {"active": False}),
        (
            [operation("delete", "Patient.name.given[0]")],
            {"name": [{"use": "usual", "given": ["y"], "_given": [{"id": "second"}]}]},
        ),
        (
            [operation("delete", "Patient.name.given.where($this = 'y')")],
            {"name": [{"use": "usual", "given": ["x"]}]},
        ),
        (
            [operation("insert", "Patient.name.given", index=2, value={"valueString": "z"})],
            {"name": [{**PATIENT["name"][0], "given": ["x", "y", "z"],
                       "_given": [None, {"id": "second"}, None]}]},
        ),
        (
            [operation("move", "Patient.name.given", source=0, destination=1)],
            {"name": [{"use": "usual", "given": ["y", "x"], "_given": [{"id": "second"}, None]}]},
        ),
        ([operation("delete", "Patient.birthDate.extension[0]")], {"_birthDate": None}),
        ([operation("delete", "Patient.birthDate")], {"birthDate": None, "_birthDate": None}),
        (
            [operation("add", "Patient.active", name="extension",
                       value={"part": [{"name": "url", "valueUri": "http://f"},
                                       {"name": "value", "valueCode": "c"}]})],
            {"_active": {"extension": [{"url": "http://f", "valueCode": "c"}]}},
        ),
        (
            [operation("add", "Patient", name="deceased", value={"valueBoolean": True}),
             operation("replace", "Patient.deceased", value={"valueDateTime": "2020"})],
            {"deceasedDateTime": "2020"},
        ),
        (
            [operation("replace", "Patient.contained[0].name", value={"valueString": "Two"})],
            {"contained": [{"resourceType": "Organization", "id": "o", "name": "Two"}]},
        ),
        (
            [operation("add", "Patient", name="contained",
                       value={"resource": {"resourceType": "Organization", "id": "p", "name": "P"}})],
            {"contained": [*PATIENT["contained"], {"resourceType": "Organization", "id": "p", "name": "P"}]},
        ),
        (
            [operation("add", "Patient", name="contact", value={"part": [
                {"name": "name", "part": [{"name": "given", "valueString": "a"},
                                          {"name": "given", "valueString": "b"}]},
                {"name": "gender", "valueCode": "male"}]})],
            {"contact": [{"name": {"given": ["a", "b"]}, "gender": "male"}]},
        ),
    ],
)  # fmt: skip
def test_an_operation_changes_what_its_path_selects_and_nothing_else(operations, changed):
    merged = {**PATIENT, **changed}
    expected = {name: value for name, value in merged.items() if value is not None}
    assert patched(PATIENT, *operations) == expected


MANY = {**PATIENT, "name": [{"family": "a"}, {"family": "b"}]}


@pytest.mark.parametrize(
    ("resource", "operations", "status", "said"),
    [
        (PATIENT, [operation("replace", "Patient.gender", value={"valueCode": "male"})], 422,
         "The path of an operation must lead to one element, and it leads to none"),
        (MANY, [operation("delete", "Patient.name")], 422,
         "The path of an operation must lead to one element, and it leads to several"),
        (MANY, [operation("move", "Patient.name[0]", source=0, destination=0)], 422,
         "The path must lead to a whole list"),
        (MANY, [operation("insert", "Patient.name", index=3, value={"valueHumanName": {}})], 400,
         None),
        (MANY, [operation("insert", "Patient.name", index=3,
                          value={"valueHumanName": {"family": "c"}})], 422,
         "An index of the patch lies outside of the list"),
        (MANY, [operation("insert", "Patient.photo", index=0,
                          value={"valueAttachment": {"title": "c"}})], 422,
         "The list of an operation is not there"),
        (PATIENT, [operation("add", "Patient", name="birthDate", value={"valueDate": "1971"})], 422,
         "What an operation adds is there already"),
        (PATIENT, [operation("add", "Patient", name="brthDate", value={"valueDate": "1971"})], 422,
         "An operation names an element that there is not"),
        (PATIENT, [operation("add", "Patient", name="name", value={"valueString": "x"})], 422,
         "An element cannot have a value of this type"),
        (PATIENT, [operation("add", "Patient", name="name", value={"resource": {"resourceType": "Patient"}})], 422,
         "An element cannot have a value of this type"),
        (PATIENT, [operation("delete", "Patient.id")], 422,
         "A patch cannot change resourceType or id"),
        (PATIENT, [operation("delete", "'text'")], 422,
         "The path of an operation must lead to elements of the resource"),
        (PATIENT, [operation("delete", "Patient.name.single().given.single()")], 400,
         "The path of an operation cannot be evaluated: single() takes one item, not 2"),
        (PATIENT, [operation("delete", "Patient.(")], 400,
         "The path of an operation cannot be read: A name was expected, not `(` (at character 8)"),
        (PATIENT, [operation("remove", "Patient.name")], 400,
         "The type of an operation is one of add, insert, delete, replace, move"),
        (PATIENT, [operation("delete", "Patient.name", index=1)], 400,
         "An operation of type delete has the parts type, path"),
        (PATIENT, [operation("move", "Patient.name", source=-1, destination=0)], 400,
         "Indexes are integers from 0"),
    ],
)  # fmt: skip
def test_an_operation_that_cannot_be_performed_says_why(resource, operations, status, said):
    with pytest.raises(FhirError) as refused:
        patched(resource, *operations)
    issue = refused.value.issues[0]
    assert refused.value.status == status
    assert said is None or issue.text == said


def test_the_operation_that_fails_is_named():
    fine = operation("delete", "Patient.active")
    with pytest.raises(FhirError) as refused:
        patched(PATIENT, fine, operation("delete", "Patient.name.given"))
    assert refused.value.issues[0].expression == "Parameters.parameter[1]"


@pytest.mark.parametrize(
    ("type", "sent", "tests"),
    [
        ("Observation", operation("replace", "Observation.status", value={"valueCode": "x"}), False),
        ("Observation", operation("replace", "status", value={"valueCode": "x"}), False),
        ("Observation", operation("replace", "Observation.code", value={"part": []}), True),
        ("Observation", operation("replace", "Observation.code.text", value={"part": []}), True),
        ("Condition", operation("replace", "Condition.subject", value={"part": []}), True),
        ("Task", operation("replace", "Task.status", value={"valueCode": "x"}), False),
        # dom-3 asks what is referred to, con-4 and obs-7 what is said.
        ("Observation", operation("delete", "Observation.subject"), True),
        ("Observation", operation("add", "Observation", name="contained", value={"part": []}), True),
        ("Observation", operation("add", "Observation", name="component", value={"part": []}), True),
        ("Condition", operation("delete", "Condition.clinicalStatus"), True),
        ("Observation", operation("delete", "Observation.note"), True),
        ("Observation", operation("insert", "Observation.note", index=0, value={"part": []}), True),
        ("Observation", operation("move", "Observation.note", source=0, destination=0), True),
        ("Observation", operation("delete", "iif(status = 'final', subject, {})"), True),
    ],
)  # fmt: skip
def test_a_patch_tests_when_the_resource_decides_whether_it_succeeds(type, sent, tests):
    value = next((each for each in sent["part"] if each.get("part") == []), None)
    if value is not None:
        del value["part"]
        value["valueString"] = "any"
    assert patch(parameters(sent), type).tests is tests


def test_a_patch_with_many_costly_paths_ends_soon():
    path = "descendants().select(%context.descendants()).select(%context.descendants()).count() = 1"
    with pytest.raises(FhirError, match="too much"):
        patched({**PATIENT, "name": [{"given": ["x"] * 100}]}, *[operation("delete", path)] * 1_000)


@pytest.mark.parametrize(
    "path",
    [
        "'" + "a" * 60 + "!'.matches('(a|aa)+$')",
        "'" + "a" * 60 + "!'.replaceMatches('(a|aa)+$', 'x')",
        "'" + "a" * 60 + "!'.matches('(a?){60}a{60}b')",
        "(1|2|3|4|5|6|7|8|9)" + ".select((1|2|3|4|5|6|7|8|9))" * 12,
    ],
)
def test_no_path_keeps_others_waiting(path):
    began = time.process_time()
    with pytest.raises(FhirError):
        patched(PATIENT, operation("delete", path))
    assert time.process_time() - began < 2
