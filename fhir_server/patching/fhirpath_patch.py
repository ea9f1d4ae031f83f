"""FHIRPath Patch: Parameters whose operations name elements by FHIRPath.

https://hl7.org/fhir/R4/fhirpatch.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from conformance.definitions import Definitions
from conformance.fhirpath import Allowance, Environment, FhirPathError, compile_expression
from conformance.fhirpath.items import Collection, Item
from conformance.fhirpath.parser import parse
from conformance.fhirpath.syntax import Member, This
from conformance.fhirpath.types import Step, Types, types_of
from conformance.outcome import FhirError
from conformance.patience import look, within
from fhir_server.core import Core
from fhir_server.interaction import Resource
from fhir_server.patching.blind import is_certain
from fhir_server.patching.tree import Node, Place, Tree, Value

_EXPRESSION = "Parameters.parameter"
# What each operation takes besides its type and path.
_TAKES: Mapping[str, frozenset[str]] = {
    "add": frozenset({"name", "value"}),
    "insert": frozenset({"index", "value"}),
    "delete": frozenset(),
    "replace": frozenset({"value"}),
    "move": frozenset({"source", "destination"}),
}
_NUMBERS = frozenset({"index", "source", "destination"})
_BUDGET = 250_000  # items that the paths of a patch may visit and make: others wait meanwhile
_SECONDS = 0.5  # that the operations of a patch may take together
_MISFIT = "An element cannot have a value of this type"
_PAST = "An index of the patch lies outside of the list"


class Operation(NamedTuple):
    """One operation. `value`: the part of the Parameters that holds it."""

    type: str
    path: str
    name: str = ""
    value: Mapping[str, Any] | None = None
    position: int = 0
    source: int = 0
    destination: int = 0


@dataclass(frozen=True, slots=True)
class FhirPathPatch:
    """The operations on a resource of a type, in order."""

    definitions: Definitions
    type: str
    operations: tuple[Operation, ...]

    @property
    def tests(self) -> bool:
        """Whether what the resource says may decide if some operation succeeds, so that the status
        of the answer tells it."""
        return any(
            each.type != "replace"
            or not is_certain(self.definitions, self.type, _element(self.type, each.path))
            for each in self.operations
        )

    def applied(self, resource: Resource) -> Resource:
        """The patched resource; the one given stays as it is. FhirError 400, 413, 422."""
        return within(_SECONDS, partial(self._applied, resource))

    def _applied(self, resource: Resource) -> Resource:
        tree = Tree(resource)
        types = types_of(self.definitions)
        budget = Allowance(_BUDGET)
        for number, each in enumerate(self.operations):
            try:
                look()
                found = self._selected(tree, each.path, budget)
                _PERFORM[each.type](types, tree, each, found)
            except FhirPathError as error:
                text = f"The path of an operation cannot be evaluated: {error}"
                raise FhirError("invalid", text, _at(number)) from error
            except FhirError as error:
                issue = error.issues[0]
                raise FhirError(issue.code, issue.text, _at(number), status=error.status) from error
        return tree.resource

    def _selected(self, tree: Tree, path: str, budget: Allowance) -> Collection:
        run = compile_expression(path, self.type, self.definitions, budget=budget)
        return run(tree.root, Environment(tree.root, tree.root))


def _at(number: int) -> str:
    return f"{_EXPRESSION}[{number}]"


# --- reading -------------------------------------------------------------------------------------


def read(core: Core, type: str, sent: Resource, most: int) -> FhirPathPatch:
    """The patch of a resource of a type that Parameters are. FhirError 400, 413, 422."""
    if sent.get("resourceType") != "Parameters":
        raise FhirError("invalid", "A FHIRPath Patch is sent as Parameters", status=400)
    issues = core.validator.validate(sent, core.limits.issues)
    if any(each.severity in ("error", "fatal") for each in issues):
        raise FhirError("invalid", "The Parameters are not valid", status=400, issues=issues)
    given = sent.get("parameter", [])
    if len(given) > most:
        raise FhirError("too-costly", f"At most {most} operations in a patch")
    operations = tuple(_operation(each, number) for number, each in enumerate(given))
    for number, each in enumerate(operations):
        try:
            compile_expression(each.path, type, core.definitions)
        except FhirPathError as error:
            raise _malformed(f"The path of an operation cannot be read: {error}", number) from error
    return FhirPathPatch(core.definitions, type, operations)


def _operation(parameter: Mapping[str, Any], number: int) -> Operation:
    if parameter["name"] != "operation":
        raise _malformed("Each parameter of a FHIRPath Patch is named operation", number)
    parts: dict[str, Mapping[str, Any]] = {}
    for part in parameter.get("part", ()):
        if part["name"] in parts:
            raise _malformed("An operation has each of its parts once", number)
        parts[part["name"]] = part
    type, path = _text(parts.get("type")), _text(parts.get("path"))
    if type is None or type not in _TAKES:
        raise _malformed(f"The type of an operation is one of {', '.join(_TAKES)}", number)
    if path is None or parts.keys() != _TAKES[type] | {"type", "path"}:
        takes = ", ".join(("type", "path", *sorted(_TAKES[type])))
        raise _malformed(f"An operation of type {type} has the parts {takes}", number)
    numbers = {name: parts[name].get("valueInteger") for name in _NUMBERS & parts.keys()}
    if any(each is None or each < 0 for each in numbers.values()):
        raise _malformed("Indexes are integers from 0", number)
    name = _text(parts.get("name"))
    if name is None and "name" in parts:
        raise _malformed("The name of what is added is a string", number)
    at = [numbers.get(each) or 0 for each in ("index", "source", "destination")]
    return Operation(type, path, name or "", parts.get("value"), *at)


def _text(part: Mapping[str, Any] | None) -> str | None:
    found = None if part is None else part.get("valueString") or part.get("valueCode")
    return found if isinstance(found, str) else None


def _malformed(text: str, number: int) -> FhirError:
    return FhirError("invalid", text, _at(number), status=400)


def _element(type: str, path: str) -> str:
    """The element of a resource that a path names without asking anything; "" for any other."""
    match parse(path):
        case Member(This(), name):
            return name
        case Member(Member(This(), first), name) if first == type:
            return name
    return ""


# --- performing ----------------------------------------------------------------------------------


def _add(types: Types, tree: Tree, operation: Operation, found: Collection) -> None:
    item = _only(found)
    node = tree.node(item)
    if node is None:
        raise _misplaced()
    step, value = _value(types, item[0], operation.name, operation.value or {})
    if not step.many and _present(types, item[0], operation.name, node):
        raise FhirError("processing", "What an operation adds is there already", status=422)
    tree.insert(node, step.key, value, step.many)


def _insert(types: Types, tree: Tree, operation: Operation, found: Collection) -> None:
    place, count = _list(tree, found)
    if operation.position > count:
        raise FhirError("processing", _PAST, status=422)
    step, value = _value_at(types, tree, place, operation.value or {})
    tree.insert(place.parent, step.key, value, many=True, at=operation.position)


def _delete(types: Types, tree: Tree, operation: Operation, found: Collection) -> None:
    if found:
        tree.remove(_place(tree, _only(found)))


def _replace(types: Types, tree: Tree, operation: Operation, found: Collection) -> None:
    place = _place(tree, _only(found))
    step, value = _value_at(types, tree, place, operation.value or {})
    if place.at is None:
        for name in (place.key, f"_{place.key}"):
            place.parent.pop(name, None)
    else:
        for name in (place.key, f"_{place.key}"):
            if name in place.parent:
                del place.parent[name][place.at]
    tree.insert(place.parent, step.key, value, place.at is not None, place.at)


def _move(types: Types, tree: Tree, operation: Operation, found: Collection) -> None:
    place, count = _list(tree, found)
    if operation.source >= count or operation.destination >= count:
        raise FhirError("processing", _PAST, status=422)
    tree.move(place.parent, place.key, operation.source, operation.destination)


_Perform = Callable[[Types, Tree, Operation, Collection], None]
_PERFORM: Mapping[str, _Perform] = {
    "add": _add,
    "insert": _insert,
    "delete": _delete,
    "replace": _replace,
    "move": _move,
}


def _only(found: Collection) -> Item:
    if len(found) != 1:
        text = "The path of an operation must lead to one element, and it leads to {}"
        raise FhirError("processing", text.format("several" if found else "none"), status=422)
    return found[0]


def _misplaced() -> FhirError:
    text = "The path of an operation must lead to elements of the resource"
    return FhirError("processing", text, status=422)


def _place(tree: Tree, item: Item) -> Place:
    place = tree.place(item)
    if place is None:
        raise _misplaced()
    return place


def _list(tree: Tree, found: Collection) -> tuple[Place, int]:
    """The whole list that a path leads to: where its first element is, and how many it has."""
    places = [_place(tree, each) for each in found]
    if not places:
        raise FhirError("processing", "The list of an operation is not there", status=422)
    first = places[0]
    if first.at is None or [each.at for each in places] != list(range(len(places))):
        raise FhirError("processing", "The path must lead to a whole list", status=422)
    if any(each.parent is not first.parent or each.key != first.key for each in places):
        raise FhirError("processing", "The path must lead to one list alone", status=422)
    if len(first.parent[first.key]) != len(places):
        raise FhirError("processing", "The path must lead to a whole list", status=422)
    return first, len(places)


# --- values --------------------------------------------------------------------------------------


def _value(types: Types, type: str, name: str, part: Mapping[str, Any]) -> tuple[Step, Value]:
    """The member that a value becomes, by the name of the element, and its JSON. FhirError 422."""
    steps = types.steps(type, name)
    if not steps:
        raise FhirError("processing", "An operation names an element that there is not", status=422)
    if "resource" in part:
        if not types.resource(steps[0].type):
            raise FhirError("processing", _MISFIT, status=422)
        return steps[0], Value(part["resource"])
    typed = next((key for key in part if key.startswith("value")), None)
    beside = next((part[key] for key in part if key.startswith("_value")), None)
    if typed is None and beside is not None:
        typed = next(key[1:] for key in part if key.startswith("_value"))
    if typed is not None:
        step = _fitting(steps, name, typed)
        if step.primitive is isinstance(part.get(typed), dict) or types.resource(step.type):
            raise FhirError("processing", _MISFIT, status=422)
        return step, Value(part.get(typed), beside)
    if len(steps) != 1:
        raise FhirError("processing", "The value of a choice needs a type", status=422)
    if steps[0].primitive or types.resource(steps[0].type):
        raise FhirError("processing", _MISFIT, status=422)
    return steps[0], Value(_parts(types, steps[0].type, part.get("part", ())))


def _fitting(steps: tuple[Step, ...], name: str, typed: str) -> Step:
    """Of the members of a choice, the one that a `value[x]` fills."""
    if len(steps) == 1:
        return steps[0]
    key = name + typed.removeprefix("value")
    for step in steps:
        if step.key == key:
            return step
    raise FhirError("processing", _MISFIT, status=422)


def _parts(types: Types, type: str, parts: Any) -> Node:
    """The object that nested parts describe."""
    made: Node = {}
    for part in parts:
        step, value = _value(types, type, part["name"], part)
        members = {step.key: value.json, f"_{step.key}": value.side}
        for key, each in members.items():
            if step.many and (each is not None or value.side is not None):
                made.setdefault(key, []).append(each)
            elif each is not None:
                made[key] = each
    return made


def _value_at(
    types: Types, tree: Tree, place: Place, part: Mapping[str, Any]
) -> tuple[Step, Value]:
    """A value for where another is."""
    type = _type(types, tree, place.parent)
    element = types.members(type)[place.key].path
    return _value(types, type, element.rpartition(".")[2].removesuffix("[x]"), part)


def _type(types: Types, tree: Tree, node: Node) -> str:
    """The type of an object of the resource."""
    home = tree.home(node)
    if home is None:
        return types.own(node)
    step = types.members(_type(types, tree, home.parent))[home.key]
    return types.own(node) if types.resource(step.type) else step.type


def _present(types: Types, type: str, name: str, node: Node) -> bool:
    """Whether an element is there, whatever its type."""
    return any(key in node for each in types.steps(type, name) for key in _keys(each))


def _keys(step: Step) -> Iterator[str]:
    yield step.key
    yield f"_{step.key}"
