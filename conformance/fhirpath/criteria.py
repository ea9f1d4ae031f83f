"""Compiles an expression that asks something of one value (an invariant, the criteria of where())
to a closure over its plain JSON. Frequent shapes become direct closures; the rest runs in the
general compiler, with the same meaning.

http://hl7.org/fhirpath/N1/#boolean-logic
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

from conformance.fhirpath.compiler import Compiler, type_name
from conformance.fhirpath.equality import order_items
from conformance.fhirpath.items import Environment, Focus, World, plain, truth
from conformance.fhirpath.paths import Path, nodes, path_of, present
from conformance.fhirpath.resolution import target_type
from conformance.fhirpath.strings import pattern
from conformance.fhirpath.syntax import (
    Call,
    Index,
    Indexer,
    Literal,
    Member,
    Node,
    Operation,
    Sign,
    This,
    Total,
    TypeOperation,
    Variable,
)
from conformance.fhirpath.types import SYSTEM, Step, Types

# The answer for a JSON value: None is an empty collection.
Test: TypeAlias = Callable[[Any, Environment], bool | None]


def criterion(types: Types, tree: Node, type: str) -> Test:
    """The test that a tree makes of values of `type`. FhirPathError when it cannot be compiled."""
    return _direct(types, tree, type) or _general(types, tree, type)


def _general(types: Types, tree: Node, type: str) -> Test:
    run = Compiler(types).compile(tree)
    own = types.resource(type)

    def test(value: Any, environment: Environment) -> bool | None:
        item = (value["resourceType"] if own else type, value, None)
        return truth(run(Focus([item], World(types, environment, item))), "A criterion")

    return test


def _direct(types: Types, tree: Node, type: str) -> Test | None:
    """A closure for one of the frequent shapes, or None."""
    match tree:
        case Operation("and" | "or" | "implies" | "xor" as name, left, right):
            return _LOGIC[name](criterion(types, left, type), criterion(types, right, type))
        case Operation("=" | "!=" as name, left, Literal() as literal):
            return _equals(_field(types, left, type), literal, name == "=")
        case Operation("=" | "!=" as name, left, right) if _asks(left) and _asks(right):
            tests = criterion(types, left, type), criterion(types, right, type)
            return _xor(*tests) if name == "!=" else _not(_xor(*tests))
        case Operation("in", left, right):
            return _among(_field(types, left, type), _strings(right))
        case Operation("<" | ">" | "<=" | ">=" as name, left, right):
            return _compares(types, name, left, right, type)
        case Call(Call() as inner, "not", ()):
            return _not(criterion(types, inner, type))
        case Call(target, "matches" | "startsWith" as name, (Literal("System.String", text),)):
            return _spelled(_field(types, target, type), name, text)
        case Call(target, "is", (asked,)) | TypeOperation("is", target, asked):
            return _refers(types, target, asked, type)
        case Call():
            return _collects(types, tree, type)
    return None


def _asks(tree: Node) -> bool:
    """Whether the shape of a tree says that it is one boolean."""
    return isinstance(tree, Call) and tree.name in ("exists", "empty", "not", "hasValue", "all")


# --- logic ---------------------------------------------------------------------------------------


def _and(left: Test, right: Test) -> Test:
    def test(value: Any, environment: Environment) -> bool | None:
        one = left(value, environment)
        if one is False:
            return False
        other = right(value, environment)
        return False if other is False else None if one is None else other

    return test


def _or(left: Test, right: Test) -> Test:
    def test(value: Any, environment: Environment) -> bool | None:
        one = left(value, environment)
        if one:
            return True
        other = right(value, environment)
        return True if other else None if one is None else other

    return test


def _xor(left: Test, right: Test) -> Test:
    def test(value: Any, environment: Environment) -> bool | None:
        one, other = left(value, environment), right(value, environment)
        return None if one is None or other is None else one is not other

    return test


def _implies(left: Test, right: Test) -> Test:
    def test(value: Any, environment: Environment) -> bool | None:
        one = left(value, environment)
        if one is False:
            return True
        other = right(value, environment)
        return True if other else None if one is None else other

    return test


def _not(inner: Test) -> Test:
    def test(value: Any, environment: Environment) -> bool | None:
        found = inner(value, environment)
        return None if found is None else not found

    return test


_LOGIC = {"and": _and, "or": _or, "xor": _xor, "implies": _implies}


# --- collections ---------------------------------------------------------------------------------


def _collects(types: Types, tree: Call, type: str) -> Test | None:
    """`path.exists()`, `path.where(criteria).empty()` and the like."""
    match tree:
        case Call(Call(target, "where", (criteria,)), "exists" | "empty" as name, ()):
            return _some(types, target, criteria, type, found=name == "exists")
        case Call(target, "exists", (criteria,)):
            return _some(types, target, criteria, type, found=True)
        case Call(target, "all", (criteria,)):
            return _every(types, target, criteria, type)
        case Call(target, "exists" | "empty" as name, ()):
            path = path_of(types, target, type)
            return _presence(present(path), name == "exists") if path else None
        case Call(target, "hasValue", ()):
            step = _field(types, target, type)
            return _valued(step.key) if step else None
    return None


def _presence(there: Callable[[Any], bool], wanted: bool) -> Test:
    if wanted:
        return lambda value, environment: there(value)
    return lambda value, environment: not there(value)


def _valued(key: str) -> Test:
    return lambda value, environment: value.get(key) is not None


def _inner(
    types: Types, target: Node, criteria: Node, type: str
) -> tuple[Callable[[Any], list[Any]], Test] | None:
    """What a path leads to and the test of each; None unless the path is one of complex steps and
    the criteria ask nothing of what lies outside the item."""
    path = path_of(types, target, type)
    if not path or not _complex(types, path) or _outward(criteria):
        return None
    return nodes(path), criterion(types, criteria, path[-1][0].type)


def _complex(types: Types, path: Path) -> bool:
    return all(
        len(steps) == 1 and not steps[0].primitive and not types.resource(steps[0].type)
        for steps in path
    )


def _outward(tree: Node) -> bool:
    """Whether a tree reads `$index`, `$total` or `%context`."""
    match tree:
        case Index() | Total() | Variable("context"):
            return True
        case Member(target):
            return _outward(target)
        case Call(target, _, arguments):
            return _outward(target) or any(_outward(each) for each in arguments)
        case Operation(_, left, right) | Indexer(left, right):
            return _outward(left) or _outward(right)
        case Sign(_, operand) | TypeOperation(_, operand):
            return _outward(operand)
    return False


def _some(types: Types, target: Node, criteria: Node, type: str, found: bool) -> Test | None:
    inner = _inner(types, target, criteria, type)
    if inner is None:
        return None
    reach, ask = inner

    def test(value: Any, environment: Environment) -> bool | None:
        for each in reach(value):
            if ask(each, environment):
                return found
        return not found

    return test


def _every(types: Types, target: Node, criteria: Node, type: str) -> Test | None:
    inner = _inner(types, target, criteria, type)
    if inner is None:
        return None
    reach, ask = inner

    def test(value: Any, environment: Environment) -> bool | None:
        for each in reach(value):  # noqa: SIM110 - a loop costs half of all() here
            if not ask(each, environment):
                return False
        return True

    return test


# --- values --------------------------------------------------------------------------------------


def _field(types: Types, tree: Node, type: str) -> Step | None:
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


def _equals(step: Step | None, literal: Literal, wanted: bool) -> Test | None:
    if step is None or step.type not in _COMPARABLE.get(literal.type, ()):
        return None
    key, beside, asked = step.key, f"_{step.key}", literal.value

    def test(value: Any, environment: Environment) -> bool | None:
        have = value.get(key)
        if have is None and beside not in value:
            return None
        return (have == asked) is wanted

    return test


def _strings(tree: Node) -> frozenset[str] | None:
    match tree:
        case Literal("System.String", text):
            return frozenset((text,))
        case Operation("|", left, right):
            one, other = _strings(left), _strings(right)
            return None if one is None or other is None else one | other
    return None


def _among(step: Step | None, texts: frozenset[str] | None) -> Test | None:
    if step is None or texts is None or step.type not in _TEXTUAL:
        return None
    key, beside = step.key, f"_{step.key}"

    def test(value: Any, environment: Environment) -> bool | None:
        have = value.get(key)
        if have is None and beside not in value:
            return None
        return have in texts

    return test


def _spelled(step: Step | None, name: str, text: str) -> Test | None:
    if step is None or step.type not in _TEXTUAL:
        return None
    key = step.key
    meets = pattern(text).search if name == "matches" else _starting(text)

    def test(value: Any, environment: Environment) -> bool | None:
        have = value.get(key)
        return None if have is None else bool(meets(have))

    return test


def _starting(text: str) -> Callable[[str], bool]:
    return lambda have: have.startswith(text)


_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def _compares(types: Types, name: str, left: Node, right: Node, type: str) -> Test | None:
    step = _field(types, left, type)
    if step is None:
        return None
    if isinstance(right, Literal):
        numeric = step.type in _NUMBERS and right.type in ("System.Integer", "System.Decimal")
        return _bounded(step.key, _ORDER[name], right.value) if numeric else None
    other = _field(types, right, type)
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


def _refers(types: Types, target: Node, asked: Node | str, type: str) -> Test | None:
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
        found = target_type(value, environment.root)
        return None if found is None else types.known(found) and name in types.kinds(found)

    return test
