"""The validator finds every fault of a resource in one pass, says where it is, and refuses nothing
that is right."""

import gzip
import json
import lzma
import tarfile
from pathlib import Path

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.definitions import load
from conformance.json import parse
from conformance.outcome import Issue
from conformance.validator import Validator
from tests.shared import shared

SPEC = Path(__file__).parents[1] / "spec"
MUTANTS = parse((SPEC / "validator-mutants.json").read_bytes())
VALIDATOR = Validator(load())


def errors(resource, **options):
    found = VALIDATOR.validate(resource, **options)
    return [[each.code, each.key, each.expression] for each in found if each.severity == "error"]


@pytest.mark.parametrize("case", MUTANTS["cases"], ids=lambda case: f"{case['group']}: {case['says']}")  # fmt: skip
def test_a_wrong_resource_is_refused_for_its_fault_alone_and_a_right_one_is_not(case):
    resource = jsonpatch.apply_patch(MUTANTS["bases"][case["base"]], case["patch"])
    assert errors(resource) == case["errors"]


def test_the_table_of_mutants_is_whole():
    right = [case for case in MUTANTS["cases"] if not case["errors"]]
    assert (len(MUTANTS["cases"]) - len(right), len(right)) == (57, 17)


def test_all_faults_are_told_in_one_pass():
    resource = {
        "resourceType": "Patient",
        "gender": "F",
        "birthDate": "1974-13-01",
        "contact": [{"name": {"family": "A"}}, {"name": {"family": ""}, "period": {"start": 1}}],
        "link": [{"type": "refer"}],
    }
    assert errors(resource) == [
        ["code-invalid", None, "Patient.gender"],
        ["value", None, "Patient.birthDate"],
        ["value", None, "Patient.contact[1].name.family"],
        ["value", None, "Patient.contact[1].period.start"],
        ["required", None, "Patient.link[0]"],
    ]


def test_an_issue_says_what_would_be_right_and_repeats_nothing_of_the_patient():
    resource = {"resourceType": "Patient", "gender": "secret", "secret thing": 1}
    assert VALIDATOR.validate(resource, warnings=False) == [
        Issue(
            "error",
            "code-invalid",
            "`Patient.gender` must be one of: female, male, other, unknown",
            "Patient.gender",
        ),
        Issue("error", "structure", "`Patient` has no element of that name", "Patient"),
    ]


def test_advice_is_a_warning_and_can_be_left_out():
    resource = {"resourceType": "Patient", "active": True}
    (advice,) = VALIDATOR.validate(resource)
    assert (advice.severity, advice.key, advice.expression) == ("warning", "dom-6", "Patient")
    assert VALIDATOR.validate(resource, warnings=False) == []


def test_no_more_than_the_limit_is_told_and_that_is_said():
    resource = {"resourceType": "Patient", "name": [{"family": ""} for _ in range(3)]}
    assert len(VALIDATOR.validate(resource, limit=3, warnings=False)) == 3
    *two, more = VALIDATOR.validate(resource, limit=2, warnings=False)
    assert [each.expression for each in two] == ["Patient.name[0].family", "Patient.name[1].family"]
    assert (more.severity, more.code) == ("information", "incomplete")


def test_advice_never_crowds_out_an_error():
    entries = [{"resource": {"resourceType": "Patient", "active": True}} for _ in range(5)]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [*entries, {"resource": {}}]}
    error, advice, more = VALIDATOR.validate(bundle, limit=2)
    assert (error.severity, error.expression) == ("error", "Bundle.entry[5].resource")
    assert (advice.key, advice.expression) == ("dom-6", "Bundle.entry[0].resource")
    assert more.code == "incomplete"


@pytest.mark.parametrize("type", [None, 1, [], "Resource", "DomainResource", "HumanName", "Patient ", "NutritionProduct"])  # fmt: skip
def test_what_names_no_type_of_r4_is_refused(type):
    (issue,) = VALIDATOR.validate({"resourceType": type})
    assert (issue.severity, issue.code, issue.expression) == ("error", "structure", None)


@pytest.mark.parametrize("value", [None, True, 0, "", "x", [], {}, [[]], [None], [{}], {"id": "a"}, {"a": None}])  # fmt: skip
def test_no_element_takes_just_anything_and_no_value_breaks_the_validator(value):
    for base in MUTANTS["bases"].values():
        for name in load().children(base["resourceType"]):
            VALIDATOR.validate({**base, name: value, f"_{name}": value})
    patient = MUTANTS["bases"]["patient"]
    for name in ("name", "contact", "maritalStatus", "contained", "meta", "text"):
        assert errors({**patient, name: value}, warnings=False)


NAMES = st.sampled_from(
    "resourceType id extension url valueString value _value reference contained name given _given"
    " coding system code entry resource item linkId text div status period start subject".split()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "#", "#a", "Patient", "Bundle", "2024", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(deadline=None)
@given(st.sampled_from(sorted(MUTANTS["bases"])), NAMES, JSON)
def test_whatever_json_it_gets_it_answers_with_issues_about_the_resource(base, name, value):
    resource = {**MUTANTS["bases"][base], name: value}
    for issue in VALIDATOR.validate(resource):
        assert (
            issue.expression is None or issue.expression.split(".")[0] == resource["resourceType"]
        )


def test_a_contained_resource_is_checked_as_part_of_its_container():
    resource = {
        **MUTANTS["bases"]["observation"],
        "contained": [{"resourceType": "Device", "id": "d", "patient": {"reference": "#p"}},
                      {"resourceType": "Patient", "id": "p", "gender": "F"}],
        "device": {"reference": "#d"},
    }  # fmt: skip
    assert errors(resource) == [["code-invalid", None, "Observation.contained[1].gender"]]
    resource["contained"][0]["patient"]["reference"] = "#d"
    assert errors(resource) == [
        ["structure", None, "Observation.contained[0].patient"],
        ["code-invalid", None, "Observation.contained[1].gender"],
        ["invariant", "dom-3", "Observation"],
    ]


def test_a_resource_in_a_bundle_is_a_root_of_its_own():
    inner = {**MUTANTS["bases"]["observation"], "device": {"reference": "#d"}}
    device = {"resourceType": "Device", "id": "d"}
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": inner}]}
    where = "Bundle.entry[0].resource.device"
    assert errors(bundle) == [["invariant", "ref-1", where]]
    inner["contained"] = [device]
    assert errors(bundle) == []


def test_ids_and_urls_of_extensions_have_no_extensions_themselves():
    partner = {"extension": [{"url": "http://example.org/e", "valueString": "x"}]}
    resource = {
        "resourceType": "Patient",
        "_id": partner,
        "name": [{"_id": partner, "family": "A"}],
        "extension": [{"url": "http://example.org/e", "_url": partner, "valueString": "x"}],
    }
    assert errors(resource) == [
        ["structure", None, "Patient"],
        ["structure", None, "Patient.name[0]"],
        ["structure", None, "Patient.extension[0]"],
    ]


def test_items_within_items_are_checked_as_deep_as_they_go():
    resource = json.loads(json.dumps(MUTANTS["bases"]["questionnaire"], default=float))
    resource["item"][0]["item"][1]["item"] = [{"linkId": "1.2.1", "type": "wrong"}]
    assert errors(resource) == [
        ["code-invalid", None, "Questionnaire.item[0].item[1].item[0].type"]
    ]


def test_every_type_and_every_element_compiles():
    definitions, nodes = load(), VALIDATOR.nodes
    for structure in definitions.structures.values():
        for element in structure.elements if structure.kind != "primitive-type" else ():
            if definitions.children(element.path):
                assert nodes.node(element.path).compile().parts


def test_all_official_examples_are_right_but_those_that_are_known_to_be_wrong():
    known = json.loads((SPEC / "bad-r4-examples.json").read_text())
    assert len(known) <= 30
    found = set()
    with (
        lzma.open(shared("data/r4-examples.tar.xz")) as file,
        tarfile.open(fileobj=file) as archive,
    ):
        for member in archive:
            name = Path(member.name).stem
            if member.isfile() and name != "package" and not name.startswith("."):
                resource = parse(archive.extractfile(member).read())
                if errors(resource, warnings=False):
                    found.add(name)
    assert found == set(known)


def test_synthetic_patients_are_right():
    with gzip.open(shared("data/synthea/smart-bench60.ndjson.gz")) as lines:
        resources = [entry["resource"] for line in lines for entry in parse(line)["entry"]]
    assert len(resources) == 18_133
    assert [r["id"] for r in resources if VALIDATOR.validate(r, warnings=False)] == []


class Counted(dict):
    """A resource that counts how often one of its properties is asked for."""

    def __init__(self, resource, name):
        super().__init__(resource)
        self.name, self.asked = name, 0

    def get(self, key, default=None):
        self.asked += key == self.name
        return super().get(key, default)


@pytest.mark.parametrize("size", [10, 100])
def test_contained_resources_are_looked_through_as_often_for_many_references_as_for_few(size):
    resource = Counted(
        {
            "resourceType": "Patient",
            "contained": [
                {"resourceType": "Organization", "id": f"o{at}", "name": "x"} for at in range(size)
            ],
            "generalPractitioner": [{"reference": f"#o{at}"} for at in range(size)],
        },
        "contained",
    )
    assert VALIDATOR.validate(resource, warnings=False) == []
    assert resource.asked <= 10


def test_of_two_contained_resources_with_one_id_the_first_is_meant():
    organization = {"resourceType": "Organization", "id": "o", "name": "x"}
    patient = {"resourceType": "Patient", "id": "o"}
    resource = {"resourceType": "Patient", "generalPractitioner": [{"reference": "#o"}]}
    where = "Patient.generalPractitioner[0]"
    assert errors({**resource, "contained": [organization, patient]}) == []
    assert errors({**resource, "contained": [patient, organization]}) == [
        ["structure", None, where]
    ]


@pytest.mark.parametrize("contained", [5, [5], [{"id": []}], [{"id": None}], {"id": "o"}])
def test_contained_resources_of_no_shape_are_not_referred_to(contained):
    resource = {"resourceType": "Patient", "generalPractitioner": [{"reference": "#o"}]}
    found = errors({**resource, "contained": contained})
    assert ["invariant", "ref-1", "Patient.generalPractitioner[0]"] in found


@pytest.mark.parametrize(
    ("concepts", "unique"),
    [
        ([{"code": "a"}, {"code": "b", "concept": [{"code": "c"}]}], True),
        ([{"code": "a"}, {"code": "a"}], False),
        ([{"code": "a", "concept": [{"code": "a"}]}], False),
        ([{"code": "a", "concept": [{"code": "b"}]}, {"code": "c", "concept": [{"code": "b"}]}], False),
        ([{"code": f"{n}", "designation": [{"value": "x"}] * 500} for n in range(200)], True),
        ([{"code": f"{n % 199}", "designation": [{"value": "x"}] * 500} for n in range(200)], False),
    ],
)  # fmt: skip
def test_a_code_system_has_each_code_once_however_much_it_says_of_them(concepts, unique):
    system = {"resourceType": "CodeSystem", "status": "active", "content": "complete"}
    found = VALIDATOR.validate({**system, "concept": concepts}, warnings=False)
    assert [each.key for each in found] == ([] if unique else ["csd-1"])


def test_contained_resources_are_looked_through_once_however_many_refer_to_each_other(monkeypatch):
    """Once for each of them would make 2,900 in one request stop the server for seconds."""
    from conformance.fhirpath import resolution

    looked = []
    by_id = resolution._by_id
    monkeypatch.setattr(resolution, "_by_id", lambda root: looked.append(root) or by_id(root))
    inner = [
        {
            "resourceType": "Patient",
            "id": f"p{n}",
            "link": [{"type": "refer", "other": {"reference": f"#p{(n + 1) % 50}"}}],
        }
        for n in range(50)
    ]
    resource = {"resourceType": "Patient", "contained": inner}
    assert VALIDATOR.validate(resource, warnings=False) == []
    assert len(looked) == 1
    inner[7]["link"][0]["other"]["reference"] = "#nobody"
    wrong = VALIDATOR.validate(resource, warnings=False)
    assert ("ref-1", "Patient.contained[7].link[0].other") in {(e.key, e.expression) for e in wrong}
