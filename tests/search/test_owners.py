"""Whose data a resource is, one test a rule."""

from typing import Any

import pytest

from fhir_server.owners import members, owner
from tests.search.world import INDEX

EVE, ADAM, DOCTOR = (
    {"reference": each} for each in ("Patient/eve", "Patient/adam", "Practitioner/house")
)


def owned(type: str, **elements: Any) -> str | None:
    resource = {"resourceType": type, "id": "x", **elements}
    return owner(resource, INDEX.entries(resource), INDEX)


def test_a_patient_owns_itself() -> None:
    assert owned("Patient") == "Patient/x"


def test_a_linked_patient_does_not_share_the_owner() -> None:
    assert owned("Patient", link=[{"other": EVE, "type": "seealso"}]) == "Patient/x"


@pytest.mark.parametrize(
    ("type", "elements"),
    [
        ("Observation", {"subject": EVE}),
        ("Observation", {"performer": [EVE]}),
        ("Observation", {"subject": EVE, "performer": [DOCTOR]}),
        ("Encounter", {"subject": EVE}),
        ("Appointment", {"participant": [{"actor": EVE}, {"actor": DOCTOR}]}),
        ("AllergyIntolerance", {"patient": EVE}),
        ("Group", {"member": [{"entity": EVE}]}),
        ("Coverage", {"beneficiary": EVE}),
        ("Observation", {"subject": {"reference": "https://clinic.example/fhir/Patient/eve"}}),
        ("Observation", {"subject": {"reference": "Patient/eve/_history/2"}}),
    ],
)
def test_else_it_is_the_patient_named_by_the_compartments_parameters(
    type: str, elements: dict[str, Any]
) -> None:
    assert owned(type, **elements) == "Patient/eve"


@pytest.mark.parametrize(
    ("type", "elements"),
    [
        ("Task", {"for": EVE}),
        ("Device", {"patient": EVE}),
        ("Binary", {"securityContext": EVE}),
        ("MessageHeader", {"focus": [EVE]}),
        ("Provenance", {"target": [EVE, {"reference": "Observation/1"}]}),
        ("AuditEvent", {"agent": [{"who": DOCTOR}], "entity": [{"what": EVE}]}),
    ],
)
def test_these_count_though_the_compartment_leaves_them_out(
    type: str, elements: dict[str, Any]
) -> None:
    assert owned(type, **elements) == "Patient/eve"


@pytest.mark.parametrize(
    ("type", "elements"),
    [
        ("Task", {"for": DOCTOR}),
        ("Binary", {"securityContext": {"reference": "Observation/1"}}),
        ("Binary", {}),
        ("Provenance", {"target": [{"reference": "Observation/1"}]}),
        ("MessageHeader", {"focus": [{"reference": "Observation/1"}]}),
    ],
)
def test_they_count_only_where_they_name_a_patient_literally(
    type: str, elements: dict[str, Any]
) -> None:
    assert owned(type, **elements) is None


@pytest.mark.parametrize(
    "subject",
    [
        {"reference": "Group/eve"},
        {"reference": "http://other.example/fhir/Patient/eve"},
        {"reference": "#eve"},
        {"identifier": {"value": "eve"}},
        {"display": "Eve"},
    ],
)
def test_nobody_owns_what_names_no_patient_of_this_server(subject: dict[str, Any]) -> None:
    assert owned("Observation", subject=subject) is None


def test_nobody_owns_what_names_several_patients() -> None:
    assert owned("Observation", subject=EVE, performer=[ADAM]) is None
    assert owned("Provenance", target=[EVE, ADAM]) is None
    assert owned("Group", member=[{"entity": EVE}, {"entity": ADAM}]) is None


def test_a_patient_who_is_named_otherwise_owns_nothing() -> None:
    assert owned("Observation", focus=[EVE]) is None
    assert owned("Organization") is None


def test_the_parameters_of_membership_are_the_compartments_and_ours() -> None:
    assert members("Patient", INDEX) == ("_id",)
    assert members("Observation", INDEX) == ("subject", "performer")
    assert members("Device", INDEX) == ("patient",)
    assert members("Provenance", INDEX) == ("patient", "target")
    assert members("Organization", INDEX) == ()
