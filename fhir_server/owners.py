"""Whose data a resource is: the one patient that it is about, under whose key it is sealed.

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


def owner(resource: dict[str, Any], entries: Sequence[Entry], index: Index) -> str | None:
    """`Patient/id` when the resource is about exactly one patient, else None. `entries` are all
    that the index gives for it. Only references that name a Patient of this server count."""
    type = resource["resourceType"]
    if type == PATIENT:
        id = resource.get("id")
        return f"{PATIENT}/{id}" if id else None
    known = keys(type, index)
    patients = {
        entry.code
        for entry in entries
        if entry.shape == "link" and entry.system == PATIENT and entry.param in known
    }
    return f"{PATIENT}/{patients.pop()}" if len(patients) == 1 else None


def members(type: str, index: Index) -> tuple[str, ...]:
    """The search parameters by which a resource of this type belongs to a patient; of Patient
    itself, its id (another Patient that it is linked with is another patient's)."""
    if type == PATIENT:
        return (ID,)
    compartment = index.definitions.compartments[PATIENT].get(type, ())
    known = index.parameters(type)
    codes = dict.fromkeys((*compartment, *BEYOND_R4.get(type, ())))
    return tuple(code for code in codes if code in known)


@lru_cache(maxsize=1024)
def keys(type: str, index: Index) -> frozenset[str]:
    """The keys of the entries in which those parameters are found."""
    if type == "Binary":
        return frozenset({CONTEXT})
    known = index.parameters(type)
    return frozenset(key for code in members(type, index) for key in known[code].keys)
