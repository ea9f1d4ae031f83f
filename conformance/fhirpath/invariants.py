"""Compiles an invariant to a function that tells whether it holds for a JSON value.

https://hl7.org/fhir/R4/conformance-rules.html#constraints
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from conformance.definitions import Definitions
from conformance.fhirpath.criteria import bounded_criterion, criterion
from conformance.fhirpath.fields import Test
from conformance.fhirpath.items import Environment
from conformance.fhirpath.parser import parse
from conformance.fhirpath.syntax import TooMuch
from conformance.fhirpath.types import Types, fitting, types_of

# None: it would cost too much to tell.
Invariant: TypeAlias = Callable[[Any, Environment], bool | None]

_CACHED = 10_000  # pairs of expression and type that are remembered
_compiled: dict[tuple[str, str, str, bool], Invariant] = {}

# An evaluation that has no meaning, or a value that is not of its type at all.
_FAILURES = (
    ValueError,
    ArithmeticError,
    TypeError,
    AttributeError,
    LookupError,
    RecursionError,
)


def compile_invariant(
    expression: str, type_path: str, definitions: Definitions, *, bounded: bool = False
) -> Invariant:
    """A function from the JSON value of an element at `type_path` (or of the type of that name) and
    its environment to whether the expression is true of it; empty, and an evaluation that fails,
    is false; one that would cost too much says nothing, and counts as true. When `bounded`, for
    what does not come with the standard, it costs no more than the allowance of its environment,
    and beyond that it is None. FhirPathError when the expression cannot be read, or is not
    supported."""
    key = (definitions.digest, type_path, expression, bounded)
    found = _compiled.get(key)
    if found is None:
        if len(_compiled) >= _CACHED:
            _compiled.clear()
        found = _compiled[key] = _compile(expression, type_path, types_of(definitions), bounded)
    return found


def _compile(expression: str, type_path: str, types: Types, bounded: bool) -> Invariant:
    tree = parse(expression)
    allowed = types.at(type_path)
    make = bounded_criterion if bounded else criterion
    tests = {type: make(types, tree, type) for type in allowed}
    beyond = None if bounded else True
    test = tests[allowed[0]] if len(tests) == 1 else _by_value(tests)

    def holds(value: Any, environment: Environment) -> bool | None:
        try:
            return test(value, environment) is True
        except TooMuch:
            return beyond
        except _FAILURES:
            return False

    return holds


def _by_value(tests: dict[str, Test]) -> Test:
    allowed = tuple(tests)
    return lambda value, environment: tests[fitting(allowed, value)](value, environment)
