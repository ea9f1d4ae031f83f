"""A resource in which the place of every element is known, so that what an expression selects can
be changed where it is.

https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from conformance.fhirpath.items import Item

Node = dict[str, Any]


class Place(NamedTuple):
    """Where an element is: a member of an object, and in it the position, if it is a list."""

    parent: Node
    key: str
    at: int | None = None

    @property
    def value(self) -> Any:
        """What is there; of a primitive None where only its extensions are."""
        here = self.parent.get(self.key)
        return here if self.at is None or here is None else here[self.at]


class Value(NamedTuple):
    """What is put in: the JSON, and of a primitive the object beside it."""

    json: Any
    side: Node | None = None


class Tree:
    """A copy of a resource. Every primitive has an object beside it (its `_name`), made where there
    was none, so that an item is known by an object of its own; `resource` is the copy without
    what is empty."""

    def __init__(self, resource: Node) -> None:
        self._homes: dict[int, Place] = {}
        self._held: list[Node] = []  # so that no other object gets the identity of a removed one
        self.root = self._object(resource)

    @property
    def resource(self) -> Node:
        """The resource as JSON."""
        made: Node = _plain(self.root)
        return made

    def place(self, item: Item) -> Place | None:
        """Where an item is; None when it is no element of this resource, or its root."""
        node = item[1] if isinstance(item[1], dict) else item[2]
        return None if node is None else self._place(node)

    def _place(self, node: Mapping[str, Any]) -> Place | None:
        home = self.home(node)
        if home is None:
            return None
        for name in (home.key, _side(home.key)):
            here = home.parent.get(name)
            if here is node:
                return home
            for at, each in enumerate(here if isinstance(here, list) else ()):
                if each is node:
                    return home._replace(at=at)
        return None

    def home(self, node: Mapping[str, Any]) -> Place | None:
        """The member that an object is in, or is beside; None for the root, and what is none of
        this resource's."""
        return self._homes.get(id(node))

    def node(self, item: Item) -> Node | None:
        """The object that takes what is added to an item; None when it is not of this resource."""
        node = item[1] if isinstance(item[1], dict) else item[2]
        if isinstance(node, dict) and (node is self.root or id(node) in self._homes):
            return node
        return None

    def insert(
        self, parent: Node, key: str, value: Value, many: bool, at: int | None = None
    ) -> None:
        """Put a value in a member: at a position of its list, or at its end, or alone."""
        made = {key: self._value(parent, key, value.json)}
        if not isinstance(value.json, dict):
            made[_side(key)] = self._beside(parent, key, value.side)
        for name, part in made.items():
            if many:
                parts = parent.setdefault(name, [])
                parts.insert(len(parts) if at is None else at, part)
            else:
                parent[name] = part

    def remove(self, place: Place) -> None:
        """Take an element away, and what is empty without it."""
        parent, key, at = place
        for name in (key, _side(key)):
            if name not in parent:
                continue
            if at is not None:
                del parent[name][at]
            if at is None or not parent[name]:
                del parent[name]
        above = None if parent else self._place(parent)
        if above is not None and (above.value is None or above.value is parent):
            self.remove(above)

    def move(self, parent: Node, key: str, source: int, destination: int) -> None:
        """Put an element of a list to another position."""
        for name in (key, _side(key)):
            if name in parent:
                parent[name].insert(destination, parent[name].pop(source))

    def _object(self, node: Node) -> Node:
        made: Node = {}
        for key, value in node.items():
            if key[:1] == "_":
                continue
            made[key] = self._member(made, key, value)
            if key != "resourceType" and not _complex(value):
                made[_side(key)] = self._sides(made, key, value, node.get(_side(key)))
        for key, value in node.items():
            if key[:1] == "_" and key[1:] not in node:
                made[key] = self._sides(made, key[1:], None, value)
                if isinstance(value, list):
                    made[key[1:]] = [None] * len(value)
        return made

    def _member(self, parent: Node, key: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(parent, key, each) for each in value]
        return self._value(parent, key, value)

    def _value(self, parent: Node, key: str, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        made = self._object(value)
        return self._at_home(made, parent, key)

    def _sides(self, parent: Node, key: str, value: Any, side: Any) -> Any:
        if not isinstance(value, list) and not isinstance(side, list):
            return self._beside(parent, key, side)
        sides = side if isinstance(side, list) else []
        length = max(len(value or ()), len(sides))
        each = [*sides, *(None,) * (length - len(sides))]
        return [self._beside(parent, key, one) for one in each]

    def _beside(self, parent: Node, key: str, side: Any) -> Node:
        made = self._object(side) if isinstance(side, dict) else {}
        return self._at_home(made, parent, key)

    def _at_home(self, made: Node, parent: Node, key: str) -> Node:
        self._homes[id(made)] = Place(parent, key)
        self._held.append(made)
        return made


def _side(key: str) -> str:
    return f"_{key}"


def _complex(value: Any) -> bool:
    first = next((e for e in value if e is not None), None) if isinstance(value, list) else value
    return isinstance(first, dict)


def _plain(value: Any) -> Any:
    """The JSON without the empty objects beside primitives."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    made: Node = {}
    for key, each in value.items():
        shown = _plain(each)
        if key[:1] == "_":
            shown = [one or None for one in shown] if isinstance(shown, list) else shown
            if not (any(shown) if isinstance(shown, list) else shown):
                continue
        elif shown is None or (isinstance(shown, list) and all(one is None for one in shown)):
            continue  # only what is beside it is there
        made[key] = shown
    return made
