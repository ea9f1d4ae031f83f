"""Extensions may be where their contexts say, and are slices like others."""

import pytest

from conformance.definitions import load
from conformance.packages import Packages
from conformance.profiles import Profiles
from tests.conformance.listed_codes import ListedCodes
from tests.conformance.small import OWN, Library, errors, patient, profile, slicing


def extension(name, *elements, context):
    return profile(
        name, "Extension", ("Extension.url", {"fixedUri": OWN + name}), *elements, context=context
    )


@pytest.mark.parametrize(
    ("context", "fair", "fault"),
    [
        ([{"type": "element", "expression": "Patient.contact"}], "contact", "name"),
        ([{"type": "element", "expression": "HumanName"}], "name", "contact"),
        ([{"type": "element", "expression": "BackboneElement"}], "contact", "name"),
        (
            [{"type": "fhirpath", "expression": "Patient.name.where(use = 'old')"}],
            "name",
            "contact",
        ),
        ([{"type": "element", "expression": "Element"}], "contact", None),
    ],
)
def test_an_extension_may_be_only_where_its_context_says(context, fair, fault):
    structure = extension("mine", context=context)
    one = [{"url": OWN + "mine", "valueString": "x"}]
    library = Library(structure)
    known = Profiles(load(), library, ListedCodes(Packages()))

    def found(place):
        inner = {"name": {"family": "A"}} if place == "contact" else {"family": "A", "use": "old"}
        resource = patient(**{place: [{**inner, "extension": one}]})
        issues = known.validate(resource)
        return [[each.code, each.expression] for each in issues if each.severity == "error"]

    assert found(fair) == []
    if fault:
        assert found(fault) == [["extension", f"Patient.{fault}[0].extension[0]"]]


def test_an_extension_on_a_primitive_may_be_named_in_full():
    structure = extension(
        "mine", context=[{"type": "element", "expression": "Patient.name.family"}]
    )
    one = {"extension": [{"url": OWN + "mine", "valueString": "x"}]}
    known = Profiles(load(), Library(structure), ListedCodes(Packages()))
    fair = patient(name=[{"family": "A", "_family": one}])
    fault = patient(contact=[{"name": {"family": "A", "_family": one}}])
    assert [each for each in known.validate(fair) if each.severity == "error"] == []
    (issue,) = [each for each in known.validate(fault) if each.severity == "error"]
    assert issue.expression == "Patient.contact[0].name.family.extension[0]"


def test_a_condition_of_a_context_must_hold():
    structure = extension("mine", context=[{"type": "element", "expression": "Patient"}]) | {
        "contextInvariant": ["active = true"]
    }
    one = [{"url": OWN + "mine", "valueString": "x"}]
    known = Profiles(load(), Library(structure), ListedCodes(Packages()))

    def found(active):
        issues = known.validate(patient(active=active, extension=one))
        return [each.code for each in issues if each.severity == "error"]

    assert (found(True), found(False)) == ([], ["extension"])


def test_an_extension_on_a_primitive_is_a_slice_like_others():
    structure = profile(
        "mine",
        "Patient",
        ("Patient.birthDate", {"min": 1}),
        ("Patient.birthDate.extension", {"slicing": slicing("value", "url"), "min": 1}),
        (
            "Patient.birthDate.extension:time",
            {
                "min": 1,
                "max": "1",
                "type": [
                    {
                        "code": "Extension",
                        "profile": ["http://hl7.org/fhir/StructureDefinition/patient-birthTime"],
                    }
                ],
            },
        ),
    )
    time = {
        "url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime",
        "valueDateTime": "1974-12-25T14:35:45-05:00",
    }
    fair = patient(birthDate="1974-12-25", _birthDate={"extension": [time]})
    assert errors(fair, structure) == []
    other = {"url": "http://example.org/x", "valueString": "x"}
    fault = patient(birthDate="1974-12-25", _birthDate={"extension": [other]})
    assert errors(fault, structure) == [["required", "Patient.birthDate"]]
