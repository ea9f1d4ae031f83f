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
from conformance.validator.systems import NO_SYSTEMS, Systems

LIMIT = 100  # issues told about one resource


class Validator:
    """Checks resources. Types are compiled when the first resource of them is met. `systems` is
    what is known of codes that the definitions do not list."""

    def __init__(self, definitions: Definitions, systems: Systems = NO_SYSTEMS) -> None:
        self.nodes = Nodes(definitions, systems)

    def validate(
        self, resource: dict[str, Any], limit: int = LIMIT, *, warnings: bool = True
    ) -> list[Issue]:
        """What is wrong with a resource, nothing if it is valid: errors, and with `warnings` also
        what the standard only advises. At most `limit` issues, errors first, and then one that
        says that there are more."""
        type_ = resource.get("resourceType")
        if type(type_) is not str or type_ not in self.nodes.types:
            return [Issue("error", "structure", "`resourceType` must name a type of FHIR R4")]
        errors: list[Found] = []
        advice: list[Found] = []
        run = Run(Environment(resource, resource), errors, advice if warnings else None, limit)
        full = False
        try:
            self.nodes.node(type_).check(resource, run)
        except Full:
            full = True
        if not errors and not advice:
            return []
        told = places.issues(resource, [*errors, *advice][:limit], self.nodes)
        return [*told, _more(limit)] if full or len(errors) + len(advice) > limit else told


def _more(limit: int) -> Issue:
    text = f"Only the first {limit} problems are told: correct them and validate again"
    return Issue("information", "incomplete", text)
