"""Compiles the expression of a search parameter to a closure that finds its values in a resource,
each with the datatype and element that the definitions give it.

https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from conformance.definitions import Definitions
from conformance.fhirpath.compiler import Compiler, type_name
from conformance.fhirpath.criteria import criterion, is_test
from conformance.fhirpath.fields import Test
from conformance.fhirpath.items import Environment, Focus, World
from conformance.fhirpath.parser import parse
from conformance.fhirpath.syntax import (
    Call,
    FhirPathError,
    Indexer,
    Literal,
    Member,
    Node,
    Operation,
    This,
    TypeOperation,
    Variable,
    parts,
)
from conformance.fhirpath.types import Step, Types, types_of

# Elements that an expression may lead to: a path through several choices multiplies their types.
BRANCHES = 5_000


class Hit(NamedTuple):
    """One value that a search parameter finds: its FHIR datatype, its JSON value, and the path of
    its element (`Patient.gender`), empty for what was computed."""

    datatype: str
    value: Any
    path: str


Extract: TypeAlias = Callable[[Any], list[Hit]]
ExtractFrom: TypeAlias = Callable[[Any, Any], list[Hit]]
# Walks from a JSON object through a resource and appends what it finds.
_Walk: TypeAlias = Callable[[Any, Environment, list[Hit]], None]


class _Place(NamedTuple):
    """Where a walk is, as far as the definitions tell: the type there, the datatype and element
    of the hit it would be; `alone` while at most one node can be here."""

    type: str
    datatype: str
    path: str
    alone: bool = True


_EXTENSION = _Place("Extension", "Extension", "Extension", alone=False)


def compile_search(
    expression: str, type: str, definitions: Definitions, failing: bool = False
) -> Extract:
    """A function from a resource of `type` (its structure valid) to the hits of a search
    parameter's expression. Parts of a union that begin with another type yield nothing.
    FhirPathError for unknown elements and what is not supported. What fails on a resource finds
    nothing there, or raises FhirPathError or ArithmeticError where `failing` is asked for."""
    types = types_of(definitions)
    tree = parse(expression)
    extract = _extract(tree, _Search(types, type, failing).walk(tree, _Place(type, type, type)))
    return lambda resource: extract(resource, resource)


def _looks_around(tree: Node) -> bool:
    """Whether a tree may ask for more than what lies below the value that it is evaluated on."""
    match tree:
        case Call(_, name) if name not in _BELOW:
            return True
        case Operation(operator) if operator != "|":
            return True
        case Variable():
            return True
    return any(_looks_around(each) for each in parts(tree))


def _asks_the_host(tree: Node) -> bool:
    if isinstance(tree, Call) and tree.name in ("memberOf", "conformsTo"):
        return True
    return any(_asks_the_host(each) for each in parts(tree))


_BELOW = frozenset({"as", "ofType", "extension", "first"})
_NOWHERE = Environment({}, {})


def compile_relative(expression: str, path: str, definitions: Definitions) -> ExtractFrom:
    """A function from the value of a hit at `path` (`Observation.component`, or a resource type)
    and the resource around it to the hits of an expression that starts there: the components of a
    composite. FhirPathError as compile_search."""
    types = types_of(definitions)
    at = types.at(path)
    if len(at) != 1:
        raise FhirPathError(f"`{path}` is of several types")
    place = _Place(at[0], types.datatype(at[0]), path)
    tree = parse(expression)
    return _extract(tree, _Search(types, path.partition(".")[0]).walk(tree, place))


def _extract(tree: Node, walk: _Walk) -> ExtractFrom:
    def extract(node: Any, resource: Any) -> list[Hit]:
        hits: list[Hit] = []
        walk(node, Environment(resource, resource), hits)
        return hits

    def extract_below(node: Any, _: Any) -> list[Hit]:
        hits: list[Hit] = []
        walk(node, _NOWHERE, hits)
        return hits

    return extract if _looks_around(tree) else extract_below


class _Search:
    """Compiles for resources of one type."""

    def __init__(self, types: Types, root: str, failing: bool = False) -> None:
        self._types = types
        self._caught = () if failing else (FhirPathError, ArithmeticError)
        self._root = root
        self._left = BRANCHES

    def walk(self, tree: Node, place: _Place) -> _Walk:
        """The walk of a whole expression from a place."""
        if isinstance(tree, Operation) and tree.operator == "|":
            return _together([self.walk(tree.left, place), self.walk(tree.right, place)])
        chain = _chain(tree)
        if chain is None:
            return self._asked(tree, place) if is_test(tree) else self._computed(tree, place.type)
        start, steps = chain
        if isinstance(start, Variable):
            return _from_resource(self._on(steps, _Place(self._root, self._root, self._root)))
        if isinstance(start, Operation):
            # `(a | b).c`: the steps go on from either side.
            sides = [_graft(start.left, steps), _graft(start.right, steps)]
            return _together([self.walk(each, place) for each in sides])
        if steps and isinstance(steps[0], Member):
            name = steps[0].name
            if name in self._types.kinds(place.type):
                return self._on(steps[1:], place)
            # `code` is a type too, but here it is an element.
            if self._types.known(name) and not self._types.steps(place.type, name):
                return _nowhere
        return self._on(steps, place)

    def _on(self, steps: list[Node], place: _Place) -> _Walk:
        """The walk of the remaining steps from a place."""
        if not steps:
            return _here(place)
        step, rest = steps[0], steps[1:]
        match step:
            case Member(_, name):
                return self._member(name, rest, place)
            case TypeOperation("as", _, asked):
                return self._cast(asked, rest, place)
            case Call(_, "as" | "ofType", (asked,)):
                return self._cast(type_name(asked), rest, place)
            case Call(_, "where", (criteria,)):
                return _where(criterion(self._types, criteria, place.type), self._on(rest, place))
            case Call(_, "extension", (Literal("System.String", url),)):
                return _extension(url, self._on(rest, _EXTENSION))
        raise FhirPathError("The expression is not one that a search parameter may use")

    def _member(self, name: str, rest: list[Node], place: _Place) -> _Walk:
        found = self._types.steps(place.type, name)
        if not found:
            raise FhirPathError(f"`{name}` is not an element of {place.type}")
        at = _position(rest[0]) if rest else None
        if at is not None:
            if not place.alone:
                raise FhirPathError("An index must follow the first element that repeats")
            rest = rest[1:]
        if not rest and len(found) > 1 and at is None:
            return _choice(found)
        if len(found) > 1 and rest:
            found = self._leading(found, rest[0], name)
        return _together([self._branch(step, at, rest, place) for step in found])

    def _leading(self, found: tuple[Step, ...], next: Node, name: str) -> tuple[Step, ...]:
        """Those of a choice's types that have the element that is asked next."""
        if not isinstance(next, Member):
            return found
        able = tuple(step for step in found if self._types.steps(step.type, next.name))
        if not able:
            raise FhirPathError(f"`{next.name}` is not an element of any type of `{name}`")
        return able

    def _branch(self, step: Step, at: int | None, rest: list[Node], place: _Place) -> _Walk:
        self._left -= 1
        if self._left < 0:
            raise FhirPathError("The expression leads to too many elements")
        alone = place.alone and (not step.many or at is not None)
        then = self._on(rest, _Place(step.type, step.datatype, step.path, alone))
        if then is _nowhere:
            return _nowhere
        # Beneath a primitive lie only its id and extensions, in the member beside it.
        beneath = step.primitive and bool(rest) and _enters(rest[0])
        key = f"_{step.key}" if beneath else step.key
        if not step.many:
            return _one(key, then) if rest else _one_hit(step)
        if at is not None:
            return _at(key, at, then)
        return _many(key, then) if rest else _many_hits(step)

    def _cast(self, name: str, rest: list[Node], place: _Place) -> _Walk:
        """`as` and ofType(): the exact type. R4 writes `value.as(DateTime)` where the FHIR type
        is meant, so a System name stands for the primitive here."""
        asked = self._types.named(name)
        if asked.startswith("System."):
            bare = asked.removeprefix("System.")
            asked = f"{bare[0].lower()}{bare[1:]}"
        if self._types.resource(place.type):
            inner = self._on(rest, _Place(asked, asked, asked, place.alone))
            return _of_type(asked, inner)
        return self._on(rest, place) if place.datatype == asked else _nowhere

    def _asked(self, tree: Node, place: _Place) -> _Walk:
        """An expression that is true or false of the node: a boolean hit."""
        test, caught = criterion(self._types, tree, place.type), self._caught

        def walk(node: Any, around: Environment, hits: list[Hit]) -> None:
            try:
                found = test(node, around)
            except caught:
                return
            if found is not None:
                hits.append(Hit("boolean", found, ""))

        return walk

    def _computed(self, tree: Node, type: str) -> _Walk:
        """What is no path runs in the general compiler; an evaluation that fails finds nothing."""
        types = self._types
        if _asks_the_host(tree):
            raise FhirPathError("A search parameter may ask only for what its resource says")
        run, caught = Compiler(types).compile(tree), self._caught

        def walk(node: Any, around: Environment, hits: list[Hit]) -> None:
            item = (type, node, None)
            try:
                found = run(Focus([item], World(types, around, item)))
            except caught:
                return
            for kind, value, _ in found:
                if value is not None:
                    hits.append(_computed_hit(types, kind, value))

        return walk


def _computed_hit(types: Types, kind: str, value: Any) -> Hit:
    if kind.startswith("System."):
        bare = kind.removeprefix("System.")
        plain = value if isinstance(value, bool | str) else str(value)
        return Hit(f"{bare[0].lower()}{bare[1:]}", plain, "")
    return Hit(types.datatype(kind), value, kind if "." in kind else "")


def _chain(tree: Node) -> tuple[Node, list[Node]] | None:
    """Where a path starts and its steps in order; None for what is no path."""
    steps: list[Node] = []
    while True:
        match tree:
            case This() | Variable("resource" | "rootResource"):
                return tree, steps[::-1]
            case Operation("|") if steps:
                return tree, steps[::-1]
            case (
                Member(target)
                | Indexer(target)
                | Call(target, "where" | "as" | "ofType" | "extension" | "first")
            ):
                steps.append(tree)
                tree = target
            case TypeOperation("as", operand):
                steps.append(tree)
                tree = operand
            case _:
                return None


def _graft(tree: Node, steps: list[Node]) -> Node:
    """The steps put upon another tree."""
    for step in steps:
        match step:
            case Member(_, name):
                tree = Member(tree, name)
            case Call(_, name, arguments):
                tree = Call(tree, name, arguments)
            case Indexer(_, index):
                tree = Indexer(tree, index)
            case TypeOperation(operator, _, type):
                tree = TypeOperation(operator, tree, type)
    return tree


def _enters(step: Node) -> bool:
    """Whether a step goes to a child."""
    return isinstance(step, Member) or (isinstance(step, Call) and step.name == "extension")


def _position(step: Node) -> int | None:
    match step:
        case Indexer(_, Literal("System.Integer", at)):
            return int(at)
        case Call(_, "first", ()):
            return 0
    return None


# --- walks ---------------------------------------------------------------------------------------

_new = tuple.__new__  # what Hit(...) does, at half its price


def _nowhere(node: Any, around: Environment, hits: list[Hit]) -> None:
    """The walk that finds nothing."""


def _together(walks: list[_Walk]) -> _Walk:
    live = [walk for walk in walks if walk is not _nowhere]
    if len(live) < 2:
        return live[0] if live else _nowhere

    def walk(node: Any, around: Environment, hits: list[Hit]) -> None:
        for each in live:
            each(node, around, hits)

    return walk


def _here(place: _Place) -> _Walk:
    datatype, path = place.datatype, place.path

    def walk(node: Any, around: Environment, hits: list[Hit]) -> None:
        if node is not None:
            hits.append(_new(Hit, (datatype, node, path)))

    return walk


def _one(key: str, then: _Walk) -> _Walk:
    def walk(node: Any, around: Environment, hits: list[Hit]) -> None:
        value = node.get(key)
        if value is not None:
            then(value, around, hits)

    return walk


def _one_hit(step: Step) -> _Walk:
    key, datatype, path = step.key, step.datatype, step.path

    def walk(node: Any, around: Environment, hits: list[Hit]) -> None:
        value = node.get(key)
        if value is not None:
            hits.append(_new(Hit, (datatype, value, path)))

    return walk


def _many(key: str, then: _Walk) -> _Walk:
    def walk(node: Any, around: Environment, hits: list[Hit]) -> None:
        for value in node.get(key, ()):
            if value is not None:
                then(value, around, hits)

    return walk


def _many_hits(step: Step) -> _Walk:
    key, datatype, path = step.key, step.datatype, step.path

    def walk(node: Any, around: Environment, hits: list[Hit]) -> None:
        values = node.get(key)
        if values is not None:
            hits += [_new(Hit, (datatype, each, path)) for each in values if each is not None]

    return walk


def _choice(steps: tuple[Step, ...]) -> _Walk:
    members = tuple((step.key, step.datatype) for step in steps)
    path = steps[0].path

    def walk(node: Any, around: Environment, hits: list[Hit]) -> None:
        for key, datatype in members:
            value = node.get(key)
            if value is not None:
                hits.append(_new(Hit, (datatype, value, path)))
                return

    return walk


def _at(key: str, position: int, then: _Walk) -> _Walk:
    def walk(node: Any, around: Environment, hits: list[Hit]) -> None:
        values = node.get(key, ())
        if position < len(values) and values[position] is not None:
            then(values[position], around, hits)

    return walk


def _where(test: Test, then: _Walk) -> _Walk:
    if then is _nowhere:
        return _nowhere

    def walk(node: Any, around: Environment, hits: list[Hit]) -> None:
        if test(node, around):
            then(node, around, hits)

    return walk


def _extension(url: str, then: _Walk) -> _Walk:
    def walk(node: Any, around: Environment, hits: list[Hit]) -> None:
        for each in node.get("extension", ()):
            if each.get("url") == url:
                then(each, around, hits)

    return walk


def _of_type(name: str, then: _Walk) -> _Walk:
    def walk(node: Any, around: Environment, hits: list[Hit]) -> None:
        if node.get("resourceType") == name:
            then(node, around, hits)

    return walk


def _from_resource(then: _Walk) -> _Walk:
    def walk(node: Any, around: Environment, hits: list[Hit]) -> None:
        then(around.resource, around, hits)

    return walk
