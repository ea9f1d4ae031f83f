"""Validation of a resource against the base definitions of R4: every problem in one pass.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

from typing import Any

from conformance.definitions import Definitions
from conformance.fhirpath import Environment
from conformance.outcome import Issue
from conformance.validator import places
from conformance.validator.nodes import Nodes
from conformance.validator.rules import Found, Full, Run

LIMIT = 100  # issues told about one resource


class Validator:
    """Checks resources. Types are compiled when the first resource of them is met."""

    def __init__(self, definitions: Definitions) -> None:
        self._nodes = Nodes(definitions)

    def validate(
        self, resource: dict[str, Any], limit: int = LIMIT, *, warnings: bool = True
    ) -> list[Issue]:
        """What is wrong with a resource, nothing if it is valid: errors, and with `warnings` also
        what the standard only advises. At most `limit` issues, and then one that says so."""
        type_ = resource.get("resourceType")
        if type(type_) is not str or type_ not in self._nodes.types:
            return [Issue("error", "structure", "`resourceType` must name a type of FHIR R4")]
        found: list[Found] = []
        run = Run(Environment(resource, resource), found, limit, warnings)
        try:
            self._nodes.node(type_).check(resource, run)
        except Full:
            return [*places.issues(resource, found, self._nodes), _more(limit)]
        return places.issues(resource, found, self._nodes) if found else []


def _more(limit: int) -> Issue:
    text = f"Only the first {limit} problems are told: correct them and validate again"
    return Issue("information", "incomplete", text)
