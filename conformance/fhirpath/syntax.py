"""The syntax tree of a FHIRPath expression, and the one error of this package.

http://hl7.org/fhirpath/N1/grammar.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias


class FhirPathError(ValueError):
    """An expression that cannot be read, compiled or evaluated. `offset` counts characters from
    the start of the expression, where that is known."""

    def __init__(self, text: str, offset: int | None = None) -> None:
        super().__init__(text if offset is None else f"{text} (at character {offset})")
        self.offset = offset


class TooMuch(FhirPathError):
    """An evaluation costs more than it may; what it would have said is not known."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A literal; `type` is its System type, such as System.String."""

    type: str
    value: Any


@dataclass(frozen=True, slots=True)
class Empty:
    """`{}`"""


@dataclass(frozen=True, slots=True)
class This:
    """`$this`, and what a path without a start begins at."""


@dataclass(frozen=True, slots=True)
class Index:
    """`$index`"""


@dataclass(frozen=True, slots=True)
class Total:
    """`$total`"""


@dataclass(frozen=True, slots=True)
class Variable:
    """`%name`"""

    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """`target.name`; a name that begins a path has This as target and `first` set."""

    target: Node
    name: str
    first: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """`target.name(arguments)`"""

    target: Node
    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Indexer:
    """`target[index]`"""

    target: Node
    index: Node


@dataclass(frozen=True, slots=True)
class Sign:
    """`-operand` or `+operand`"""

    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Operation:
    """`left operator right`"""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class TypeOperation:
    """`operand is type` or `operand as type`"""

    operator: str
    operand: Node
    type: str


Node: TypeAlias = (
    Literal
    | Empty
    | This
    | Index
    | Total
    | Variable
    | Member
    | Call
    | Indexer
    | Sign
    | Operation
    | TypeOperation
)


def parts(tree: Node) -> tuple[Node, ...]:
    """The trees that a tree is made of, in the order of the text."""
    match tree:
        case Member(target):
            return (target,)
        case Call(target, _, arguments):
            return (target, *arguments)
        case Operation(_, left, right) | Indexer(left, right):
            return (left, right)
        case Sign(_, operand) | TypeOperation(_, operand):
            return (operand,)
    return ()
