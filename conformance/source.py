"""Where in the text of a JSON document an expression points: line and column.

https://www.rfc-editor.org/rfc/rfc8259, https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r'\s*(?:(?P<mark>[{}\[\],:])|(?P<text>"(?:[^"\\]|\\.)*")|(?P<bare>[^\s{}\[\],:"]+))'
)
_STEP = re.compile(r"([A-Za-z]\w*)((?:\[\d+\])*)")
_INDEX = re.compile(r"\d+")
_DEEPEST = 256  # objects and arrays in each other


class Place(NamedTuple):
    """A position, both counted from 1."""

    line: int
    column: int


class Node:
    """A value of a document and where it begins; a member's value is where its name is."""

    __slots__ = ("items", "members", "offset")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.members: dict[str, Node] = {}
        self.items: list[Node] = []


class Source:
    """The text of a document. What is no JSON ends its tree where it stops being so: whoever needs
    to know reads it by `conformance.json.parse`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.splitlines() or [""]
        self._starts = _starts(text)
        self._root = _tree(text)

    def place(self, expression: str | None) -> Place:
        """Where the element of an expression is, or the nearest around it that is there."""
        return self._position(self._find(expression or "").offset)

    def member(self, expression: str | None, name: str) -> Place:
        """Where a member of that element is by its very name, though no definition has it."""
        node = self._find(expression or "")
        return self._position(node.members.get(name, node).offset)

    def _position(self, offset: int) -> Place:
        low, high = 0, len(self._starts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._starts[middle] <= offset else (low, middle)
        return Place(low + 1, offset - self._starts[low] + 1)

    def _find(self, expression: str) -> Node:
        node = self._root
        _, _, rest = expression.partition(".")
        for step in rest.split(".") if rest else ():
            found = _STEP.fullmatch(step)
            child = _member(node, found[1]) if found else None
            if found is None or child is None:
                return node
            node = child
            for index in _INDEX.findall(found[2]):
                if int(index) >= len(node.items):
                    return node
                node = node.items[int(index)]
        return node


def _member(node: Node, name: str) -> Node | None:
    """A member by the name that FHIRPath knows: `value` is valueQuantity; the extensions of a
    primitive are in its partner."""
    own = node.members
    partner = own.get(f"_{name}")
    if name in own:
        if partner is not None and not own[name].members:
            # An object beside the primitive: what follows can only be in there.
            joined = Node(own[name].offset)
            joined.members, joined.items = partner.members, own[name].items or partner.items
            return joined
        return own[name]
    if partner is not None:
        return partner
    return next(
        (each for key, each in own.items() if re.fullmatch(rf"_?{name}[A-Z]\w*", key)), None
    )


def _starts(text: str) -> list[int]:
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts[:-1] if len(starts) > 1 else starts


def _tree(text: str) -> Node:
    """The root of a document, as far as it can be read."""
    root = Node(len(text) - len(text.lstrip("\ufeff \t\r\n")))
    above: list[tuple[Node, bool]] = []  # open objects (True) and arrays
    name: tuple[str, int] | None = None
    waits_for_name = False
    at = 0
    while found := _TOKEN.match(text, at):
        start, at = found.start(found.lastgroup or 0), found.end()
        mark, word = found["mark"], found["text"]
        if mark == ",":
            waits_for_name = bool(above) and above[-1][1]
        elif mark == ":":
            waits_for_name = False
        elif mark in ("}", "]"):
            if above:
                above.pop()
            waits_for_name = False
        elif word is not None and waits_for_name:
            name, waits_for_name = (word[1:-1], start), False
        else:
            node = _hung(root, above, name, start)
            name = None
            if mark is not None:
                if len(above) >= _DEEPEST:
                    break
                above.append((node, mark == "{"))
                waits_for_name = mark == "{"
    return root


def _hung(
    root: Node, above: list[tuple[Node, bool]], name: tuple[str, int] | None, start: int
) -> Node:
    if not above:
        return root
    parent, is_object = above[-1]
    if not is_object:
        node = Node(start)
        parent.items.append(node)
    else:
        key, offset = name or ("", start)
        node = Node(offset)
        parent.members.setdefault(key, node)
    return node
