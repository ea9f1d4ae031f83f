"""What an expression of a search parameter may be when somebody else than R4 wrote it: short, and
of what takes time in proportion to the resource.

https://hl7.org/fhir/R4/searchparameter.html, http://hl7.org/fhirpath/N1/
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, TypeAlias

from conformance.definitions import Definitions
from conformance.fhirpath.parser import parse
from conformance.fhirpath.syntax import (
    Call,
    FhirPathError,
    Index,
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

LONGEST = 2_000  # characters; the longest of R4 have fewer for one type
NODES = 300  # of the syntax tree
DEPTH = 5  # criteria inside criteria

# What looks at each value a fixed number of times. Not among them: what compares every value with
# every other, repeats, matches patterns, depends on the time of day, or on other resources.
FUNCTIONS = frozenset(
    """
    all as contains convertsToBoolean convertsToDate convertsToDateTime convertsToDecimal
    convertsToInteger convertsToQuantity convertsToString convertsToTime count empty endsWith exists
    extension first hasValue iif indexOf is last length lower not ofType resolve select single skip
    startsWith substring tail take toBoolean toDate toDateTime toDecimal toInteger toQuantity
    toString toTime trim upper where
    """.split()
)
_OPERATORS = frozenset("= != < > <= >= and or xor implies | + - * / div mod & in contains".split())
_CRITERIA = frozenset({"all", "exists", "select", "where"})

# Some guides name a choice by its member in JSON: what is meant is one of its types.
_MEMBER_OF_CHOICE = re.compile(r"\.value([A-Z][A-Za-z0-9]*)\b")
_QUOTED = re.compile(r"('(?:[^'\\]|\\.)*'|`[^`]*`)")

Shape: TypeAlias = tuple[Any, ...]


def readable(expression: str, definitions: Definitions) -> Node:
    """The tree of an expression that a search parameter may have here. FhirPathError, which says
    what it has that is not supported."""
    if len(expression) > LONGEST:
        raise FhirPathError(f"An expression has at most {LONGEST:,} characters")
    try:
        tree = parse(plain(expression, definitions))
        _require(tree, 0, [NODES])
    except RecursionError:
        raise FhirPathError("The expression is nested too deeply") from None
    return tree


def plain(expression: str, definitions: Definitions) -> str:
    """The expression with `.valueDateTime` written as `.value.ofType(dateTime)`."""

    def typed(found: re.Match[str]) -> str:
        name = found[1]
        lower = name[0].lower() + name[1:]
        known = lower if lower in definitions.structures else name
        return f".value.ofType({known})" if known in definitions.structures else found[0]

    pieces = _QUOTED.split(expression)
    return "".join(
        piece if at % 2 else _MEMBER_OF_CHOICE.sub(typed, piece) for at, piece in enumerate(pieces)
    )


def _require(tree: Node, depth: int, left: list[int]) -> None:
    """FhirPathError for what is not allowed in a tree, `depth` criteria deep."""
    left[0] -= 1
    if left[0] < 0:
        raise FhirPathError(f"An expression has at most {NODES} parts")
    if depth > DEPTH:
        raise FhirPathError(f"Criteria are nested at most {DEPTH} deep")
    match tree:
        case Call(_, name) if name not in FUNCTIONS:
            raise FhirPathError(f"The function {name}() is not supported in search parameters")
        case TypeOperation("is", Call(This(), "resolve", ())):
            return
        case Call(_, "resolve"):
            raise FhirPathError("resolve() is supported as where(resolve() is Type) only")
        case Operation(operator) if operator not in _OPERATORS:
            raise FhirPathError(f"The operator {operator} is not supported in search parameters")
        case Operation("|") if depth:
            raise FhirPathError("A union inside criteria is not supported in search parameters")
        case Variable(name) if depth or name not in ("resource", "rootResource"):
            raise FhirPathError(f"The variable %{name} is not supported there")
        case Index() | Total():
            raise FhirPathError("$index and $total are not supported in search parameters")
    if isinstance(tree, Call):
        _require(tree.target, depth, left)
        inner = depth + (tree.name in _CRITERIA)
        for each in tree.arguments:
            _require(each, inner, left)
        return
    for each in parts(tree):
        _require(each, depth, left)


# --- what two expressions say --------------------------------------------------------------------


@lru_cache(maxsize=16_384)
def shape(part: str, type: str, definitions: Definitions) -> Shape:
    """What a part of a union says, however it is written: equal for `x.as(T)`, `(x as T)` and
    `x.ofType(T)`, and for paths that begin with the type, with Resource or with neither."""
    try:
        return _shape(parse(plain(part, definitions)), type)
    except (FhirPathError, RecursionError):
        return ("unread", part)


def _shape(tree: Node, type: str) -> Shape:
    match tree:
        case This():
            return ("this",)
        case Member(This(), name, True) if name in (type, "Resource", "DomainResource"):
            return ("this",)
        case Member(target, name):
            return ("member", _shape(target, type), name)
        case Call(target, "as" | "ofType", (Member(This(), name),)):
            return ("type", _shape(target, type), name)
        case TypeOperation("as", operand, name):
            return ("type", _shape(operand, type), name)
        case Call(target, name, arguments):
            return (name, _shape(target, type), *(_shape(each, type) for each in arguments))
        case Literal(of, value):
            return ("literal", of, value)
        case Operation(operator, left, right):
            return (operator, _shape(left, type), _shape(right, type))
        case TypeOperation(operator, operand, name):
            return (operator, _shape(operand, type), name)
        case Sign(operator, operand):
            return (operator, _shape(operand, type))
    return ("other", repr(tree))
