"""Types of clinical data and kinds of them that a person can choose, in words for everybody.

The kinds are the sub-resource scopes of https://hl7.org/fhir/us/core/scopes.html. "Clinical test",
which has no code there, is whatever else the categories of clinical results name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

Query: TypeAlias = tuple[tuple[str, str], ...]

_HL7 = "http://terminology.hl7.org/CodeSystem"
_US_CORE = "http://hl7.org/fhir/us/core/CodeSystem"
_OBSERVATION = f"{_HL7}/observation-category"


class Kind(NamedTuple):
    """A kind of data of one type: any of `queries` finds it."""

    name: str
    label: str
    queries: tuple[Query, ...]


def _kind(name: str, label: str, *codes: str) -> Kind:
    return Kind(name, label, tuple((("category", code),) for code in codes))


KINDS: Mapping[str, tuple[Kind, ...]] = {
    "Condition": (
        _kind(
            "problem-list-item",
            "Problem list: lasting health problems",
            f"{_HL7}/condition-category|problem-list-item",
        ),
        _kind(
            "encounter-diagnosis",
            "Diagnoses made at a visit",
            f"{_HL7}/condition-category|encounter-diagnosis",
        ),
        _kind("health-concern", "Health concerns", f"{_US_CORE}/condition-category|health-concern"),
    ),
    "Observation": (
        _kind(
            "vital-signs",
            "Vital signs: blood pressure, weight, temperature",
            f"{_OBSERVATION}|vital-signs",
        ),
        _kind("laboratory", "Laboratory results", f"{_OBSERVATION}|laboratory"),
        _kind(
            "clinical-test",
            "Results of other clinical tests: imaging, examinations, procedures",
            *(
                f"{_OBSERVATION}|{code}"
                for code in ("imaging", "procedure", "exam", "therapy", "activity")
            ),
        ),
        _kind(
            "social-history",
            "Social history: smoking, alcohol, occupation",
            f"{_OBSERVATION}|social-history",
        ),
        _kind(
            "sdoh",
            "Social needs: housing, food, transport",
            f"{_US_CORE}/us-core-category|sdoh",
        ),
        _kind("survey", "Questionnaires and assessments", f"{_OBSERVATION}|survey"),
    ),
    "DocumentReference": (
        _kind(
            "clinical-note",
            "Clinical notes",
            f"{_US_CORE}/us-core-documentreference-category|clinical-note",
        ),
    ),
}

# Types that have a tick of their own, in the order in which they are read, and their words.
CLINICAL: Mapping[str, str] = {
    "Patient": "Name, date of birth, address and contact details",
    "AllergyIntolerance": "Allergies and intolerances",
    "Condition": "Health problems and diagnoses",
    "Observation": "Test results, vital signs and other findings",
    "MedicationRequest": "Prescriptions",
    "MedicationDispense": "Medicines handed out by a pharmacy",
    "MedicationStatement": "Medicines that are taken",
    "MedicationAdministration": "Medicines given at a visit",
    "Medication": "Names and ingredients of medicines",
    "Immunization": "Vaccinations",
    "Procedure": "Operations and procedures",
    "DiagnosticReport": "Reports of tests and images",
    "DocumentReference": "Documents and clinical notes",
    "Encounter": "Visits and stays in hospital",
    "Appointment": "Appointments",
    "CarePlan": "Care plans",
    "CareTeam": "The people who give care",
    "Goal": "Health goals",
    "ServiceRequest": "Orders and referrals",
    "Specimen": "Samples taken for tests",
    "Device": "Implants and devices",
    "QuestionnaireResponse": "Answers to questionnaires",
    "FamilyMemberHistory": "Illnesses in the family",
    "ImagingStudy": "Images such as X-rays",
    "Coverage": "Insurance",
    "ExplanationOfBenefit": "Insurance claims and payments",
    "RelatedPerson": "Relatives and other contacts",
    "Consent": "Consents that were given",
    "Communication": "Messages about care",
    "Provenance": "Where information came from, and who wrote it",
    "Practitioner": "Names and contact details of clinicians",
    "PractitionerRole": "Where clinicians work, and as what",
    "Organization": "Clinics, hospitals and other organizations",
    "Location": "Places where care is given",
}
