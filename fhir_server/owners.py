"""Whose data a resource is: under which patient's key it is sealed, in whose compartments it is.

https://hl7.org/fhir/R4/compartmentdefinition-patient.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from fhir_server.search.index import CONTEXT, Index
from fhir_server.storage.store import ID, Entry

PATIENT = "Patient"

# Parameters that name a patient though R4's Patient compartment leaves their types out.
BEYOND_R4: Mapping[str, tuple[str, ...]] = {
    "AuditEvent": ("patient",),
    "Device": ("patient",),
    "MessageHeader": ("focus",),
    "Provenance": ("target",),
    "Task": ("subject",),  # Task.for
}

# Where belonging is narrower than R4's compartment says: a patient that another is linked with is
# somebody else, whose List it is says its subject alone, and a Group names many.
NARROWER: Mapping[str, tuple[str, ...]] = {PATIENT: (ID,), "List": ("subject",), "Group": ()}

# What is about no patient and for all to read, though not to write, who are limited to patients.
SHARED = frozenset(
    """
    ActivityDefinition CapabilityStatement ChargeItemDefinition CodeSystem CompartmentDefinition
    ConceptMap DeviceDefinition Endpoint EventDefinition GraphDefinition HealthcareService
    ImplementationGuide InsurancePlan Library Location Measure Medication MedicationKnowledge
    MessageDefinition NamingSystem ObservationDefinition OperationDefinition Organization
    OrganizationAffiliation PlanDefinition Practitioner PractitionerRole Questionnaire
    SearchParameter SpecimenDefinition StructureDefinition StructureMap Substance
    TerminologyCapabilities ValueSet
    """.split()
)

# By these it is decided whom a user reaches, so who is limited to patients changes none of them.
DECIDING = frozenset({"Person", "RelatedPerson"})


def owner(resource: dict[str, Any], entries: Sequence[Entry], index: Index) -> str | None:
    """`Patient/id` when the resource is about exactly one patient, else None. `entries` are all
    that the index gives for it. Only references that name a Patient of this server count."""
    type = resource["resourceType"]
    if type == PATIENT:
        id = resource.get("id")
        return f"{PATIENT}/{id}" if id else None
    patients = named(entries, _owning(type, index))
    return f"{PATIENT}/{patients.pop()}" if len(patients) == 1 else None


def members(type: str, index: Index) -> tuple[str, ...]:
    """The search parameters by which a resource of this type is a patient's; of Patient itself,
    its id."""
    if type == PATIENT:
        return (ID,)
    known = index.own(type)
    return tuple(code for code in _codes(type, index) if code in known)


@lru_cache(maxsize=1024)
def belonging(type: str, index: Index) -> frozenset[str]:
    """The keys of the entries of which some one must name a patient, for a resource to be in that
    patient's compartment. Empty for types that are in none; those that belong with others
    (Provenance, Binary) and those that are shared are for access to tell."""
    return _keys(type, NARROWER.get(type, members(type, index)), index)


@lru_cache(maxsize=1024)
def naming(type: str, index: Index) -> frozenset[str]:
    """The keys of all entries that put a resource into a patient's compartment, for R4 or us."""
    return _keys(type, _codes(type, index), index)


@lru_cache(maxsize=1024)
def decides(type: str, index: Index) -> bool:
    """Whether a resource with one owner is in that patient's compartment and in no other, and
    nothing but that says whether it is visible."""
    keys = belonging(type, index)
    return (
        type not in {"AuditEvent", "Binary", "Provenance", *DECIDING}
        and bool(keys)
        and keys == _owning(type, index)
    )


def named(entries: Sequence[Entry], keys: frozenset[str]) -> set[str]:
    """The ids of the patients that entries under these keys name."""
    return {
        entry.code or ""
        for entry in entries
        if entry.shape == "link" and entry.system == PATIENT and entry.param in keys
    }


@lru_cache(maxsize=1024)
def _owning(type: str, index: Index) -> frozenset[str]:
    return _keys(type, members(type, index), index)


def _codes(type: str, index: Index) -> tuple[str, ...]:
    compartment = index.definitions.compartments[PATIENT].get(type, ())
    return tuple(dict.fromkeys((*compartment, *BEYOND_R4.get(type, ()))))


def _keys(type: str, codes: Sequence[str], index: Index) -> frozenset[str]:
    if type == "Binary":
        return frozenset({CONTEXT})
    known = index.own(type)
    return frozenset(key for code in codes if code in known for key in known[code].keys)
