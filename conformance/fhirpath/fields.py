"""Tests of one member of a JSON object: equality with a literal, order, spelling, the type of a
reference. Each has a direct closure or none; then the general compiler takes over.

http://hl7.org/fhirpath/N1/#operations
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

from conformance.fhirpath.compiler import type_name
from conformance.fhirpath.equality import order_items
from conformance.fhirpath.items import Environment, plain
from conformance.fhirpath.paths import path_of, present
from conformance.fhirpath.regex import pattern
from conformance.fhirpath.resolution import target_type
from conformance.fhirpath.syntax import Call, Literal, Member, Node, Operation, This
from conformance.fhirpath.types import SYSTEM, Step, Types

# The answer for a JSON value: None is an empty collection.
Test: TypeAlias = Callable[[Any, Environment], bool | None]


def field(types: Types, tree: Node, type: str) -> Step | None:
    """The one primitive member that is not repeated, if that is what a tree names."""
    path = path_of(types, tree, type)
    if not path or len(path) != 1 or len(path[0]) != 1:
        return None
    step = path[0][0]
    return step if step.primitive and not step.many else None


_TEXTUAL = frozenset(type for type, system in SYSTEM.items() if system == "System.String")
_NUMBERS = frozenset({"integer", "unsignedInt", "positiveInt", "decimal"})
_DATES = frozenset({"date", "dateTime", "instant"})
# Primitive types whose JSON compares with a literal of the System type as it stands.
_COMPARABLE = {
    "System.String": _TEXTUAL,
    "System.Boolean": frozenset({"boolean"}),
    "System.Integer": _NUMBERS,
    "System.Decimal": _NUMBERS,
}


def equals(types: Types, tree: Node, type: str, literal: Literal, wanted: bool) -> Test | None:
    path = path_of(types, tree, type)
    if not path or len(path) != 1 or any(step.many for step in path[0]):
        return None
    fit = [step for step in path[0] if step.type in _COMPARABLE.get(literal.type, ())]
    if len(fit) != 1:
        return None
    key, beside, asked = fit[0].key, f"_{fit[0].key}", literal.value
    if len(path[0]) == 1:
        return _same(key, beside, asked, wanted)
    same, other = _same(key, beside, asked, wanted), present(path)

    def test(value: Any, environment: Environment) -> bool | None:
        found = same(value, environment)
        # Another type of the choice equals no literal of this one.
        return not wanted if found is None and other(value) else found

    return test


def resource_equals(types: Types, name: str, literal: Literal, wanted: bool, general: Test) -> Test:
    """`%resource.name = literal`: direct when that is one primitive of the resource's type."""
    known: dict[str, Test] = {}

    def test(value: Any, environment: Environment) -> bool | None:
        resource = environment.resource
        name_of_type = types.own(resource)
        direct = known.get(name_of_type)
        if direct is None:
            here = Member(This(), name)
            found = equals(types, here, name_of_type, literal, wanted)
            direct = known[name_of_type] = found or general
        return direct(value if direct is general else resource, environment)

    return test


def _same(key: str, beside: str, asked: Any, wanted: bool) -> Test:
    def test(value: Any, environment: Environment) -> bool | None:
        have = value.get(key)
        if have is None and beside not in value:
            return None
        return (have == asked) is wanted

    return test


def strings(tree: Node) -> frozenset[str] | None:
    match tree:
        case Literal("System.String", text):
            return frozenset((text,))
        case Operation("|", left, right):
            one, other = strings(left), strings(right)
            return None if one is None or other is None else one | other
    return None


def among(step: Step | None, texts: frozenset[str] | None) -> Test | None:
    if step is None or texts is None or step.type not in _TEXTUAL:
        return None
    key, beside = step.key, f"_{step.key}"

    def test(value: Any, environment: Environment) -> bool | None:
        have = value.get(key)
        if have is None and beside not in value:
            return None
        return have in texts

    return test


def spelled(step: Step | None, name: str, text: str) -> Test | None:
    if step is None or step.type not in _TEXTUAL:
        return None
    key = step.key
    meets = _SPELLING[name](text)

    def test(value: Any, environment: Environment) -> bool | None:
        have = value.get(key)
        return None if have is None else meets(have)

    return test


_SPELLING: dict[str, Callable[[str], Callable[[str], bool]]] = {
    "matches": lambda text: pattern(text).search,
    "startsWith": lambda text: lambda have: have.startswith(text),
    "contains": lambda text: lambda have: text in have,
}


_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def compares(types: Types, name: str, left: Node, right: Node, type: str) -> Test | None:
    step = field(types, left, type)
    if step is None:
        return None
    if isinstance(right, Literal):
        numeric = step.type in _NUMBERS and right.type in ("System.Integer", "System.Decimal")
        return _bounded(step.key, _ORDER[name], right.value) if numeric else None
    other = field(types, right, type)
    if other is None or step.type not in _DATES or other.type not in _DATES:
        return None
    return _dated(step, other, name)


def _bounded(key: str, meets: Callable[[Any, Any], bool], bound: Any) -> Test:
    def test(value: Any, environment: Environment) -> bool | None:
        have = value.get(key)
        return None if have is None else meets(have, bound)

    return test


def _dated(left: Step, right: Step, name: str) -> Test:
    meets = _ORDER[name]

    def test(value: Any, environment: Environment) -> bool | None:
        one, other = value.get(left.key), value.get(right.key)
        if one is None or other is None:
            return None
        if _alike(one, other):
            return meets(one, other)
        found = order_items(
            plain((left.type, one, None)), plain((right.type, other, None)), f"`{name}`"
        )
        return None if found is None else meets(found, 0)

    return test


def _alike(one: str, other: str) -> bool:
    """Whether two dates are of one precision and zone, so that their text orders them."""
    size = len(one)
    if size != len(other):
        return False
    return size <= 10 or (size >= 20 and one[16] == ":" and one[19:] == other[19:])


def refers(types: Types, target: Node, asked: Node | str, type: str) -> Test | None:
    """`resolve() is Patient`: told by the reference alone, whether or not the target is there."""
    match target:
        case Call(This(), "resolve", ()) if type == "Reference" or type in _TEXTUAL:
            name = types.named(asked if isinstance(asked, str) else type_name(asked))
            return _reference(types, name)
    return None


@lru_cache(maxsize=1024)
def _reference(types: Types, name: str) -> Test:
    start = f"{name}/"

    def test(value: Any, environment: Environment) -> bool | None:
        reference = value.get("reference") if isinstance(value, dict) else value
        if reference is not None and reference.startswith(start):
            return True
        found = target_type(value, environment)
        return None if found is None else types.known(found) and name in types.kinds(found)

    return test
