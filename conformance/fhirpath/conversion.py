"""Conversions between the System types: toX() and convertsToX().

http://hl7.org/fhirpath/N1/#conversion
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from conformance.fhirpath.arithmetic import item
from conformance.fhirpath.function import Function
from conformance.fhirpath.host import Units
from conformance.fhirpath.items import Collection, Focus, boolean, plain, single, text, units
from conformance.fhirpath.values import CALENDAR, Quantity, Temporal, same_unit, temporal, words

_TRUE = frozenset({"true", "t", "yes", "y", "1", "1.0"})
_FALSE = frozenset({"false", "f", "no", "n", "0", "0.0"})
_INTEGER = re.compile(r"[+-]?\d{1,10}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d{1,400}(\.\d{1,400})?", re.ASCII)
_QUANTITY = re.compile(
    r"(?P<value>[+-]?\d{1,400}(?:\.\d{1,400})?)\s*(?:'(?P<unit>[^']+)'|(?P<word>[a-zA-Z]+))?",
    re.ASCII,
)
_CALENDAR = dict(words())
_LARGEST = 300  # power of ten beyond which a number is written with an exponent


def decimal_text(value: Decimal | int) -> str:
    """The digits of a number; with an exponent only if they would not end."""
    if isinstance(value, int) or abs(value.adjusted()) > _LARGEST:
        return str(value)
    return format(value, "f")


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | Decimal):
        return {0: False, 1: True}.get(int(value)) if value in (0, 1) else None
    if isinstance(value, str):
        word = value.lower()
        return True if word in _TRUE else False if word in _FALSE else None
    return None


def _integer(value: Any) -> int | None:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        found = int(value)
        return found if -(2**31) <= found < 2**31 else None
    return None


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return Decimal(value)
    return None


def _string(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return decimal_text(value)
    if isinstance(value, str | Temporal | Quantity):
        return str(value)
    return None


def _moment(type: str) -> Callable[[Any], Temporal | None]:
    dates = ("System.Date", "System.DateTime")

    def convert(value: Any) -> Temporal | None:
        if isinstance(value, str):
            return temporal(type, value)
        if not isinstance(value, Temporal):
            return None
        if value.type == type:
            return value
        if value.type not in dates or type not in dates:
            return None
        return Temporal(type, value.parts[:3])

    return convert


def _quantity(value: Any) -> Quantity | None:
    if isinstance(value, Quantity):
        return value
    if isinstance(value, bool):
        return Quantity(Decimal(int(value)), "1")
    if isinstance(value, int | Decimal):
        return Quantity(value, "1")
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None or (found["word"] and found["word"] not in _CALENDAR):
        return None
    number = Decimal(found["value"]) if "." in found["value"] else int(found["value"])
    if found["word"]:
        return Quantity(number, _CALENDAR[found["word"]], calendar=True)
    return Quantity(number, found["unit"] or "1")


_TO: dict[str, Callable[[Any], Any]] = {
    "Boolean": _boolean,
    "Integer": _integer,
    "Decimal": _decimal,
    "String": _string,
    "Date": _moment("System.Date"),
    "DateTime": _moment("System.DateTime"),
    "Time": _moment("System.Time"),
    "Quantity": _quantity,
}


def _converted(name: str, input: Collection, unit: Collection | None, ucum: Units | None) -> Any:
    """The converted value, or None. The one item is checked by `single`."""
    found = single(input, name)
    if found is None:
        return None
    value = _TO[name.removesuffix("()").removeprefix("convertsTo").removeprefix("to")](
        plain(found)[1]
    )
    asked = text(unit, name) if unit is not None else None
    if value is None or asked is None:
        return value
    wanted = Quantity(1, _CALENDAR.get(asked, asked), calendar=asked in CALENDAR)
    values, nought = (same_unit(each, wanted, ucum) for each in (value, value._replace(value=0)))
    # A scale whose zero is elsewhere, such as degrees, is no multiple of another.
    if values is None or nought is None or nought[0] != 0:
        return None
    return Quantity(Decimal(values[0]) / values[1], wanted.unit)


def _to(name: str) -> Function:
    def run(focus: Focus, input: Collection, unit: Collection | None = None) -> Collection:
        found = _converted(f"to{name}()", input, unit, units(focus.world))
        return [] if found is None else [item(found)]

    return Function(run, 0, int(name == "Quantity"))


def _converts(name: str) -> Function:
    def run(focus: Focus, input: Collection, unit: Collection | None = None) -> Collection:
        if not input:
            return []
        found = _converted(f"convertsTo{name}()", input, unit, units(focus.world))
        return boolean(found is not None)

    return Function(run, 0, int(name == "Quantity"))


TABLE = {
    **{f"to{name}": _to(name) for name in _TO},
    **{f"convertsTo{name}": _converts(name) for name in _TO},
}
