"""Compiles a syntax tree to closures over typed items: the whole language, without shortcuts.

http://hl7.org/fhirpath/N1/
"""

from __future__ import annotations

from collections.abc import Callable

from conformance.fhirpath import arithmetic, boundaries, conversion, filtering, resolution, strings
from conformance.fhirpath.equality import Lasting, distinct, equal, equivalent, order, within
from conformance.fhirpath.function import Function
from conformance.fhirpath.items import (
    Collection,
    Focus,
    Item,
    Run,
    body,
    boolean,
    members,
    number,
    single,
    string,
    truth,
    units,
)
from conformance.fhirpath.syntax import (
    Call,
    Empty,
    FhirPathError,
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
    parts,
)
from conformance.fhirpath.types import Step, Types

FUNCTIONS: dict[str, Function] = {
    **filtering.TABLE,
    **strings.TABLE,
    **arithmetic.TABLE,
    **boundaries.TABLE,
    **conversion.TABLE,
    **resolution.TABLE,
}

_CONSTANTS = {
    "ucum": "http://unitsofmeasure.org",
    "sct": "http://snomed.info/sct",
    "loinc": "http://loinc.org",
}
_PREFIXES = {
    "vs-": "http://hl7.org/fhir/ValueSet/",
    "ext-": "http://hl7.org/fhir/StructureDefinition/",
}


class Compiler:
    """Compiles trees for one type system. When `strict`, a name that its item's type does not
    define is an error at evaluation, else it is empty. When `bounded`, every step is taken from
    the budget of the evaluation: for expressions that anybody may send."""

    def __init__(self, types: Types, strict: bool = False, bounded: bool = False) -> None:
        self.types = types
        self._strict = strict
        self._bounded = bounded

    def compile(self, tree: Node) -> Run:
        """The closure of a tree. FhirPathError names what is not supported. A part that asks only
        about the resource or the context is evaluated once, not for each item of a loop."""
        named = None if isinstance(tree, Variable) else variables(tree)
        run = self._closure(tree)
        if named:
            run = _once(run, "context" in named)
        return _counted(run) if self._bounded else run

    def _closure(self, tree: Node) -> Run:
        match tree:
            case Literal(type, value):
                return _constant([(type, value, None)])
            case Empty():
                return _constant([])
            case This():
                return lambda focus: focus.this
            case Index():
                return _index
            case Total():
                return lambda focus: focus.total or []
            case Variable(name):
                return variable(self.types, name)
            case Member():
                return self._member(tree)
            case Call():
                return self._call(tree)
            case Indexer(target, index):
                return _indexer(self.compile(target), self.compile(index))
            case Sign(operator, operand):
                return _sign(operator, self.compile(operand))
            case Operation():
                return self._operation(tree)
            case TypeOperation(operator, operand, type):
                return self._typed(operator, self.compile(operand), type)

    def _member(self, tree: Member) -> Run:
        step = self._step(tree.name)
        target = self.compile(tree.target)
        if not tree.first or not self.types.known(tree.name):
            return lambda focus: step(target(focus))
        name, kinds = tree.name, self.types.kinds

        def start(focus: Focus) -> Collection:
            this = focus.this
            if len(this) == 1 and name in kinds(this[0][0]):
                return this
            return step(this)

        return start

    def _step(self, name: str) -> Callable[[Collection], Collection]:
        types, strict = self.types, self._strict
        known: dict[str, tuple[Step, ...]] = {}

        def step(input: Collection) -> Collection:
            found: Collection = []
            for item in input:
                steps = known.get(item[0])
                if steps is None:
                    steps = known[item[0]] = types.steps(item[0], name)
                if not steps and strict:
                    raise FhirPathError(f"`{name}` is not an element of {item[0]}")
                node = item[1] if type(item[1]) is dict else body(item)
                for each in steps:
                    members(types, node, each, found)
            return found

        return step

    def _call(self, tree: Call) -> Run:
        if tree.name in ("is", "as", "ofType"):
            if len(tree.arguments) != 1:
                raise FhirPathError(f"{tree.name}() takes one type")
            return self._typed(tree.name, self.compile(tree.target), type_name(tree.arguments[0]))
        if tree.name == "sort":
            return self._sort(tree)
        function = FUNCTIONS.get(tree.name)
        if function is None:
            raise FhirPathError(f"The function {tree.name}() is not supported")
        if not function.least <= len(tree.arguments) <= function.most:
            raise FhirPathError(f"{tree.name}() does not take {len(tree.arguments)} arguments")
        target = self.compile(tree.target)
        arguments = [self.compile(each) for each in tree.arguments]
        return _application(function, target, arguments)

    def _sort(self, tree: Call) -> Run:
        """sort() reads a minus before a key as descending, whatever the key's type."""
        target = self.compile(tree.target)
        keys = [
            (self.compile(each.operand), True)
            if isinstance(each, Sign) and each.operator == "-"
            else (self.compile(each), False)
            for each in tree.arguments
        ]
        return lambda focus: filtering.sort(focus, target(focus), *keys)

    def _operation(self, tree: Operation) -> Run:
        left, right = self.compile(tree.left), self.compile(tree.right)
        return _OPERATORS[tree.operator](left, right)

    def _typed(self, operator: str, operand: Run, name: str) -> Run:
        asked, types = self.types.named(name), self.types

        def exact(item: Item) -> bool:
            return item[0] == asked or types.datatype(item[0]) == asked

        if operator == "ofType":
            return lambda focus: [item for item in operand(focus) if exact(item)]

        def cast(focus: Focus) -> Collection:
            item = single(operand(focus), "`as`")
            return [item] if item is not None and exact(item) else []

        def test(focus: Focus) -> Collection:
            item = single(operand(focus), "`is`")
            return [] if item is None else boolean(asked in types.kinds(item[0]))

        return cast if operator == "as" else test


def type_name(tree: Node) -> str:
    """The type specifier that an argument spells. FhirPathError if it is none."""
    match tree:
        case Member(This(), name, True):
            return name
        case Member(Member(This(), "System" | "FHIR" as namespace, True), name):
            return f"{namespace}.{name}"
    raise FhirPathError("A type was expected as argument")


def variable(types: Types, name: str) -> Run:
    """The closure of `%name`. FhirPathError when no such variable is defined."""
    match name:
        case "resource":
            return lambda focus: _resource(types, focus.world.environment.resource)
        case "rootResource":
            return lambda focus: _resource(types, focus.world.environment.root)
        case "context":
            return lambda focus: [focus.world.context]
    if name in _CONSTANTS:
        return _constant(string(_CONSTANTS[name]))
    for prefix, base in _PREFIXES.items():
        if name.startswith(prefix):
            return _constant(string(base + name.removeprefix(prefix)))
    raise FhirPathError(f"The variable %{name} is not defined")


def _resource(types: Types, resource: object) -> Collection:
    return [(types.own(resource), resource, None)] if isinstance(resource, dict) else []


def _constant(collection: Collection) -> Run:
    return lambda focus: collection


def variables(tree: Node) -> frozenset[str] | None:
    """The variables that a tree reads: none where it is made of literals alone, None where its
    answer depends on the focus too."""
    if isinstance(tree, This | Index | Total):
        return None
    if isinstance(tree, Call) and tree.name in _CHANGING:
        return None
    found = frozenset((tree.name,)) if isinstance(tree, Variable) else frozenset()
    for each in parts(tree):
        named = variables(each)
        if named is None:
            return None
        found |= named
    return found


# What reaches beyond the resource, so that it may answer otherwise the next time, or tells.
_CHANGING = frozenset({"resolve", "trace"})


def _once(run: Run, contextual: bool) -> Run:
    """`run`, evaluated once in an environment, or where it reads the context, in a world."""

    def once(focus: Focus) -> Collection:
        kept = focus.world.kept if contextual else focus.world.environment.kept
        found = kept.get(run)
        if found is None:
            found = kept[run] = Lasting(run(focus), units(focus.world))
        return found

    return once


_CHARACTERS = 64  # of a text that are visited at the price of an item


_LASTING = 64  # items of what is found once that go for one


def _counted(run: Run) -> Run:
    def counted(focus: Focus) -> Collection:
        found = run(focus)
        price = 1 + (len(found) // _LASTING if type(found) is Lasting else len(found))
        if len(found) == 1 and type(found[0][1]) is str:
            price += len(found[0][1]) // _CHARACTERS
        focus.world.spend(price)
        return found

    return counted


def _index(focus: Focus) -> Collection:
    return [] if focus.index is None else number(focus.index)


def _indexer(target: Run, index: Run) -> Run:
    def run(focus: Focus) -> Collection:
        at = single(index(focus), "An index")
        if at is None:
            return []
        if not isinstance(at[1], int) or isinstance(at[1], bool):
            raise FhirPathError("An index is an integer")
        return target(focus)[at[1] : at[1] + 1] if at[1] >= 0 else []

    return run


def _sign(operator: str, operand: Run) -> Run:
    if operator == "-":
        return lambda focus: arithmetic.negative(operand(focus))
    return operand


def _application(function: Function, target: Run, arguments: list[Run]) -> Run:
    run = function.run
    if function.lazy:
        return lambda focus: run(focus, target(focus), *arguments)
    if not arguments:
        return lambda focus: run(focus, target(focus))
    if len(arguments) == 1:
        argument = arguments[0]
        return lambda focus: run(focus, target(focus), argument(focus))
    return lambda focus: run(focus, target(focus), *[each(focus) for each in arguments])


# --- operators -----------------------------------------------------------------------------------


def _and(left: Run, right: Run) -> Run:
    def run(focus: Focus) -> Collection:
        one = truth(left(focus), "`and`")
        if one is False:
            return boolean(False)
        other = truth(right(focus), "`and`")
        return boolean(False if other is False else None if one is None else other)

    return run


def _or(left: Run, right: Run) -> Run:
    def run(focus: Focus) -> Collection:
        one = truth(left(focus), "`or`")
        if one:
            return boolean(True)
        other = truth(right(focus), "`or`")
        return boolean(True if other else None if one is None else other)

    return run


def _xor(left: Run, right: Run) -> Run:
    def run(focus: Focus) -> Collection:
        one, other = truth(left(focus), "`xor`"), truth(right(focus), "`xor`")
        return [] if one is None or other is None else boolean(one != other)

    return run


def _implies(left: Run, right: Run) -> Run:
    def run(focus: Focus) -> Collection:
        one = truth(left(focus), "`implies`")
        if one is False:
            return boolean(True)
        other = truth(right(focus), "`implies`")
        return boolean(True if other else None if one is None else other)

    return run


def _comparison(operator: str, meets: Callable[[int], bool]) -> Callable[[Run, Run], Run]:
    def build(left: Run, right: Run) -> Run:
        def run(focus: Focus) -> Collection:
            found = order(left(focus), right(focus), operator, focus.world)
            return [] if found is None else boolean(meets(found))

        return run

    return build


def _in(left: Run, right: Run) -> Run:
    def run(focus: Focus) -> Collection:
        item = single(left(focus), "`in`")
        return [] if item is None else boolean(within(item, right(focus), focus.world))

    return run


def _calculation(operator: str) -> Callable[[Run, Run], Run]:
    def build(left: Run, right: Run) -> Run:
        def run(focus: Focus) -> Collection:
            return arithmetic.calculate(operator, left(focus), right(focus), focus.world)

        return run

    return build


def _equality(left: Run, right: Run) -> Run:
    return lambda focus: boolean(equal(left(focus), right(focus), focus.world))


def _inequality(left: Run, right: Run) -> Run:
    def run(focus: Focus) -> Collection:
        found = equal(left(focus), right(focus), focus.world)
        return [] if found is None else boolean(not found)

    return run


def _equivalence(wanted: bool) -> Callable[[Run, Run], Run]:
    def build(left: Run, right: Run) -> Run:
        def run(focus: Focus) -> Collection:
            found = equivalent(left(focus), right(focus), focus.world)
            return boolean(found is wanted)

        return run

    return build


_OPERATORS: dict[str, Callable[[Run, Run], Run]] = {
    "and": _and,
    "or": _or,
    "xor": _xor,
    "implies": _implies,
    "=": _equality,
    "!=": _inequality,
    "~": _equivalence(True),
    "!~": _equivalence(False),
    "<": _comparison("<", lambda found: found < 0),
    ">": _comparison(">", lambda found: found > 0),
    "<=": _comparison("<=", lambda found: found <= 0),
    ">=": _comparison(">=", lambda found: found >= 0),
    "in": _in,
    "contains": lambda left, right: _in(right, left),
    "|": lambda left, right: lambda focus: distinct(left(focus) + right(focus), focus.world),
    **{operator: _calculation(operator) for operator in ("+", "-", "&", "*", "/", "div", "mod")},
}
