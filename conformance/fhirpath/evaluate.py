"""Evaluates any expression on one value: for tests and whoever is not in a hurry.

http://hl7.org/fhirpath/N1/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from conformance.definitions import Definitions
from conformance.fhirpath.checking import check
from conformance.fhirpath.compiler import Compiler
from conformance.fhirpath.items import Allowance, Collection, Environment, Focus, Item, World
from conformance.fhirpath.parser import parse
from conformance.fhirpath.syntax import FhirPathError
from conformance.fhirpath.types import fitting, types_of

BUDGET = 500_000  # items that one evaluation may visit and make
_NOTHING: Mapping[str, Any] = {}


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
        shared = budget if isinstance(budget, Allowance) else Allowance(budget)
        world = World(
            types, environment, context, budget=0, trace=trace, allowance=shared, rest=shared.left
        )
        try:
            return run(Focus(this, world))
        except (ArithmeticError, RecursionError):
            raise FhirPathError("A number is too large, or a step too deep") from None
        finally:
            world.give_back()

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
