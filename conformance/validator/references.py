"""Reference: the types of resource that an element may refer to.

https://hl7.org/fhir/R4/references.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.fhirpath import Environment, contained, reference_type
from conformance.validator.rules import Member, Rule, Run, structure

_LISTED = 8  # types that an issue names
_CORE = "http://hl7.org/fhir/StructureDefinition/"
CONTRADICTED = structure(
    "`Reference.type` must be the type of what `reference` names: correct it, or leave it out"
)
_NO_TYPE = Rule("warning", "code-invalid", "`Reference.type` names no type of FHIR R4: correct it")


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
        if "type" in value:
            _consistent(value, types, run)
        elif type(reference) is str and reference.partition("/")[0] in targets:
            return
        type_ = target(value, run.environment)
        if type_ is not None and type_ in types and type_ not in targets:
            run.add(holder, at, rule)

    return aimed_member


def target(value: Mapping[str, Any], environment: Environment) -> str | None:
    """The type of what a Reference refers to, if it can be told without a store."""
    return _told(value, environment) or called(value)


def called(value: Mapping[str, Any]) -> str | None:
    """What a Reference calls the type of its target, without the address of the types of FHIR."""
    named = value.get("type")
    return named.removeprefix(_CORE) if type(named) is str else None


def _told(value: Mapping[str, Any], environment: Environment) -> str | None:
    """The type that the reference itself tells."""
    reference = value.get("reference")
    if type(reference) is not str:
        return None
    if reference[:1] != "#":
        return reference_type(reference)
    resource = contained(reference, environment)
    found = None if resource is None else resource.get("resourceType")
    return found if type(found) is str else None


def _consistent(value: dict[str, Any], types: frozenset[str], run: Run) -> None:
    """What is named a type is one, and that of the target. Addresses are of logical models."""
    named = called(value)
    if named is None or ":" in named:
        return
    if named not in types:
        run.add(value, "type", _NO_TYPE)
        return
    told = _told(value, run.environment)
    if told is not None and told in types and told != named:
        run.add(value, "type", CONTRADICTED)
