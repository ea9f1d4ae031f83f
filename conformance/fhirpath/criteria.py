"""Compiles an expression that asks something of one value (an invariant, the criteria of where())
to a closure over its plain JSON. Frequent shapes become direct closures; the rest runs in the
general compiler, with the same meaning.

http://hl7.org/fhirpath/N1/#boolean-logic
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.fhirpath.compiler import Compiler
from conformance.fhirpath.fields import (
    Test,
    among,
    compares,
    equals,
    field,
    refers,
    resource_equals,
    spelled,
    strings,
)
from conformance.fhirpath.items import Allowance, Environment, Focus, World, truth
from conformance.fhirpath.paths import Path, approach, nodes, path_of, present, text
from conformance.fhirpath.syntax import (
    Call,
    Index,
    Literal,
    Member,
    Node,
    Operation,
    Total,
    TypeOperation,
    Variable,
    parts,
)
from conformance.fhirpath.types import Types


def criterion(types: Types, tree: Node, type: str) -> Test:
    """The test that a tree makes of values of `type`. FhirPathError when it cannot be compiled."""
    return _direct(types, tree, type) or _general(types, tree, type)


def bounded_criterion(types: Types, tree: Node, type: str) -> Test:
    """As `criterion`, of an expression that does not come with the standard: it takes what it
    visits from the allowance of its environment. TooMuch from the test."""
    frequent = _is_plain(tree, _PLAIN)
    return (_direct(types, tree, type) if frequent else None) or _bounded(types, tree, type)


_PLAIN = 24  # parts of an expression whose direct closure is short, on whatever it is asked
_MOST = 500_000  # items that one evaluation may visit and make
_OUTSIDE = 1_000  # the same where nothing is to be validated
_LINEAR = frozenset(
    ("all", "as", "contains", "count", "empty", "exists", "first", "hasValue", "is", "length")
) | frozenset(("not", "ofType", "startsWith", "where"))


def _is_plain(tree: Node, most: int) -> bool:
    """Whether a tree is small, and its functions take as long as what they are asked of is."""
    waiting, size = [tree], 0
    while waiting and size <= most:
        one = waiting.pop()
        size += 1
        if isinstance(one, Variable) or (isinstance(one, Call) and one.name not in _LINEAR):
            return False
        waiting += parts(one)
    return size <= most


def _bounded(types: Types, tree: Node, type: str) -> Test:
    run = Compiler(types, bounded=True).compile(tree)
    own = types.resource(type)

    def test(value: Any, environment: Environment) -> bool | None:
        item = (types.own(value) if own else type, value, None)
        allowance = environment.allowance or Allowance(_OUTSIDE)
        rest = min(allowance.left, _MOST)
        world = World(types, environment, item, budget=0, allowance=allowance, rest=rest)
        try:
            return truth(run(Focus([item], world)), "A criterion")
        finally:
            world.give_back()

    return test


def _general(types: Types, tree: Node, type: str) -> Test:
    run = Compiler(types).compile(tree)
    own = types.resource(type)

    def test(value: Any, environment: Environment) -> bool | None:
        item = (types.own(value) if own else type, value, None)
        return truth(run(Focus([item], World(types, environment, item))), "A criterion")

    return test


def _direct(types: Types, tree: Node, type: str) -> Test | None:
    """A closure for one of the frequent shapes, or None."""
    match tree:
        case Literal("System.Boolean", bool() as answer):
            return lambda value, environment: answer
        case Operation("and" | "or" | "implies" | "xor" as name, left, right):
            return _LOGIC[name](criterion(types, left, type), criterion(types, right, type))
        case Operation("=" | "!=" as name, left, Literal() as literal):
            if isinstance(left, Member) and left.target == Variable("resource"):
                general = _general(types, tree, type)
                return resource_equals(types, left.name, literal, name == "=", general)
            return equals(types, left, type, literal, name == "=")
        case Operation("=" | "!=" as name, left, right) if is_test(left) and is_test(right):
            tests = criterion(types, left, type), criterion(types, right, type)
            return _xor(*tests) if name == "!=" else _not(_xor(*tests))
        case Operation("in", left, right):
            return among(field(types, left, type), strings(right))
        case Operation("<" | ">" | "<=" | ">=" as name, left, right):
            return compares(types, name, left, right, type)
        case Call(Call() as inner, "not", ()):
            return _not(criterion(types, inner, type))
        case Call(
            target, "matches" | "startsWith" | "contains" as name, (Literal("System.String", text),)
        ):
            return spelled(field(types, target, type), name, text)
        case Call(target, "is", (asked,)) | TypeOperation("is", target, asked):
            return refers(types, target, asked, type)
        case Call():
            return _collects(types, tree, type)
    return None


def is_test(tree: Node) -> bool:
    """Whether the outermost operation of a tree says that it is one boolean, or empty."""
    match tree:
        case Operation(name):
            return name in _BOOLEAN_OPERATORS
        case Call(_, name):
            return name in _BOOLEAN_FUNCTIONS
        case TypeOperation("is"):
            return True
    return False


_BOOLEAN_OPERATORS = frozenset(
    ("and", "or", "xor", "implies", "=", "!=", "~", "!~", "in", "<=", ">=", "<", ">", "contains")
)
_BOOLEAN_FUNCTIONS = frozenset(("exists", "empty", "not", "hasValue", "all", "is"))


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
            return _existence(types, tree, target, type, name == "exists")
        case Call(Call(target, "select", (projection,)), "isDistinct", ()):
            return _distinct(types, target, projection, type)
        case Call(target, "hasValue", ()):
            step = field(types, target, type)
            return _valued(step.key) if step else None
    return None


def _existence(types: Types, tree: Call, target: Node, type: str, wanted: bool) -> Test | None:
    path = path_of(types, target, type)
    if path:
        return _presence(present(path), wanted)
    start = approach(types, target, type)
    if not start:
        return None
    near, far = present(start), _general(types, tree, type)
    return lambda value, environment: far(value, environment) if near(value) else not wanted


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
    if isinstance(tree, Index | Total) or tree == Variable("context"):
        return True
    return any(_outward(each) for each in parts(tree))


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


_ALWAYS = Literal("System.Boolean", True)


def _distinct(types: Types, target: Node, projection: Node, type: str) -> Test | None:
    """`path.select(text).isDistinct()`, where text is a string or strings joined by `&`."""
    criteria: Node = _ALWAYS
    match target:
        case Call(start, "where", (asked,)):
            target, criteria = start, asked
    inner = _inner(types, target, criteria, type)
    path = path_of(types, target, type)
    spell = _text(types, projection, path[-1][0].type) if path and inner else None
    if inner is None or spell is None:
        return None
    reach, ask = inner

    def test(value: Any, environment: Environment) -> bool | None:
        found = [spell(each) for each in reach(value) if ask(each, environment)]
        texts = [each for each in found if each is not None]
        return len(set(texts)) == len(texts)

    return test


def _text(types: Types, tree: Node, type: str) -> Callable[[Any], str | None] | None:
    if isinstance(tree, Operation) and tree.operator == "&":
        one, other = _text(types, tree.left, type), _text(types, tree.right, type)
        if one is None or other is None:
            return None
        left, right = one, other
        return lambda value: (left(value) or "") + (right(value) or "")
    path = path_of(types, tree, type)
    return text(path) if path else None
