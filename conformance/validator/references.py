"""Reference: the types of resource that an element may refer to.

https://hl7.org/fhir/R4/references.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.fhirpath import Environment, contained, reference_type
from conformance.validator.rules import Member, Run, structure

_LISTED = 8  # types that an issue names


def aimed(path: str, targets: frozenset[str], types: frozenset[str], member: Member) -> Member:
    """`member` for one Reference, and its target must be of one of `targets`. A target whose type
    cannot be told is no error."""
    named = ", ".join(sorted(targets)) if len(targets) <= _LISTED else "the types it is defined for"
    rule = structure(f"`{path}` may refer only to {named}")

    def aimed_member(value: Any, holder: Any, at: Any, run: Run) -> None:
        member(value, holder, at, run)
        if type(value) is not dict:
            return
        reference = value.get("reference")
        if type(reference) is str and reference.partition("/")[0] in targets:
            return
        type_ = target(value, run.environment)
        if type_ is not None and type_ in types and type_ not in targets:
            run.add(holder, at, rule)

    return aimed_member


def target(value: Mapping[str, Any], environment: Environment) -> str | None:
    """The type of what a Reference refers to, if it can be told without a store."""
    reference, named = value.get("reference"), value.get("type")
    found: Any = None
    if type(reference) is str:
        if reference[:1] == "#":
            resource = contained(reference, environment)
            found = None if resource is None else resource.get("resourceType")
        else:
            found = reference_type(reference)
    return found if type(found) is str else named if type(named) is str else None
