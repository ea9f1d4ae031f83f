"""Answers as values: when two are one, and which of two is greater.

https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen.answer_x_
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol, TypeAlias

UCUM = "http://unitsofmeasure.org"

# An exact time; what is told less exactly, or is of no zone, compares by its text.
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", re.ASCII)

Key: TypeAlias = tuple[Hashable, ...]


class Units(Protocol):
    """UCUM, as far as quantities are compared by it."""

    def canonical(self, value: Decimal, code: str, /) -> tuple[Decimal, str] | None:
        """The value in base units, and these; None for what is no unit."""
        ...


def values(holder: Mapping[str, Any], prefix: str = "value") -> list[tuple[str, Any]]:
    """The choice of an object: the name of its type, and the value."""
    return [(name[len(prefix) :], each) for name, each in holder.items() if name.startswith(prefix)]


def key(kind: str, value: Any) -> Key:
    """What is equal for two answers that are one: codings by system and code (or the display of
    what has no code), references by what they name, numbers by their value."""
    if isinstance(value, dict):
        if kind == "Coding":
            return coded(value)
        if kind == "Reference":
            return ("Reference", text(value.get("reference")))
        if kind == "Quantity":
            unit = text(value.get("code")) or text(value.get("unit"))
            return ("Quantity", _number(value.get("value")), text(value.get("system")), unit)
        return (kind, repr(value))
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, str):
        return ("text", value)
    return ("number", value) if _number(value) is not None else (kind, repr(value))


def coded(value: Mapping[str, Any]) -> Key:
    """The same of a Coding, and of a Quantity by its unit."""
    code = text(value.get("code"))
    name = text(value.get("display")) if code is None else None
    return ("Coding", text(value.get("system")), code, name)


def compared(value: Any, bound: Any, units: Units | None) -> int | None:
    """-1, 0 or 1; None for what cannot be compared. Dates compare as far as both are told, and one
    that is told more closely than its bound is beyond it."""
    if isinstance(value, dict) and isinstance(bound, dict):
        return _measured(value, bound, units)
    if isinstance(value, str) and isinstance(bound, str):
        return _sign(*_moments(value, bound))
    one, other = _number(value), _number(bound)
    return None if one is None or other is None else _sign(one, other)


def _measured(
    value: Mapping[str, Any], bound: Mapping[str, Any], units: Units | None
) -> int | None:
    one, other = _number(value.get("value")), _number(bound.get("value"))
    codes = text(value.get("code")), text(bound.get("code"))
    system = text(value.get("system"))
    if one is None or other is None or None in codes or system != text(bound.get("system")):
        return None
    if codes[0] == codes[1]:
        return _sign(one, other)
    if units is None or system != UCUM:
        return None
    made = [
        units.canonical(number, str(code)) for number, code in zip((one, other), codes, strict=True)
    ]
    if made[0] is None or made[1] is None or made[0][1] != made[1][1]:
        return None
    return _sign(made[0][0], made[1][0])


def _moments(value: str, bound: str) -> tuple[Any, Any]:
    """Two texts, as times where both are exact."""
    if _INSTANT.fullmatch(value) and _INSTANT.fullmatch(bound):
        try:
            return datetime.fromisoformat(value), datetime.fromisoformat(bound)
        except ValueError:  # a leap second, or a day that there is not
            pass
    return value, bound


def _sign(one: Any, other: Any) -> int:
    return int(one > other) - int(one < other)


def _number(value: Any) -> Decimal | None:
    """A finite number as a Decimal."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    return number if number.is_finite() else None


def text(value: Any) -> str | None:
    """A value that should be a text."""
    return value if isinstance(value, str) else None


def objects(found: Any) -> list[Mapping[str, Any]]:
    """The objects of an array that should hold nothing else."""
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
