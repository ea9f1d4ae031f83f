"""What a FHIRPath function is to the compiler.

http://hl7.org/fhirpath/N1/#functions
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from conformance.fhirpath.items import Collection, Focus, Item, Run, World, truth
from conformance.fhirpath.syntax import TooMuch

LONGEST = 1_000_000  # characters that a function may make


class Function(NamedTuple):
    """`run(focus, input, *arguments)` takes from `least` to `most` arguments: collections, or when
    `lazy`, expressions that it evaluates itself."""

    run: Callable[..., Collection]
    least: int = 0
    most: int = 0
    lazy: bool = False


def on(focus: Focus, index: int, item: Item) -> Focus:
    """The focus of an expression that is evaluated for one item of the input."""
    return Focus([item], focus.world, index, focus.total)


def holds(focus: Focus, criteria: Run, index: int, item: Item) -> bool:
    """Whether the criteria are true of one item."""
    return truth(criteria(on(focus, index, item)), "A criterion") is True


def spend(focus: Focus, amount: int = 1) -> None:
    """Take from what an evaluation may visit and make. TooMuch when nothing is left."""
    focus.world.spend(amount)


def spend_of(world: World, amount: int) -> None:
    """As `spend`."""
    world.spend(amount)


def require_short(length: int) -> None:
    """TooMuch for the length of a text that is too long to make."""
    if length > LONGEST:
        raise TooMuch(f"A text has at most {LONGEST} characters")
