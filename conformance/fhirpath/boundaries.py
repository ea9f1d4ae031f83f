"""lowBoundary() and highBoundary(): the least and the greatest value that one of limited precision
may stand for.

https://build.fhir.org/ig/HL7/FHIRPath/#boundary-functions
"""

from __future__ import annotations

from calendar import monthrange
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Context, Decimal
from typing import Any

from conformance.fhirpath.arithmetic import item
from conformance.fhirpath.function import Function
from conformance.fhirpath.items import Collection, Focus, integer, plain, single
from conformance.fhirpath.syntax import FhirPathError
from conformance.fhirpath.values import Quantity, Temporal

_PLACES = 8  # of a decimal, unless asked otherwise
_MOST_PLACES = 31
_CONTEXT = Context(prec=80)
# The digits after which each part of a date or time is written.
_DIGITS = {
    "System.Date": (4, 6, 8),
    "System.DateTime": (4, 6, 8, 10, 12, 14),
    "System.Time": (2, 4, 6),
}
_WITH_FRACTION = {"System.DateTime": 17, "System.Time": 9}
_EARLIEST = (1, 1, 1, 0, 0, 0)
_LATEST_CLOCK = (23, 59, 59)
_HOUR = 4  # parts of a dateTime that ends with the hour
# The zones where a day begins first and ends last, in minutes east of UTC.
_FIRST_ZONE, _LAST_ZONE = 14 * 60, -12 * 60


def _boundary(what: str, high: bool) -> Function:
    def run(focus: Focus, input: Collection, precision: Collection | None = None) -> Collection:
        found = single(input, what)
        value = None if found is None else plain(found)[1]
        asked = None if precision is None else integer(precision, what)
        if value is None or (precision is not None and asked is None):
            return []
        result = _of(value, asked, high, what)
        return [] if result is None else [item(result)]

    return Function(run, 0, 1)


def _of(value: Any, asked: int | None, high: bool, what: str) -> Any:
    if isinstance(value, Temporal):
        return _moment(value, asked, high)
    if isinstance(value, Quantity):
        number = _number(value.value, asked, high)
        return None if number is None else value._replace(value=number)
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return _number(value, asked, high)
    raise FhirPathError(f"{what} takes a number, a quantity, a date or a time")


def _number(value: Decimal | int, asked: int | None, high: bool) -> Decimal | None:
    places = _PLACES if asked is None else asked
    exact = Decimal(value)
    exponent = int(exact.as_tuple().exponent)
    if not 0 <= places <= _MOST_PLACES or exact.adjusted() > _MOST_PLACES or exponent < -60:
        return None
    half = Decimal(5).scaleb(min(exponent, 0) - 1)
    edge = _CONTEXT.add(exact, half) if high else _CONTEXT.subtract(exact, half)
    unit = Decimal(1).scaleb(-places)
    outward = ROUND_CEILING if high else ROUND_FLOOR
    # What is less than the smallest step at this precision is nothing at it.
    rounding = ROUND_DOWN if abs(edge) < unit else outward
    return edge.quantize(unit, rounding, _CONTEXT)


def _moment(value: Temporal, asked: int | None, high: bool) -> Temporal | None:
    digits = _DIGITS[value.type]
    finest = _WITH_FRACTION.get(value.type, digits[-1])
    wanted = finest if asked is None else asked
    if wanted not in digits and wanted != finest:
        return None
    size = len(digits) if wanted == finest else digits.index(wanted) + 1
    parts = value.parts[:size]
    if value.type == "System.DateTime" and len(parts) == _HOUR:
        parts = (*parts, 0)[:size]  # FHIR has no hour without minutes: 08 is 08:00
    for position in range(len(parts), size):
        parts = (*parts, _filling(value.type, parts, position, high))
    if value.type == "System.Date" or (value.type == "System.DateTime" and size <= 3):
        return Temporal("System.Date", parts)
    fraction = ""
    if wanted == finest:
        fraction = value.fraction[:3].ljust(3, "9" if high else "0")
    return Temporal(value.type, parts, fraction, _zone(value, high))


def _filling(type: str, parts: tuple[int, ...], position: int, high: bool) -> int:
    """The least or greatest value of the part at a position, after those before it."""
    if type == "System.Time":
        return _LATEST_CLOCK[position] if high else 0
    if not high:
        return _EARLIEST[position]
    if position == 1:
        return 12
    return monthrange(parts[0], parts[1])[1] if position == 2 else _LATEST_CLOCK[position - 3]


def _zone(value: Temporal, high: bool) -> int | None:
    if value.type == "System.Time" or value.offset is not None:
        return value.offset
    return _LAST_ZONE if high else _FIRST_ZONE


TABLE = {
    "lowBoundary": _boundary("lowBoundary()", high=False),
    "highBoundary": _boundary("highBoundary()", high=True),
}
