"""Arithmetic: the operators + - * / div mod &, the functions of numbers, calendar sums.

http://hl7.org/fhirpath/N1/#math
"""

from __future__ import annotations

import decimal
import math
from calendar import monthrange
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Any

from conformance.fhirpath.function import Function, require_short
from conformance.fhirpath.host import Units
from conformance.fhirpath.items import (
    Collection,
    Focus,
    Item,
    World,
    number,
    plain,
    single,
    text,
    units,
)
from conformance.fhirpath.syntax import FhirPathError
from conformance.fhirpath.values import CALENDAR, Quantity, Temporal, factors, product, same_unit

Number = Decimal | int

# Beyond this power of ten a decimal is not turned into an integer or rounded: it would fill memory.
_LARGEST = 1_000
_DIGITS = 18  # of an integer
_LEAST, _MOST = -(2**31), 2**31 - 1  # Integers; a sum beyond is empty
_CONTEXT = decimal.Context(
    prec=60,
    rounding=ROUND_HALF_UP,
    traps=[decimal.Overflow, decimal.InvalidOperation, decimal.DivisionByZero],
)


def whole(value: Number, rounding: str = decimal.ROUND_DOWN) -> int:
    """The integer next to a number. FhirPathError when it is too large to write down."""
    if isinstance(value, int):
        return value
    if value.adjusted() > _LARGEST:
        raise FhirPathError("A number is too large")
    return int(value.to_integral_value(rounding))


def calculate(
    operator: str, left: Collection, right: Collection, world: World | None = None
) -> Collection:
    """`left operator right`; empty when a side is. FhirPathError when it has no meaning."""
    one, other = single(left, f"`{operator}`"), single(right, f"`{operator}`")
    if operator == "&":
        return [("System.String", _joined(_part(one), _part(other)), None)]
    if one is None or other is None:
        return []
    a, b = plain(one)[1], plain(other)[1]
    if a is None or b is None:
        return []
    result = _apply(operator, a, b, units(world))
    return [] if result is None else [item(result)]


def item(value: Any) -> Item:
    """The item of a computed value."""
    if isinstance(value, Temporal):
        return (value.type, value, None)
    return (_TYPES[type(value)], value, None)


_TYPES: dict[type, str] = {
    bool: "System.Boolean",
    int: "System.Integer",
    Decimal: "System.Decimal",
    str: "System.String",
    Quantity: "System.Quantity",
}


def _part(item: Item | None) -> str:
    if item is None:
        return ""
    found = text([item], "`&`")
    return found or ""


def _joined(one: str, other: str) -> str:
    require_short(len(one) + len(other))
    return one + other


def _apply(operator: str, a: Any, b: Any, ucum: Units | None) -> Any:
    if _numeric(a) and _numeric(b):
        return _numbers(operator, a, b)
    if isinstance(a, str) and isinstance(b, str) and operator == "+":
        return _joined(a, b)
    if isinstance(a, Temporal) and isinstance(b, Quantity) and operator in ("+", "-"):
        return later(a, b if operator == "+" else b._replace(value=-b.value))
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        return _quantities(operator, a, b, ucum)
    if isinstance(a, Quantity) and _numeric(b) and operator in ("*", "/"):
        value = _numbers(operator, a.value, b)
        return None if value is None else a._replace(value=value)
    if _numeric(a) and isinstance(b, Quantity) and operator == "*":
        return b._replace(value=a * b.value)
    raise FhirPathError(f"`{operator}` cannot be applied to these values")


def _numeric(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _numbers(operator: str, a: Number, b: Number) -> Number | None:
    if operator in ("/", "div", "mod") and b == 0:
        return None
    if isinstance(a, int) and isinstance(b, int) and operator in _INTEGERS:
        found = _INTEGERS[operator](a, b)
        return found if _LEAST <= found <= _MOST else None
    return _DECIMALS[operator](Decimal(a), Decimal(b))


def _divide(a: Decimal, b: Decimal) -> Decimal:
    with decimal.localcontext(prec=28):
        return a / b


def _quotient(a: int, b: int) -> int:
    found = abs(a) // abs(b)
    return found if (a < 0) == (b < 0) else -found


_INTEGERS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "div": _quotient,
    "mod": lambda a, b: a - b * _quotient(a, b),
}
_DECIMALS: dict[str, Callable[[Decimal, Decimal], Number]] = {
    "+": _CONTEXT.add,
    "-": _CONTEXT.subtract,
    "*": _CONTEXT.multiply,
    "/": _divide,
    "div": lambda a, b: whole(_CONTEXT.divide(a, b)),
    "mod": _CONTEXT.remainder,
}


def _quantities(operator: str, a: Quantity, b: Quantity, ucum: Units | None) -> Quantity | None:
    if operator in ("+", "-"):
        return _sum(operator, a, b, ucum)
    if operator == "/":
        values = same_unit(a, b, ucum)
        if values is not None:
            found = _numbers("/", *values)
            return None if found is None else Quantity(found, "1")
    unit = product(a, b, {"*": ".", "/": "/"}[operator], ucum) if operator in "*/" else None
    if unit is not None:
        found = _numbers(operator, a.value, b.value)
        return None if found is None else Quantity(found, unit)
    raise FhirPathError(f"`{operator}` cannot be applied to these quantities")


def _sum(operator: str, a: Quantity, b: Quantity, ucum: Units | None) -> Quantity | None:
    """In the more granular unit of the two."""
    scales = factors(a, b, ucum)
    if scales is None:
        return None
    finest = min(scales)
    values = [
        each.value if scale == finest else _CONTEXT.multiply(each.value, _divide(scale, finest))
        for each, scale in zip((a, b), scales, strict=True)
    ]
    found = _numbers(operator, *values)
    unit = a if scales[0] == finest else b
    return None if found is None else unit._replace(value=found)


# --- calendar ------------------------------------------------------------------------------------

_UNITS = {ucum: word for word, ucum in CALENDAR.items() if ucum}
_LADDER = ("year", "month", "day", "hour", "minute", "second")
# How many of a unit make one of the unit before it, when a date is less precise than the sum.
_PER = {"month": 12, "day": 30, "hour": 24, "minute": 60, "second": 60}
_MILLISECONDS = {
    "day": 86_400_000,
    "hour": 3_600_000,
    "minute": 60_000,
    "second": 1_000,
    "millisecond": 1,
}


def later(moment: Temporal, quantity: Quantity) -> Temporal:
    """The moment moved by a duration, at its own precision. FhirPathError when the unit is no
    duration, or not a definite one (UCUM's month and year), or the year leaves 1 to 9999."""
    unit = quantity.unit.removesuffix("s") if quantity.unit != "s" else "s"
    word = unit if unit in CALENDAR else _UNITS.get(quantity.unit)
    if word is None:
        raise FhirPathError(f"`{quantity.unit}` cannot be added to a date or time")
    amount = whole(quantity.value)
    if word == "week":
        word, amount = "day", amount * 7
    try:
        if moment.type == "System.Time":
            return _clock(moment, word, amount)
        return _calendar(moment, word, amount)
    except (ValueError, OverflowError):
        raise FhirPathError("A date or time leaves the years 1 to 9999") from None


def _calendar(moment: Temporal, word: str, amount: int) -> Temporal:
    if word == "millisecond" and len(moment.parts) < len(_LADDER):
        word, amount = "second", _toward_zero(amount, 1000)
    while word in _PER and _LADDER.index(word) >= len(moment.parts):
        amount = _toward_zero(amount, _PER[word])
        word = _LADDER[_LADDER.index(word) - 1]
    if word in ("year", "month"):
        return _months(moment, amount * 12 if word == "year" else amount)
    start = datetime(*_start(moment))
    width = max(len(moment.fraction), 3) if word == "millisecond" else len(moment.fraction)
    micro = int(moment.fraction[:6].ljust(6, "0")) if moment.fraction else 0
    moved = start + timedelta(microseconds=micro, milliseconds=amount * _MILLISECONDS[word])
    parts = (moved.year, moved.month, moved.day, moved.hour, moved.minute, moved.second)
    fraction = f"{moved.microsecond:06d}".ljust(width, "0")[:width] if width else ""
    return moment._replace(parts=parts[: len(moment.parts)], fraction=fraction)


def _start(moment: Temporal) -> tuple[int, int, int, int, int, int]:
    year, month, day, hour, minute, second = (*moment.parts, *(0,) * 6)[:6]
    return year, month or 1, day or 1, hour, minute, min(second, 59)


def _months(moment: Temporal, amount: int) -> Temporal:
    year, month = moment.parts[0], moment.parts[1] if len(moment.parts) > 1 else 1
    total = year * 12 + month - 1 + amount
    year, month = total // 12, total % 12 + 1
    if not 1 <= year <= 9999:
        raise ValueError
    parts = (year, month, *moment.parts[2:])[: len(moment.parts)]
    if len(parts) > 2:
        parts = (*parts[:2], min(parts[2], monthrange(year, month)[1]), *parts[3:])
    return moment._replace(parts=parts)


def _clock(moment: Temporal, word: str, amount: int) -> Temporal:
    if word not in _MILLISECONDS:
        raise FhirPathError(f"`{word}` cannot be added to a time")
    hour, minute, second = (*moment.parts, 0, 0)[:3]
    day = Temporal("System.DateTime", (2000, 1, 1, hour, minute, second), moment.fraction)
    moved = _calendar(day, word, amount % (86_400_000 // _MILLISECONDS[word]))
    return moment._replace(parts=moved.parts[3 : 3 + len(moment.parts)], fraction=moved.fraction)


def _toward_zero(amount: int, by: int) -> int:
    return _quotient(amount, by)


# --- functions -----------------------------------------------------------------------------------


def _numerical(
    what: str, answer: Callable[..., Number | None], most: int = 0, least: int = 0
) -> Function:
    """A function of a number; of the value when the input is a quantity."""

    def run(focus: Focus, input: Collection, *arguments: Collection) -> Collection:
        found = single(input, what)
        value = None if found is None else plain(found)[1]
        given = [_argument(each, what) for each in arguments]
        if value is None or any(each is None for each in given):
            return []
        if isinstance(value, Quantity):
            result = answer(value.value, *given)
            return [] if result is None else [item(value._replace(value=result))]
        if not _numeric(value):
            raise FhirPathError(f"{what} takes a number")
        result = answer(value, *given)
        return [] if result is None else number(result)

    return Function(run, least, most)


def _argument(argument: Collection, what: str) -> Number | None:
    found = single(argument, what)
    value = None if found is None else plain(found)[1]
    if value is not None and not _numeric(value):
        raise FhirPathError(f"{what} takes a number")
    return value


def _round(value: Number, places: Number = 0) -> Number:
    if isinstance(value, int):
        return value
    if not isinstance(places, int) or not 0 <= places <= 30:
        raise FhirPathError("round() takes a precision from 0 to 30")
    if value.adjusted() >= 28:
        return value
    return _CONTEXT.quantize(value, Decimal(1).scaleb(-places))


def _float(answer: Callable[..., float]) -> Callable[..., Decimal | None]:
    """A function that is computed in floating point; empty outside its domain."""

    def run(*values: Number) -> Decimal | None:
        try:
            found = answer(*map(float, values))
        except (ValueError, OverflowError, ZeroDivisionError):
            return None
        return Decimal(repr(found)) if math.isfinite(found) else None

    return run


def _power(value: Number, exponent: Number) -> Number | None:
    try:
        found = _CONTEXT.power(Decimal(value), Decimal(exponent))
    except (decimal.InvalidOperation, decimal.Overflow):
        return None
    exact = isinstance(value, int) and isinstance(exponent, int) and exponent >= 0
    return int(found) if exact and found.adjusted() < _DIGITS else found


def _sqrt(value: Number) -> Number | None:
    return None if value < 0 else Decimal(value).sqrt()


def _precision(focus: Focus, input: Collection) -> Collection:
    found = single(input, "precision()")
    value = None if found is None else plain(found)[1]
    if value is None:
        return []
    if isinstance(value, Temporal):
        digits = sum(4 if i == 0 and value.type != "System.Time" else 2 for i in _span(value))
        return number(digits + len(value.fraction))
    if not _numeric(value):
        raise FhirPathError("precision() takes a number, a date or a time")
    return number(max(-int(Decimal(value).as_tuple().exponent), 0))


def _span(value: Temporal) -> range:
    return range(len(value.parts))


def _comparable(focus: Focus, input: Collection, other: Collection) -> Collection:
    one, two = single(input, "comparable()"), single(other, "comparable()")
    if one is None or two is None:
        return []
    a, b = plain(one)[1], plain(two)[1]
    if not isinstance(a, Quantity) or not isinstance(b, Quantity):
        raise FhirPathError("comparable() takes quantities")
    return [("System.Boolean", same_unit(a, b, units(focus.world)) is not None, None)]


def negative(input: Collection) -> Collection:
    """`-operand`"""
    found = single(input, "`-`")
    value = None if found is None else plain(found)[1]
    if value is None:
        return []
    if isinstance(value, Quantity):
        return [item(value._replace(value=-value.value))]
    if not _numeric(value):
        raise FhirPathError("`-` takes a number")
    return number(-value)


TABLE = {
    "abs": _numerical("abs()", abs),
    "ceiling": _numerical("ceiling()", lambda value: whole(value, ROUND_CEILING)),
    "floor": _numerical("floor()", lambda value: whole(value, ROUND_FLOOR)),
    "truncate": _numerical("truncate()", whole),
    "round": _numerical("round()", _round, 1),
    "exp": _numerical("exp()", _float(math.exp)),
    "ln": _numerical("ln()", _float(math.log)),
    "log": _numerical("log()", _float(math.log), 1, 1),
    "power": _numerical("power()", _power, 1, 1),
    "sqrt": _numerical("sqrt()", _sqrt),
    "precision": Function(_precision),
    "comparable": Function(_comparable, 1, 1),
}
