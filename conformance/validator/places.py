"""Where in a resource something was found: the FHIRPath expression of each object and array that
broke a rule, told by a second walk.

https://hl7.org/fhir/R4/operationoutcome-definitions.html#OperationOutcome.issue.expression
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from conformance.outcome import Issue
from conformance.validator.nodes import Node, Nodes
from conformance.validator.rules import Found

Holder: TypeAlias = dict[str, Any] | list[Any]


def issues(resource: dict[str, Any], found: Iterable[Found], nodes: Nodes) -> list[Issue]:
    """What was found, as issues."""
    places = Places(resource, nodes)
    return [places.issue(each) for each in found]


class Places:
    """The expressions of a resource's objects and arrays by identity. The walk begins when
    something is asked for that is not the resource itself, and goes no further than to that; it
    notes only what holds what, and a text is made of what is asked for."""

    __slots__ = ("_around", "_known", "_nodes", "_resource", "_type", "_waiting")

    def __init__(self, resource: dict[str, Any], nodes: Nodes) -> None:
        self._resource = resource
        self._nodes = nodes
        self._type = str(resource["resourceType"])
        # Per object or array: what holds it, and under which property or index.
        self._around: dict[int, tuple[Holder, str | int]] = {}
        # Per object or array that was told: its expression and, where it has one, its node.
        self._known: dict[int, tuple[str, Node | None]] = {}
        self._waiting: list[Holder] = []  # whose members were not yet looked at

    def issue(self, found: Found) -> Issue:
        """What was found, with its place."""
        holder, at, rule = found
        return Issue(rule.severity, rule.code, rule.text, self.expression(holder, at), rule.key)

    def expression(self, holder: Holder, at: str | int | None) -> str:
        """The FHIRPath expression of an object or array, or of a member of it."""
        if at is None and holder is self._resource:
            return self._type
        path, node = self._told(holder)
        if at is None:
            return path
        return f"{path}[{at}]" if isinstance(at, int) else f"{path}.{_name(node, at)[0]}"

    def _told(self, holder: Holder) -> tuple[str, Node | None]:
        """The expression and the node of what holds something; those of the resource itself for
        what is not in it."""
        if not self._known:
            self._known[id(self._resource)] = self._type, self._nodes.node(self._type)
            self._waiting.append(self._resource)
        steps: list[tuple[Holder, str | int]] = []
        known = self._known.get(id(holder))
        while known is None:
            above = self._around.get(id(holder)) or self._walk(id(holder))
            if above is None:
                return self._type, None
            steps.append((holder, above[1]))
            holder = above[0]
            known = self._known.get(id(holder))
        path, node = known
        for inner, at in reversed(steps):
            path, node = self._step(path, node, inner, at)
            self._known[id(inner)] = path, node
        return path, node

    def _walk(self, wanted: int) -> tuple[Holder, str | int] | None:
        """What holds an object or array, from where the walk was left; None when nothing does."""
        around, waiting = self._around, self._waiting
        while waiting:
            holder = waiting.pop()
            inner: list[Holder] = []
            members: Iterable[tuple[str | int, Any]] = (
                holder.items() if type(holder) is dict else enumerate(holder)
            )
            for at, item in members:
                kind = type(item)
                if kind is dict or kind is list:
                    around[id(item)] = holder, at
                    inner.append(item)
            waiting += reversed(inner)
            if wanted in around:
                return around[wanted]
        return None

    def _step(
        self, path: str, node: Node | None, inner: Holder, at: str | int
    ) -> tuple[str, Node | None]:
        if isinstance(at, int):
            path = f"{path}[{at}]"
        else:
            name, node = _name(node, at)
            path = f"{path}.{name}"
        if node is None and type(inner) is dict:
            type_ = inner.get("resourceType")
            if type(type_) is str and type_ in self._nodes.types:
                node = self._nodes.node(type_)
        return path, node


def _name(node: Node | None, key: str) -> tuple[str, Node | None]:
    """A property by the name that FHIRPath knows: `value` for valueQuantity, `birthDate` for
    _birthDate; and the node of its objects."""
    part = (node.parts or node.compile().parts).get(key) if node is not None else None
    return (key.lstrip("_"), None) if part is None else (part.name, part.node)
