"""Fixed values and patterns: equal, or holding at least what the pattern holds.

https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.pattern_x_
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from conformance.json import encode

Test: TypeAlias = Callable[[Any], bool]
_SHOWN = 160  # characters of a literal that an issue repeats


def equals(literal: Any) -> Test:
    """Whether a value is exactly this one."""
    if type(literal) is bool:
        return lambda value: value is literal
    if type(literal) is str:
        return lambda value: bool(value == literal)
    return lambda value: type(value) is not bool and bool(value == literal)


def holds(pattern: Any) -> Test:
    """Whether a value has all that the pattern has; of an array, each item of the pattern is
    matched by some item."""
    if isinstance(pattern, Mapping):
        if all(type(each) is str for each in pattern.values()):
            return _texts(tuple(pattern.items()))
        parts = tuple((key, holds(each)) for key, each in pattern.items())
        return _object(*parts[0]) if len(parts) == 1 else _objects(parts)
    if isinstance(pattern, list):
        items = tuple(holds(each) for each in pattern)
        return _array(items[0]) if len(items) == 1 else _arrays(items)
    return equals(pattern)


def _object(key: str, test: Test) -> Test:
    return lambda value: type(value) is dict and key in value and test(value[key])


def _texts(parts: tuple[tuple[str, Any], ...]) -> Test:
    """The frequent pattern: the system and the code of a Coding, and the like."""
    if len(parts) != 2:
        return _objects(tuple((key, equals(text)) for key, text in parts))
    (one, first), (other, second) = parts

    def test(value: Any) -> bool:
        return type(value) is dict and value.get(one) == first and value.get(other) == second

    return test


def _objects(parts: Sequence[tuple[str, Test]]) -> Test:
    def test(value: Any) -> bool:
        if type(value) is not dict:
            return False
        for key, each in parts:  # noqa: SIM110 - a loop costs half of all() here
            if key not in value or not each(value[key]):
                return False
        return True

    return test


def _array(item: Test) -> Test:
    def test(value: Any) -> bool:
        if type(value) is list:
            for each in value:
                if item(each):
                    return True
        return False

    return test


def _arrays(items: Sequence[Test]) -> Test:
    return lambda value: (
        type(value) is list and all(any(item(each) for each in value) for item in items)
    )


def shown(literal: Any) -> str:
    """A literal as an issue tells it: it is the profile's, never the patient's."""
    text = encode(literal).decode()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " …"
