"""Invariants of an element: compiled FHIRPath, or plain Python where that is simpler or much
faster; skipped where nothing that they speak of is present.

https://hl7.org/fhir/R4/conformance-rules.html#constraints
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from conformance.definitions import Constraint, Definitions
from conformance.fhirpath import Environment, Invariant, compile_invariant, errata
from conformance.validator.rules import Rule

# Checked where the value itself is: on every object, and on the div of a narrative.
ELSEWHERE = frozenset({"ele-1", "txt-1", "txt-2"})

_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'")
_WORD = re.compile(r"[A-Za-z_]\w*")
# What looks further than at the children that the expression names.
_FAR = re.compile(r"%|\b(?:children|descendants|hasValue|htmlChecks)\b")
_NOWHERE = Environment({}, {})


class Held(NamedTuple):
    """An invariant of an object. With a `guard` it need be asked only if the object has one of
    those properties: it holds where none of them is."""

    guard: frozenset[str] | None
    holds: Invariant
    rule: Rule


def compiled(
    constraints: Iterable[Constraint], path: str, keys: Mapping[str, str], definitions: Definitions
) -> tuple[Held, ...]:
    """The invariants of the elements at `path`, whose objects have the properties `keys`, each
    with the name that FHIRPath knows it by."""
    return tuple(
        _held(each, path, keys, definitions) for each in constraints if each.key not in ELSEWHERE
    )


def _held(
    constraint: Constraint, path: str, keys: Mapping[str, str], definitions: Definitions
) -> Held:
    rule = Rule(constraint.severity, "invariant", constraint.human, constraint.key)
    if constraint.key in NATIVE:
        return Held(NATIVE_GUARDS.get(constraint.key), NATIVE[constraint.key], rule)
    expression = errata(constraint.key, constraint.expression)
    holds = compile_invariant(expression, path, definitions)
    return Held(_guard(expression, holds, keys), holds, rule)


def _guard(expression: str, holds: Invariant, keys: Mapping[str, str]) -> frozenset[str] | None:
    words = _LITERAL.sub("''", expression)
    if not keys or _FAR.search(words) or not holds({}, _NOWHERE):
        return None
    named = set(_WORD.findall(words))
    spoken_of = [key for key, name in keys.items() if name in named]
    return frozenset(spoken_of) | frozenset(f"_{key}" for key in spoken_of)


def value_or_extensions(value: Any, environment: Environment) -> bool:
    """ext-1: an extension has either a value or extensions of its own."""
    has_value = any(key.startswith(("value", "_value")) for key in value)
    return ("extension" in value) != has_value


def contained_is_used(resource: Any, environment: Environment) -> bool:
    """dom-3: each contained resource is referred to, or refers to its container. Its expression
    would walk the whole resource several times for each; one walk is enough."""
    contained = resource.get("contained")
    if type(contained) is not list:
        return True
    local = set(_local(resource))
    return all(
        f"#{each.get('id')}" in local or "#" in set(_local(each))
        for each in contained
        if type(each) is dict
    )


def _local(value: Any) -> Iterator[str]:
    """All texts in a value that may be references within the resource."""
    left = [value]
    while left:
        node = left.pop()
        for each in node.values() if type(node) is dict else node:
            if type(each) is str:
                if each[:1] == "#":
                    yield each
            elif type(each) is dict or type(each) is list:
                left.append(each)


NATIVE: Mapping[str, Invariant] = {"ext-1": value_or_extensions, "dom-3": contained_is_used}
NATIVE_GUARDS: Mapping[str, frozenset[str]] = {"dom-3": frozenset({"contained"})}
