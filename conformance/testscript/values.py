"""What is read out of a resource: by FHIRPath, by the simple XPath that scripts of R4 use on FHIR's
XML, and by simple JSONPath. All three work on the resource as JSON.

https://hl7.org/fhir/R4/testscript.html#variable
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from conformance.definitions import load
from conformance.fhirpath import Environment, FhirPathError, evaluate
from conformance.json import encode
from conformance.testscript.message import ActionError

_COUNT = re.compile(r"count\((.+)\)")
_STEP = re.compile(r"(//?)((?:[\w.:*@-]+|\.))((?:\[[^\]]*\])*)")
_PREDICATE = re.compile(r"\[([^\]]*)\]")
_EQUALS = re.compile(r"\s*([\w:@/.-]+)\s*=\s*(['\"])(.*)\2\s*")
_JSON_STEP = re.compile(r"(\.\.?)([\w*-]+)|\[(\d+|\*)\]|\[(['\"])(.*?)\4\]")
_MOST = 100_000  # values that a path may pass by


def by_expression(expression: str, resource: Mapping[str, Any]) -> list[Any]:
    """The values that a FHIRPath expression yields on a resource, as its JSON has them.
    ActionError."""
    try:
        found = evaluate(
            expression, resource, _type(resource), load(), Environment(resource, resource)
        )
    except FhirPathError as error:
        raise ActionError(f"The expression cannot be evaluated: {error}") from None
    return [value for _, value, _ in found if value is not None]


def by_path(path: str, resource: Mapping[str, Any]) -> list[Any]:
    """The values at an XPath or JSONPath; what is neither is taken for FHIRPath. ActionError."""
    path = path.strip()
    if counted := _COUNT.fullmatch(path):
        return [len(by_path(counted[1], resource))]
    if path.startswith("$"):
        return _by_json_path(path, resource)
    if "/" in path or "fhir:" in path:
        return _by_xpath(path, resource)
    return by_expression(path, resource)


def text(value: Any) -> str:
    """A value as scripts write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | Decimal):
        return str(value)
    if isinstance(value, dict | list):
        return encode(value).decode()
    return str(value)


def _type(resource: Mapping[str, Any]) -> str:
    name = resource.get("resourceType")
    return name if name in load().types else "Resource"


# --- XPath ---------------------------------------------------------------------------------------


def _by_xpath(path: str, resource: Mapping[str, Any]) -> list[Any]:
    """Steps of names, `//`, `*`, `.`, positions, and tests like [fhir:use/@value='home']."""
    if not path.startswith("/"):
        path = f"/{path}"
    nodes: list[Any] = [{resource["resourceType"]: resource}]
    end = 0
    for step in _STEP.finditer(path):
        if step.start() != end:
            break
        end = step.end()
        name = _name(step[2])
        nodes = list(_walk(nodes, name, step[1] == "//"))
        for predicate in _PREDICATE.findall(step[3]):
            nodes = _kept(nodes, predicate)
    if end != len(path):
        raise ActionError(
            f"The path {path[:200]} is more than the simple XPath that is understood here: write "
            "it as `expression`"
        )
    return nodes


def _name(step: str) -> str:
    return ("@" if step.startswith("@") else "") + step.lstrip("@").rpartition(":")[2]


def _walk(nodes: Sequence[Any], name: str, deep: bool) -> Iterator[Any]:
    for node in _all(nodes) if deep else nodes:
        if name in (".", "@value"):
            yield node
        elif name == "*":
            yield from _children(node)
        elif isinstance(node, dict):
            if node.get("resourceType") == name:  # a resource stands in an element of its name
                yield node
                continue
            found = node.get(name.removeprefix("@"))
            if isinstance(found, list):
                yield from (each for each in found if each is not None)
            elif found is not None:
                yield found


def _children(node: Any) -> Iterator[Any]:
    for value in (
        node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    ):
        yield from (value if isinstance(value, list) else (value,))


def _all(nodes: Sequence[Any]) -> Iterator[Any]:
    """The nodes and all below them, bounded."""
    waiting, seen = list(nodes)[::-1], 0
    while waiting and seen < _MOST:
        node = waiting.pop()
        seen += 1
        yield node
        waiting.extend(list(_children(node))[::-1])


def _kept(nodes: Sequence[Any], predicate: str) -> list[Any]:
    if predicate.strip().isdecimal():
        position = int(predicate)
        return list(nodes[position - 1 : position]) if position else []
    found = _EQUALS.fullmatch(predicate)
    if found is None:
        raise ActionError(f"The test [{predicate[:100]}] of a path is not understood here")
    steps, wanted = [_name(each) for each in found[1].split("/")], found[3]

    def holds(node: Any) -> bool:
        here = [node]
        for step in steps:
            here = list(_walk(here, step, deep=False))
        return any(text(each) == wanted for each in here)

    return [each for each in nodes if holds(each)]


# --- JSONPath ------------------------------------------------------------------------------------


def _by_json_path(path: str, resource: Mapping[str, Any]) -> list[Any]:
    """`$` with .name, ..name, [n], [*] and ['name']."""
    nodes: list[Any] = [resource]
    end = 1
    for step in _JSON_STEP.finditer(path, 1):
        if step.start() != end:
            break
        end = step.end()
        nodes = list(_json_step(nodes, step))
    if end != len(path):
        raise ActionError(f"The JSONPath {path[:200]} is more than what is understood here")
    flat: list[Any] = []
    for each in nodes:
        flat.extend(each if isinstance(each, list) else [each])
    return [each for each in flat if each is not None]


def _json_step(nodes: Sequence[Any], step: re.Match[str]) -> Iterator[Any]:
    if step[3] is not None:
        yield from _items(nodes, step[3])
        return
    name = step[2] if step[2] is not None else step[5]
    take: Callable[[Any], Iterator[Any]] = _children if name == "*" else lambda n: _member(n, name)
    for node in _all(nodes) if step[1] == ".." else nodes:
        yield from take(node)


def _member(node: Any, name: str) -> Iterator[Any]:
    for each in node if isinstance(node, list) else (node,):
        if isinstance(each, dict) and name in each:
            yield each[name]


def _items(nodes: Sequence[Any], position: str) -> Iterator[Any]:
    for node in nodes:
        items = node if isinstance(node, list) else [node]
        yield from items if position == "*" else items[int(position) : int(position) + 1]
