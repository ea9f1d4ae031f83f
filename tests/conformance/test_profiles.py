"""Resources are held to the profiles of published guides: all that they call examples pass, and a
wrong one is caught for its fault."""

import copy
import random
from collections import Counter
from pathlib import Path

import jsonpatch
import pytest

from conformance.definitions import load
from conformance.fhirpath import Environment, compile_invariant
from conformance.json import parse
from conformance.packages import Packages
from conformance.profiles import Policy, Profiles, natives
from terminology.service import Terminology
from tests.conformance import guides
from tests.conformance.listed_codes import ListedCodes

MUTANTS = parse((Path(__file__).parents[1] / "spec" / "profile-mutants.json").read_bytes())["cases"]

# Examples that break a rule, and which: (guide, example): (codes of the errors, why it is one).
TRULY_WRONG = {
    (guides.US_CORE_3, "Bundle-66c8856b-ba11-4876-8aa8-467aad8c11a2"): (
        ["invalid"],
        "its fullUrl ends in Endpoint-71, the id of the resource is 71",
    ),
    (guides.US_CORE_6, "Bundle-66c8856b-ba11-4876-8aa8-467aad8c11a2"): (
        ["invalid"],
        "its fullUrl ends in Endpoint-71, the id of the resource is 71",
    ),
    (guides.US_CORE_6, "Bundle-docref-example-2"): (
        ["invalid"],
        "its fullUrl ends in discharge-summary789, the id of the resource is discharge-summary",
    ),
    (guides.US_CORE_3, "Bundle-uscore-mo3"): (["invalid"], "a fullUrl that is relative"),
    (guides.US_CORE_3, "DiagnosticReport-cardiology-report"): (
        ["value"],
        "the hash of an attachment has dots, which base64 has not",
    ),
}


def errors(issues):
    return [each for each in issues if each.severity == "error"]


@pytest.mark.parametrize(
    ("guide", "count"),
    [
        (guides.US_CORE_3, 84),
        (guides.US_CORE_6, 183),
        (guides.US_CORE_7, 214),
        (guides.IPS, 44),
    ],
)
def test_all_that_a_guide_calls_examples_pass_but_those_that_are_truly_wrong(guide, count):
    known, wrong = guides.profiles(guide), {}
    examples = guides.examples(guide)
    for name, resource in examples.items():
        found = [each.code for each in errors(known.validate(resource))]
        if found:
            wrong[guide, name] = found
    assert len(examples) == count
    expected = {each: codes for each, (codes, _) in TRULY_WRONG.items() if each[0] == guide}
    assert wrong == expected


@pytest.mark.parametrize("case", MUTANTS, ids=lambda case: f"{case['group']}: {case['says']}")
def test_a_wrong_resource_is_caught_for_its_fault_and_a_right_one_is_not(case):
    known = guides.profiles(case["package"])
    resource = guides.examples(case["package"])[case["example"]]
    mutant = jsonpatch.apply_patch(resource, case["patch"])
    issues = known.validate(mutant)
    if case["group"] == "binding warning":
        found = [
            each for each in issues if (each.severity, each.code) == ("warning", "code-invalid")
        ]
    else:
        found = errors(issues)
    assert [[each.code, each.key, each.expression] for each in found] == case["issues"]


def test_the_table_of_mutants_is_whole():
    groups = Counter(case["group"] for case in MUTANTS)
    right = groups.pop("right")
    assert (sum(groups.values()), right, len(groups)) == (82, 18, 22)


def test_an_issue_names_the_rule_the_profile_and_the_remedy():
    known = guides.profiles(guides.US_CORE_6)
    patient = dict(guides.examples(guides.US_CORE_6)["Patient-example"])
    del patient["identifier"]
    (issue,) = errors(known.validate(patient))
    assert issue.text == (
        "`Patient.identifier` is required: add it "
        "(profile http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient|6.1.0)"
    )


def test_a_profile_that_is_asked_for_is_checked_beside_those_that_are_claimed():
    known = guides.profiles(guides.US_CORE_6)
    patient = {"resourceType": "Patient", "gender": "female"}
    url = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"
    assert errors(known.validate(patient)) == []
    assert [each.expression for each in errors(known.validate(patient, [url]))] == ["Patient"] * 2
    assert errors(known.validate(patient, [f"{url}|6.1.0"])) != []


def test_a_profile_nobody_knows_is_a_warning():
    known = guides.profiles(guides.US_CORE_6)
    patient = {"resourceType": "Patient", "meta": {"profile": ["http://example.org/mine"]}}
    (issue,) = [each for each in known.validate(patient) if each.code == "not-found"]
    assert (issue.severity, issue.expression) == ("warning", "Patient")


def test_a_profile_of_another_type_is_an_error():
    known = guides.profiles(guides.US_CORE_6)
    url = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"
    issues = errors(known.validate({"resourceType": "Basic", "code": {"text": "x"}}, [url]))
    assert [(each.code, each.expression) for each in issues] == [("structure", "Basic")]


def test_versions_of_a_guide_stand_side_by_side():
    known = guides.profiles(guides.US_CORE_3, guides.US_CORE_7)
    url = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"
    patient = dict(guides.examples(guides.US_CORE_3)["Patient-example"])
    patient["telecom"] = [{"system": "phone"}]
    of_3 = errors(known.validate(patient, [f"{url}|3.1.1"]))
    assert {each.text.rpartition("|")[2] for each in of_3} == {"3.1.1)", "7.0.0)"}


def test_vital_signs_are_known_by_their_code_unless_the_policy_says_no():
    weight = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
    }
    known = guides.profiles(guides.US_CORE_6)
    assert any("bodyweight" in each.text for each in errors(known.validate(weight)))
    lenient = Profiles(load(), known.library, known.codes, policy=Policy(vital_signs=False))
    assert errors(lenient.validate(weight)) == []


@pytest.mark.parametrize("severity", ["warning", "error"])
def test_what_is_made_of_an_unknown_extension_is_policy(severity):
    known = guides.profiles(guides.US_CORE_6)
    policy = Policy(unknown_extensions=severity)
    strict = Profiles(load(), known.library, known.codes, policy=policy)
    patient = {
        "resourceType": "Patient",
        "extension": [{"url": "http://example.org/x", "valueBoolean": True}],
    }
    (issue,) = [each for each in strict.validate(patient) if each.code == "extension"]
    assert (issue.severity, issue.expression) == (severity, "Patient.extension[0]")


def test_a_reference_is_followed_where_the_caller_looks():
    known = guides.profiles(guides.US_CORE_6)
    request = copy.deepcopy(
        guides.examples(guides.US_CORE_6)["MedicationRequest-medicationrequest-contained-oral-axid"]
    )
    del request["contained"]
    request["medicationReference"] = {"reference": "Medication/1"}
    assert errors(known.validate(request)) == []
    nameless = {"resourceType": "Medication", "status": "active"}
    issues = errors(known.validate(request, resolve={"Medication/1": nameless}.get))
    assert [each.expression for each in issues] == ["MedicationRequest.medication"]


def test_no_more_than_the_limit_is_told():
    known = guides.profiles(guides.US_CORE_6)
    url = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"
    issues = known.validate({"resourceType": "Patient"}, [url], limit=2)
    assert [each.code for each in issues] == ["required", "required", "incomplete"]


@pytest.mark.parametrize(
    "expression",
    [
        "$this is dateTime implies $this.toString().length() >= 10",
        "$this.ofType(dateTime).empty() or ($this as dateTime).toString().length() >= 8",
    ],
)
@pytest.mark.parametrize("value", ["2020", "2020-01-01", "2020-01-01T10:00:00Z"])
def test_what_is_said_in_python_is_what_the_expression_says(expression, value):
    said, told = (
        natives.of(expression, "dateTime"),
        compile_invariant(expression, "dateTime", load()),
    )
    around = Environment({}, {})
    assert said(value, around) is told(value, around)


SYSTEM_OF_A_VALUE = [
    "$this is DateTime implies $this.toString().length() >= 10",
    "value.ofType(Quantity).system.empty() or value.ofType(Quantity).system = 'http://u.example'",
    "value.ofType(CodeableConcept).coding.system.empty()"
    " or value.ofType(CodeableConcept).coding.system = 'http://u.example'",
    "ofType(Quantity).system.empty() or ofType(Quantity).system = 'http://u.example'",
    "ofType(CodeableConcept).coding.system.empty()"
    " or (ofType(CodeableConcept).coding.system contains 'http://u.example')",
]


@pytest.mark.parametrize("expression", SYSTEM_OF_A_VALUE)
@pytest.mark.parametrize("type_", ["Quantity", "CodeableConcept", "Period"])
def test_what_is_said_of_a_system_in_python_is_what_the_expression_says(expression, type_):
    said = natives.of(expression, type_)
    told = compile_invariant(expression, type_, load())
    around = Environment({}, {})
    values = [
        {},
        {"value": 1, "system": "http://u.example"},
        {"value": 1, "system": "http://other.example"},
        {"value": {"system": "http://other.example"}, "coding": [{"system": "http://x.example"}]},
        {"_system": {"id": "a"}},
        {"system": 5},
        {"system": None},
        {"system": ["http://u.example"]},
    ]
    for value in values if said is not None else ():
        assert said(value, around) is told(value, around), value
    asked = expression.startswith("ofType(CodeableConcept)") and type_ == "CodeableConcept"
    assert (said is None) is asked


def test_a_wrong_display_is_a_warning_and_an_unknown_code_an_error():
    known = guides.profiles(guides.US_CORE_6)
    concept = {
        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
        "code": "exam",
        "display": "Something else",
    }
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [concept, {**concept, "code": "nope"}]}],
        "code": {"text": "x"},
    }
    found = [each for each in known.validate(observation) if each.code == "code-invalid"]
    assert [(each.severity, each.expression) for each in found] == [
        ("error", "Observation.category[0].coding[1].code"),
        ("warning", "Observation.category[0].coding[0].display"),
    ]
    assert isinstance(known.codes, ListedCodes)


VERSIONED = "http://example.org/versioned"


@pytest.mark.parametrize(
    ("coding", "issues"),
    [
        ({"code": "a", "version": "1.0"}, []),
        ({"code": "b", "version": "2.0"}, []),
        ({"code": "b"}, []),
        (
            {"code": "b", "version": "1.0"},
            [("error", "code-invalid", "code", "|1.0 does not have this code")],
        ),
        (
            {"code": "a", "version": "9"},
            [("warning", "not-found", "version", " is known here as version `2.0` or `1.0` only")],
        ),
        (
            {"code": "zz", "version": "9"},
            [("warning", "not-found", "version", " is known here as version `2.0` or `1.0` only")],
        ),
        (
            {"code": "zz"},
            [("error", "code-invalid", "code", "|2.0 does not have this code")],
        ),
        (
            {"code": "a", "version": "1.0", "display": "B"},
            [("warning", "code-invalid", "display", "The display is not one")],
        ),
        ({"code": "a", "version": "1.0", "display": "A1"}, []),
        ({"code": "a", "version": "2.0", "display": "A2"}, []),
        ({"code": "a", "version": "9", "system": "http://example.org/other"}, []),
    ],
)
def test_a_coding_is_checked_in_the_version_that_it_names(coding, issues):
    def system(version, **codes):
        concepts = [{"code": code, "display": display} for code, display in codes.items()]
        return {
            "resourceType": "CodeSystem",
            "url": VERSIONED,
            "version": version,
            "status": "active",
            "content": "complete",
            "concept": concepts,
        }

    codes = Terminology(Packages()).having([system("1.0", a="A1"), system("2.0", a="A2", b="B")])
    known = Profiles(load(), Packages(), codes)
    told = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": VERSIONED, **coding}]},
    }
    at = "Observation.code.coding[0]."
    found = [each for each in known.validate(told) if (each.expression or "").startswith(at)]
    assert [(each.severity, each.code, each.expression) for each in found] == [
        (severity, code, at + place) for severity, code, place, _ in issues
    ]
    assert all(text in each.text for each, (*_, text) in zip(found, issues, strict=True))


def test_a_profile_is_compiled_once():
    known = guides.profiles(guides.US_CORE_7)
    url = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"
    assert known.shelf.compiled(url) is known.shelf.compiled(url)


# What stands in a resource or definition where something else belongs.
JUNK = [None, 1, True, "x", "", [], {}, [None], [[]], [{}], {"a": 1}, "#x", ["x"], 1.5,
        {"resourceType": "Patient"}, {"extension": [{}]}, {"extension": [{"url": 7}]},
        {"coding": [None]}, {"reference": 7}, {"meta": {"profile": [3]}}]  # fmt: skip


def places(value, found):
    """Every (object or array, member) of a value."""
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for at, each in list(members):
        found.append((value, at))
        if isinstance(each, dict | list):
            places(each, found)
    return found


def spoiled(value, chance, times):
    """A copy with junk in a few places."""
    made = copy.deepcopy(value)
    for _ in range(times):
        holder, at = chance.choice(places(made, []))
        if at != "resourceType":
            holder[at] = copy.deepcopy(chance.choice(JUNK))
    return made


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("guide", [guides.US_CORE_6, guides.IPS])
def test_whatever_is_sent_there_are_issues_and_no_failure(guide, seed):
    known, chance = guides.profiles(guide), random.Random(seed)
    small = [each for each in guides.examples(guide).values() if len(str(each)) < 30_000]
    for _ in range(60):
        known.validate(spoiled(chance.choice(small), chance, chance.randint(1, 3)))


class Spoiled:
    """A library in which one definition is spoiled."""

    def __init__(self, library, structure):
        self._library, self._structure = library, structure

    def find(self, type, canonical):
        if canonical.partition("|")[0] == self._structure["url"]:
            return self._structure
        return self._library.find(type, canonical)


@pytest.mark.parametrize("form", ["snapshot", "differential"])
def test_whatever_a_definition_holds_there_are_issues_and_no_failure(form):
    known, chance = guides.profiles(guides.US_CORE_6), random.Random(1)
    url = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-blood-pressure"
    resource = guides.examples(guides.US_CORE_6)["Observation-blood-pressure"]
    right = dict(known.library.find("StructureDefinition", url))
    right.pop("snapshot" if form == "differential" else "differential")
    for _ in range(40):
        elements = spoiled(right[form]["element"], chance, 3)
        library = Spoiled(known.library, {**right, form: {"element": elements}})
        Profiles(load(), library, known.codes).validate(resource, [url])
