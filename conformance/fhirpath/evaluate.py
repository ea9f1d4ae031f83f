"""Evaluates any expression on one value: for tests and whoever is not in a hurry.

http://hl7.org/fhirpath/N1/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.definitions import Definitions
from conformance.fhirpath.checking import check
from conformance.fhirpath.compiler import Compiler
from conformance.fhirpath.items import Collection, Environment, Focus, Item, World
from conformance.fhirpath.parser import parse
from conformance.fhirpath.syntax import FhirPathError
from conformance.fhirpath.types import fitting, types_of

BUDGET = 500_000  # items that one evaluation may visit and make
_NOTHING: Mapping[str, Any] = {}


@dataclass(slots=True)
class Allowance:
    """Items that several evaluations may visit and make together."""

    left: int


def compile_expression(
    expression: str,
    type_path: str | None,
    definitions: Definitions,
    *,
    strict: bool = False,
    trace: Callable[[str, Collection], None] | None = None,
    budget: int | Allowance = BUDGET,
) -> Callable[[Any, Environment], Collection]:
    """A function from the JSON value of an element at `type_path` (or a type's name; None: no
    input at all) to the items that the expression yields. `strict` makes unknown element names
    errors, and order where there is none; `trace` is told what trace() names; `budget` is what
    may be visited and made. FhirPathError here for what cannot be read or is not supported, at
    the call for what cannot be evaluated or would cost too much."""
    types = types_of(definitions)
    tree = parse(expression)
    allowed = () if type_path is None else types.at(type_path)
    if strict and allowed:
        check(types, tree, allowed)
    run = Compiler(types, strict, bounded=True).compile(tree)

    def evaluate(value: Any, environment: Environment) -> Collection:
        this: list[Item] = [(fitting(allowed, value), value, None)] if allowed else []
        context = this[0] if this else ("System.Any", None, None)
        allowed_here = budget.left if isinstance(budget, Allowance) else budget
        world = World(types, environment, context, budget=allowed_here, trace=trace)
        try:
            return run(Focus(this, world))
        except (ArithmeticError, RecursionError):
            raise FhirPathError("A number is too large, or a step too deep") from None
        finally:
            if isinstance(budget, Allowance):
                budget.left = world.budget

    return evaluate


def evaluate(
    expression: str,
    value: Any,
    type_path: str | None,
    definitions: Definitions,
    environment: Environment | None = None,
) -> Collection:
    """The items that the expression yields on one value. FhirPathError."""
    around = environment or Environment(*(value if isinstance(value, dict) else _NOTHING,) * 2)
    return compile_expression(expression, type_path, definitions)(value, around)
