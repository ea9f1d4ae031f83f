"""The datatypes that the clinic's resources are made of.

https://hl7.org/fhir/R4/datatypes.html
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from salus.demo.codes import IDENTIFIERS, LOINC, TERMINOLOGY, UCUM, Vital

Resource = dict[str, Any]


def concept(system: str, code: str, display: str) -> Resource:
    """A CodeableConcept of one coding."""
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def status(system: str, code: str) -> Resource:
    """A CodeableConcept of one of HL7's own code systems."""
    return {"coding": [{"system": f"{TERMINOLOGY}/{system}", "code": code}]}


def identifier(space: int, value: str) -> list[Resource]:
    return [{"system": f"{IDENTIFIERS}.{space}", "value": value}]


def reference(url: str, display: str | None = None) -> Resource:
    return {"reference": url, "display": display} if display else {"reference": url}


def quantity(vital: Vital, value: Decimal) -> Resource:
    return {"value": value, "unit": vital.unit, "system": UCUM, "code": vital.ucum}


def vital_code(vital: Vital) -> Resource:
    return concept(LOINC, vital.code, vital.display)


def narrative(resource: Resource, text: str) -> Resource:
    """The resource with a narrative of one sentence (plain text, no markup characters)."""
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{text}</div>'
    head = {"resourceType": resource["resourceType"]}
    return {**head, "text": {"status": "generated", "div": div}, **resource}


def transaction(resources: Mapping[str, Resource]) -> Resource:
    """A transaction Bundle that creates each resource; the keys are their urn:uuid."""
    entries = [
        {
            "fullUrl": url,
            "resource": resource,
            "request": {"method": "POST", "url": resource["resourceType"]},
        }
        for url, resource in resources.items()
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}
