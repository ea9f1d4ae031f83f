"""Where in a resource something was found: the FHIRPath expression of each object and array that
broke a rule, told by a second walk.

https://hl7.org/fhir/R4/operationoutcome-definitions.html#OperationOutcome.issue.expression
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from conformance.outcome import Issue
from conformance.validator.nodes import Node, Nodes
from conformance.validator.rules import Found


def issues(resource: dict[str, Any], found: Iterable[Found], nodes: Nodes) -> list[Issue]:
    """What was found, as issues."""
    places = Places(resource, nodes)
    return [places.issue(each) for each in found]


class Places:
    """The expressions of a resource's objects and arrays by identity. The walk is put off until
    something is asked for that is not the resource itself."""

    def __init__(self, resource: dict[str, Any], nodes: Nodes) -> None:
        self._resource = resource
        self._nodes = nodes
        self._type = str(resource["resourceType"])
        # Per object or array: its expression and, where it has one, its node.
        self._known: dict[int, tuple[str, Node | None]] = {}

    def issue(self, found: Found) -> Issue:
        """What was found, with its place."""
        holder, at, rule = found
        return Issue(rule.severity, rule.code, rule.text, self.expression(holder, at), rule.key)

    def expression(self, holder: dict[str, Any] | list[Any], at: str | int | None) -> str:
        """The FHIRPath expression of an object or array, or of a member of it."""
        if at is None and holder is self._resource:
            return self._type
        if not self._known:
            self._walk(self._resource, self._type, self._nodes.node(self._type))
        path, node = self._known.get(id(holder), (self._type, None))
        if at is None:
            return path
        return f"{path}[{at}]" if isinstance(at, int) else f"{path}.{_name(node, at)}"

    def _walk(self, value: Any, path: str, node: Node | None) -> None:
        if type(value) is list:
            self._known[id(value)] = (path, node)
            for index, item in enumerate(value):
                self._walk(item, f"{path}[{index}]", node)
        elif type(value) is dict:
            type_ = value.get("resourceType") if node is None else None
            if type(type_) is str and type_ in self._nodes.types:
                node = self._nodes.node(type_)
            self._known[id(value)] = (path, node)
            for key, item in value.items():
                if type(item) is dict or type(item) is list:
                    part = node.compile().parts.get(key) if node else None
                    self._walk(item, f"{path}.{_name(node, key)}", part.node if part else None)


def _name(node: Node | None, key: str) -> str:
    """A property by the name that FHIRPath knows: `value` for valueQuantity, `birthDate` for
    _birthDate."""
    part = node.compile().parts.get(key) if node else None
    return part.name if part else key.lstrip("_")
