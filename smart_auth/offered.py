"""The scopes that are offered by name: those that US Core asks of a server, for each context.

https://hl7.org/fhir/us/core/scopes.html
"""

from __future__ import annotations

from smart_auth.authority import Directory
from smart_auth.scopes import PLAIN, read_scope

_CONTEXTS = ("patient", "user", "system")
_TYPES = (
    "AllergyIntolerance CarePlan CareTeam Condition Coverage Device DiagnosticReport "
    "DocumentReference Encounter Goal Immunization Location Medication MedicationDispense "
    "MedicationRequest Observation Organization Patient Practitioner PractitionerRole Procedure "
    "Provenance QuestionnaireResponse RelatedPerson ServiceRequest Specimen"
).split()
_CONDITION = "http://terminology.hl7.org/CodeSystem/condition-category"
_CONDITION_US = "http://hl7.org/fhir/us/core/CodeSystem/condition-category"
_OBSERVATION = "http://terminology.hl7.org/CodeSystem/observation-category"
_OBSERVATION_US = "http://hl7.org/fhir/us/core/CodeSystem/us-core-category"
_DOCUMENT_US = "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category"
_CATEGORIES = (
    ("Condition", _CONDITION, "encounter-diagnosis"),
    ("Condition", _CONDITION, "problem-list-item"),
    ("Condition", _CONDITION_US, "health-concern"),
    ("Observation", _OBSERVATION, "laboratory"),
    ("Observation", _OBSERVATION, "social-history"),
    ("Observation", _OBSERVATION, "survey"),
    ("Observation", _OBSERVATION, "vital-signs"),
    ("Observation", _OBSERVATION_US, "sdoh"),
    ("DocumentReference", _DOCUMENT_US, "clinical-note"),
)


def offered(directory: Directory) -> list[str]:
    """Scopes as `scopes_supported` lists them; none that could not be granted here."""
    found = list(PLAIN)
    for context in _CONTEXTS:
        found += [f"{context}/*.{letters}" for letters in ("rs", "cruds", "read")]
        found += [f"{context}/{type}.{letters}" for type in _TYPES for letters in ("rs", "read")]
        found += [
            f"{context}/{type}.rs?category={system}|{code}" for type, system, code in _CATEGORIES
        ]
    return [text for text in found if _grantable(directory, text)]


def _grantable(directory: Directory, text: str) -> bool:
    found = read_scope(text)
    if found is None or found.clinical is None:
        return found is not None
    return directory.ungrantable(found.clinical) is None
