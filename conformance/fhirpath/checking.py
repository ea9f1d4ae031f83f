"""Strict mode: names that no type on the way defines, and order asked of what has none, are told
from the definitions alone, before anything is evaluated.

http://hl7.org/fhirpath/N1/#type-safety-and-strict-evaluation
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

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
)
from conformance.fhirpath.types import Types


class Static(NamedTuple):
    """What is known of a collection before it is there: the types its items may have (None: any),
    and whether it has an order."""

    types: frozenset[str] | None
    ordered: bool = True


_ANY = Static(None)
# Functions that answer some of the items of their input, and those that need its order.
_SUBSETS = frozenset(("where", "distinct", "single", "trace", "sort", "intersect", "exclude"))
_ORDERED = frozenset(("first", "last", "tail", "skip", "take"))
_UNORDERED = frozenset(("children", "descendants"))
# Functions whose arguments are evaluated for each item.
_PER_ITEM = frozenset(
    ("where", "exists", "all", "select", "repeat", "aggregate", "iif", "trace", "sort")
)
_TYPED = frozenset(("is", "as", "ofType"))
_EXTENSION = frozenset({"Extension"})


def check(types: Types, tree: Node, at: Iterable[str]) -> None:
    """FhirPathError when an expression on an item of these types (none: no input) cannot be."""
    _Checker(types).of(tree, Static(frozenset(at)))


class _Checker:
    def __init__(self, types: Types) -> None:
        self._types = types

    def of(self, tree: Node, this: Static) -> Static:
        """What a tree yields where `$this` is so."""
        match tree:
            case This():
                return this
            case Literal(type):
                return Static(frozenset({type}))
            case Empty():
                return Static(frozenset())
            case Index() | Total() | Variable():
                return _ANY
            case Member(target, name, first):
                return self._member(self.of(target, this), name, first)
            case Call():
                return self._call(tree, this)
            case Indexer(target, index):
                self.of(index, this)
                return self._subset(self.of(target, this), "An index")
            case Sign(_, operand):
                return self.of(operand, this)
            case TypeOperation(operator, operand, type):
                return self._typed(operator, self.of(operand, this), type)
            case Operation(operator, left, right):
                one, other = self.of(left, this), self.of(right, this)
                return _either(one, other) if operator == "|" else _ANY

    def _member(self, target: Static, name: str, first: bool) -> Static:
        if target.types is None:
            return target
        if first and self._types.known(name):
            fitting = frozenset(t for t in target.types if name in self._types.kinds(t))
            if fitting or any(self._types.resource(each) for each in target.types):
                return Static(fitting or None, target.ordered)
        if any(self._types.resource(each) for each in target.types):
            return Static(None, target.ordered)
        steps = [step for each in target.types for step in self._types.steps(each, name)]
        if target.types and not steps:
            shown = ", ".join(sorted(target.types))
            raise FhirPathError(f"`{name}` is not an element of {shown}")
        return Static(frozenset(step.type for step in steps), target.ordered)

    def _call(self, tree: Call, this: Static) -> Static:
        target, name = self.of(tree.target, this), tree.name
        if name in _TYPED:
            match tree.arguments:
                case (Member(This(), type, True),):
                    return self._typed(name, target, type)
            return _ANY
        inner = Static(target.types) if name in _PER_ITEM else this
        found = [self.of(each, inner) for each in tree.arguments]
        if name in _ORDERED:
            return self._subset(target, f"{name}()")
        if name in _SUBSETS:
            return target
        if name in _UNORDERED:
            return Static(None, ordered=False)
        if name == "select" and found:
            return Static(found[0].types, target.ordered and found[0].ordered)
        if name == "extension":
            return Static(_EXTENSION, target.ordered)
        return _ANY

    def _subset(self, target: Static, what: str) -> Static:
        if not target.ordered:
            raise FhirPathError(f"{what} needs an order, which children have not")
        return target

    def _typed(self, operator: str, target: Static, name: str) -> Static:
        asked = self._types.named(name)
        return _ANY if operator == "is" else Static(frozenset({asked}), target.ordered)


def _either(one: Static, other: Static) -> Static:
    if one.types is None or other.types is None:
        return Static(None, one.ordered and other.ordered)
    return Static(one.types | other.types, one.ordered and other.ordered)
