"""Simple paths under a known type, as closures over plain JSON: where a name leads is settled when
the expression is compiled, so nothing is looked up when it runs.

https://hl7.org/fhir/R4/fhirpath.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from conformance.fhirpath.syntax import Member, Node, This
from conformance.fhirpath.types import SYSTEM, Step, Types

# The steps of a path; only the last may be a choice of several members.
Path: TypeAlias = tuple[tuple[Step, ...], ...]
Present: TypeAlias = Callable[[Any], bool]


def path_of(types: Types, tree: Node, type: str) -> Path | None:
    """The path that a chain of names from $this means under `type`; None when it is no such chain,
    or goes through a choice, a primitive or a contained resource."""
    names = _names(types, tree, type)
    path = _settled(types, names or (), type)
    return path if names is not None and len(path) == len(names) else None


def approach(types: Types, tree: Node, type: str) -> Path:
    """As much of a path as is known before it meets a contained resource: where this leads to
    nothing, the whole path does. Empty when there is nothing to go by."""
    names = _names(types, tree, type)
    return _settled(types, names or (), type)


def _settled(types: Types, names: Sequence[str], type: str) -> Path:
    path: list[tuple[Step, ...]] = []
    for name in names:
        if (path and len(path[-1]) != 1) or type in SYSTEM:
            break
        # Of a contained resource only what every resource has is known.
        steps = types.steps("Resource" if types.resource(type) else type, name)
        if not steps:
            break
        path.append(steps)
        type = steps[0].type
    return tuple(path)


def _names(types: Types, tree: Node, type: str) -> list[str] | None:
    names: list[str] = []
    while isinstance(tree, Member):
        if tree.first and tree.name in types.kinds(type):
            return names[::-1]
        names.append(tree.name)
        tree = tree.target
    return names[::-1] if isinstance(tree, This) else None


def present(path: Path) -> Present:
    """Whether a path of at least one step leads to something; a primitive that has only an
    extension is something."""
    rest = present(path[1:]) if len(path) > 1 else None
    if rest is None:
        return _last(path[0])
    step = path[0][0]
    return _some(step.key, rest) if step.many else _through(step.key, rest)


def nodes(path: Path) -> Callable[[Any], list[Any]]:
    """The JSON objects that a path leads to. All its steps are complex and of one type."""
    step = path[0][0]
    if len(path) == 1:
        return _list(step.key) if step.many else _only(step.key)
    rest = nodes(path[1:])
    here = nodes(path[:1])
    return lambda node: [found for each in here(node) for found in rest(each)]


def text(path: Path) -> Callable[[Any], str | None] | None:
    """The string that a path leads to; None unless all its steps are single."""
    last = path[-1][0]
    if SYSTEM.get(last.type) != "System.String":
        return None
    if any(len(steps) != 1 or steps[0].many for steps in path):
        return None
    keys = [steps[0].key for steps in path]
    if len(keys) == 1:
        key = keys[0]
        return lambda node: node.get(key)
    return _deep(keys)


def _deep(keys: list[str]) -> Callable[[Any], str | None]:
    def run(node: Any) -> Any:
        for key in keys:
            if node is None:
                return None
            node = node.get(key)
        return node

    return run


def _last(steps: tuple[Step, ...]) -> Present:
    keys = tuple(key for step in steps for key in _keys(step))
    if len(keys) == 1:
        key = keys[0]
        if steps[0].many:
            return lambda node: bool(node.get(key))
        return lambda node: node.get(key) is not None
    if len(keys) == 2:
        one, other = keys
        return lambda node: node.get(one) is not None or node.get(other) is not None

    def any_key(node: Any) -> bool:
        for key in keys:  # noqa: SIM110 - a loop costs half of any() here
            if node.get(key) is not None:
                return True
        return False

    return any_key


def _keys(step: Step) -> tuple[str, ...]:
    return (step.key, f"_{step.key}") if step.primitive else (step.key,)


def _through(key: str, rest: Present) -> Present:
    def run(node: Any) -> bool:
        value = node.get(key)
        return value is not None and rest(value)

    return run


def _some(key: str, rest: Present) -> Present:
    def run(node: Any) -> bool:
        for each in node.get(key, ()):  # noqa: SIM110 - a loop costs half of any() here
            if rest(each):
                return True
        return False

    return run


def _list(key: str) -> Callable[[Any], list[Any]]:
    return lambda node: node.get(key, [])


def _only(key: str) -> Callable[[Any], list[Any]]:
    def run(node: Any) -> list[Any]:
        value = node.get(key)
        return [] if value is None else [value]

    return run
