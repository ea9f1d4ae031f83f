"""What US Core asks for: its resource types, its searches, its scopes by category, and a patient's
data of every category. https://hl7.org/fhir/us/core/scopes.html
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

_HL7 = "http://terminology.hl7.org/CodeSystem"
_CORE = "http://hl7.org/fhir/us/core/CodeSystem"

PATIENT_TYPES = """
AllergyIntolerance CarePlan CareTeam Condition Coverage DiagnosticReport DocumentReference Goal
Immunization MedicationDispense MedicationRequest Observation Patient Procedure Provenance
ServiceRequest Specimen
""".split()
OTHER_TYPES = """
Device Encounter Location Medication Organization Practitioner PractitionerRole
QuestionnaireResponse RelatedPerson
""".split()
# The types of the limited launch, of which exactly those that were ticked are granted.
LIMITED_TYPES = """
AllergyIntolerance CarePlan CareTeam Condition Device DiagnosticReport DocumentReference Goal
Immunization MedicationRequest Observation Procedure Patient Encounter ServiceRequest Specimen
Coverage MedicationDispense
""".split()

# The search of each type that the kits make first, `{patient}` being an id.
FIRST_SEARCHES = {
    **dict.fromkeys([*PATIENT_TYPES, "Device", "Encounter"], "patient={patient}"),
    "QuestionnaireResponse": "patient={patient}",
    "RelatedPerson": "patient={patient}",
    "Patient": "_id={patient}",
    "CarePlan": "patient={patient}&category=assess-plan",
    "CareTeam": "patient={patient}&status=active",
    "MedicationRequest": "patient={patient}&intent=order",
    "Observation": "patient={patient}&category=vital-signs",
    "Provenance": "target=Patient/{patient}",
    "Location": "name=room",
    "Medication": "_id=none",
    "Organization": "name=Juniper",
    "Practitioner": "name=a",
    "PractitionerRole": "specialty=none",
}

CATEGORIES = {  # of the eight granular scopes: what each is limited to
    "Condition": [
        f"{_HL7}/condition-category|encounter-diagnosis",
        f"{_CORE}/condition-category|health-concern",
        f"{_HL7}/condition-category|problem-list-item",
    ],
    "Observation": [
        f"{_HL7}/observation-category|laboratory",
        f"{_HL7}/observation-category|social-history",
        f"{_HL7}/observation-category|vital-signs",
        f"{_HL7}/observation-category|survey",
        f"{_CORE}/us-core-category|sdoh",
    ],
}
SCOPES = [
    f"patient/{type}.rs?category={category}"
    for type, categories in CATEGORIES.items()
    for category in categories
]


def about(patient: str) -> list[dict[str, Any]]:
    """One resource of each category, of each two neighbours, of an unknown one, and of none."""
    return [
        resource(type, patient, number, chosen)
        for type, categories in CATEGORIES.items()
        for number, chosen in enumerate(_choices(categories))
    ]


def _choices(categories: list[str]) -> list[list[str]]:
    alone = [[each] for each in categories]
    pairs = [list(pair) for pair in pairwise(categories)]
    same_code = [f"http://other.example|{categories[0].partition('|')[2]}"]
    return [*alone, *pairs, same_code, []]


def resource(type: str, patient: str, number: int, categories: list[str]) -> dict[str, Any]:
    """A Condition or Observation of these categories."""
    codings = [each.split("|") for each in categories]
    made = {
        "resourceType": type,
        "category": [{"coding": [{"system": system, "code": code}]} for system, code in codings],
        "code": {"coding": [{"system": "http://loinc.org", "code": f"8{number}00-0"}]},
        "subject": {"reference": f"Patient/{patient}"},
    }
    if not codings:
        del made["category"]
    day = f"2026-02-{number + 1:02}"
    if type == "Observation":
        return {**made, "status": "final", "effectiveDateTime": f"{day}T08:00:00Z"}
    status = {"system": f"{_HL7}/condition-clinical", "code": "active"}
    return {**made, "clinicalStatus": {"coding": [status]}, "recordedDate": day}


def in_category(resource: dict[str, Any], category: str) -> bool:
    """Whether a resource is of a category, in plain words."""
    return any(
        f"{coding.get('system')}|{coding.get('code')}" == category
        for concept in resource.get("category", ())
        for coding in concept.get("coding", ())
    )
