"""What a Reference leads to, and what it says of it: each fault beside the fair case."""

import pytest

from conformance.definitions import load
from conformance.validator import Validator

VALIDATOR = Validator(load())
CORE = "http://hl7.org/fhir/StructureDefinition/"
NARRATIVE = {"status": "empty", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'}
SUBJECT = "Observation.subject"


def found(reference, **more):
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "text": NARRATIVE,
        "subject": reference,
        **more,
    }
    issues = VALIDATOR.validate(observation)
    return [(each.severity, each.code, each.expression) for each in issues]


@pytest.mark.parametrize(
    ("reference", "issues"),
    [
        ({"reference": "Patient/1", "type": "Patient"}, []),
        ({"reference": "Patient/1", "type": f"{CORE}Patient"}, []),
        ({"reference": "http://x.org/fhir/Patient/1", "type": "Patient"}, []),
        ({"reference": "Patient?identifier=a", "type": "Patient"}, []),
        ({"type": "Patient", "identifier": {"value": "1"}}, []),
        ({"reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", "type": "Patient"}, []),
        (
            {"reference": "Patient/1", "type": "Organization"},
            [("error", "structure", f"{SUBJECT}.type")],
        ),
        ({"reference": "Patient/1", "type": "Group"}, [("error", "structure", f"{SUBJECT}.type")]),
        (
            {"reference": "http://x.org/fhir/Patient/1", "type": f"{CORE}Group"},
            [("error", "structure", f"{SUBJECT}.type")],
        ),
        (
            {"reference": "Organization/1", "type": "Patient"},
            [("error", "structure", f"{SUBJECT}.type"), ("error", "structure", SUBJECT)],
        ),
        (
            {"type": "Organization", "identifier": {"value": "1"}},
            [("error", "structure", SUBJECT)],
        ),
        (
            {"reference": "Patient/1", "type": "Foo"},
            [("warning", "code-invalid", f"{SUBJECT}.type")],
        ),
        (
            {"identifier": {"value": "1"}, "type": "Foo"},
            [("warning", "code-invalid", f"{SUBJECT}.type")],
        ),
        ({"reference": "Patient/1", "type": "http://example.org/logical/Person"}, []),
    ],
)
def test_the_type_of_a_reference_is_that_of_what_it_names(reference, issues):
    assert found(reference) == issues


@pytest.mark.parametrize(
    ("type_", "issues"),
    [("Patient", []), ("Group", [("error", "structure", f"{SUBJECT}.type")])],
)
def test_the_type_of_a_reference_is_that_of_the_contained_resource(type_, issues):
    inner = {"resourceType": "Patient", "id": "p", "text": NARRATIVE}
    assert found({"reference": "#p", "type": type_}, contained=[inner]) == issues
