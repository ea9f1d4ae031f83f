"""What an expression asks for around a resource in a file: its Bundle, base profiles and units.

https://hl7.org/fhir/R4/bundle.html#references
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from conformance.definitions import Definitions
from conformance.fhirpath import Units
from conformance.validator import Validator
from terminology import ucum

_BASE = "http://hl7.org/fhir/StructureDefinition/"


class Surroundings:
    """A FHIRPath host that knows the resource, and nothing beyond it."""

    units: Units = ucum

    def __init__(self, definitions: Definitions, resource: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._resource = resource

    def resolve(self, reference: str) -> tuple[str, Any] | None:
        """What an entry of the Bundle holds, by its fullUrl, or by type and id."""
        found = self._entries.get(reference)
        return None if found is None else (found["resourceType"], found)

    def member_of(self, value_set: str, value: Any) -> bool | None:
        """A value set is not at hand."""
        return None

    def conforms_to(self, canonical: str, value: Any) -> bool | None:
        """Whether a resource is a valid one of its type; other profiles are not known."""
        type = canonical.removeprefix(_BASE)
        if not canonical.startswith(_BASE) or type not in self._definitions.types:
            return None
        if not isinstance(value, dict) or value.get("resourceType") != type:
            return False
        issues = Validator(self._definitions).validate(value)
        return not any(each.severity in ("error", "fatal") for each in issues)

    @cached_property
    def _entries(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        entries = self._resource.get("entry")
        for each in entries if isinstance(entries, list) else ():
            held = each.get("resource") if isinstance(each, dict) else None
            if not isinstance(held, dict) or held.get("resourceType") not in (
                self._definitions.types
            ):
                continue
            for name in (each.get("fullUrl"), f"{held['resourceType']}/{held.get('id')}"):
                if isinstance(name, str):
                    found.setdefault(name, held)
        return found
