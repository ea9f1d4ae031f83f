"""Dates, times and quantities as FHIRPath compares them: with the precision they were written in.

http://hl7.org/fhirpath/N1/#datetime-comparison
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from conformance.fhirpath.host import Units

_DATE = r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d))?)?"
_CLOCK = r"(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d+))?)?)?"
_ZONE = r"(?P<zone>Z|[+-]\d\d:\d\d)?"
_SHAPES = {
    "System.Date": re.compile(_DATE, re.ASCII),
    "System.DateTime": re.compile(f"{_DATE}(?:T(?:{_CLOCK}{_ZONE})?)?", re.ASCII),
    "System.Time": re.compile(_CLOCK, re.ASCII),
}
_FIELDS = {
    "System.Date": ("year", "month", "day"),
    "System.DateTime": ("year", "month", "day", "hour", "minute", "second"),
    "System.Time": ("hour", "minute", "second"),
}
_LIMITS = {
    "year": (1, 9999),
    "month": (1, 12),
    "day": (1, 31),
    "hour": (0, 23),
    "minute": (0, 59),
    "second": (0, 60),
}


class Temporal(NamedTuple):
    """A date, dateTime or time to the precision of its `parts` (year to second, or hour to second);
    `fraction` holds the digits of a second, `offset` the minutes east of UTC."""

    type: str
    parts: tuple[int, ...]
    fraction: str = ""
    offset: int | None = None

    def __str__(self) -> str:
        if self.type == "System.Time":
            return _clock(self.parts, self.fraction)
        date = "-".join(f"{part:0{4 if i == 0 else 2}d}" for i, part in enumerate(self.parts[:3]))
        if self.type == "System.Date":
            return date
        return f"{date}T{_clock(self.parts[3:], self.fraction)}{_zone(self.offset)}"


def temporal(type: str, text: str) -> Temporal | None:
    """The value that `text` spells in a System type (Date, DateTime, Time); None if it is none."""
    found = _SHAPES[type].fullmatch(text)
    if found is None:
        return None
    parts: list[int] = []
    for field in _FIELDS[type]:
        digits = found[field]
        if digits is None:
            break
        low, high = _LIMITS[field]
        if not low <= int(digits) <= high:
            return None
        parts.append(int(digits))
    groups = found.groupdict()
    return Temporal(type, tuple(parts), groups.get("fraction") or "", _offset(groups.get("zone")))


def compare(left: Temporal, right: Temporal) -> int | None:
    """-1, 0 or 1; None when the precision does not tell, or only one has an offset (the standard
    leaves the other's zone to the implementation: we do not guess)."""
    if left.offset is not None or right.offset is not None:
        if left.offset is None or right.offset is None:
            return _apart(left, right)
        left, right = utc(left), utc(right)
    for one, other in zip(left.parts, right.parts, strict=False):
        if one != other:
            return -1 if one < other else 1
    if len(left.parts) != len(right.parts):
        return None
    width = max(len(left.fraction), len(right.fraction))
    digits = left.fraction.ljust(width, "0"), right.fraction.ljust(width, "0")
    return (digits[0] > digits[1]) - (digits[0] < digits[1])


# What the calendar words of a quantity are in UCUM; a calendar year or month is no definite
# duration, so it equals no UCUM unit.
CALENDAR = {
    "year": None,
    "month": None,
    "week": "wk",
    "day": "d",
    "hour": "h",
    "minute": "min",
    "second": "s",
    "millisecond": "ms",
}
# UCUM's year and month, the mean ones.
_MEAN = {"year": "a", "month": "mo"}
_DURATIONS = {
    "wk": Decimal(604_800_000),
    "d": Decimal(86_400_000),
    "h": Decimal(3_600_000),
    "min": Decimal(60_000),
    "s": Decimal(1_000),
    "ms": Decimal(1),
}
_MASSES = {"kg": Decimal(1000), "g": Decimal(1), "mg": Decimal("0.001"), "ug": Decimal("0.000001")}
_LENGTHS = {"m": Decimal(1), "cm": Decimal("0.01"), "mm": Decimal("0.001"), "km": Decimal(1000)}
_MONTHS = {"year": Decimal(12), "month": Decimal(1)}
_SCALES = (_DURATIONS, _MASSES, _LENGTHS, _MONTHS)


class Quantity(NamedTuple):
    """A number with a UCUM unit, or (`calendar`) a calendar word in the singular."""

    value: Decimal | int
    unit: str
    calendar: bool = False

    def __str__(self) -> str:
        if not self.calendar:
            return f"{self.value} '{self.unit}'"
        return f"{self.value} {self.unit}{'' if self.value == 1 else 's'}"


def same_unit(
    left: Quantity, right: Quantity, ucum: Units | None = None
) -> tuple[Decimal | int, Decimal | int] | None:
    """Both values in one unit; None when the units do not compare. Equal units, durations, masses,
    lengths and the calendar are known here, all others to `ucum`."""
    units = _unit(left), _unit(right)
    if units[0] == units[1]:
        return left.value, right.value
    for scale in _SCALES:
        if units[0] in scale and units[1] in scale:
            return left.value * scale[units[0]], right.value * scale[units[1]]
    one, other = _canonical(left, ucum), _canonical(right, ucum)
    if one is None or other is None or one[1] != other[1]:
        return None
    return one[0], other[0]


def factors(
    left: Quantity, right: Quantity, ucum: Units | None = None
) -> tuple[Decimal, Decimal] | None:
    """What one of each unit is in a unit of both; None when the units do not compare, and for a
    scale whose zero is not that of the other (`Cel` and `K`)."""
    units = _unit(left), _unit(right)
    if units[0] == units[1]:
        return Decimal(1), Decimal(1)
    for scale in _SCALES:
        if units[0] in scale and units[1] in scale:
            return scale[units[0]], scale[units[1]]
    one, other = (_factor(each, ucum) for each in (left, right))
    if one is None or other is None or one[1] != other[1]:
        return None
    return one[0], other[0]


def _factor(quantity: Quantity, ucum: Units | None) -> tuple[Decimal, str] | None:
    found = [_canonical(quantity._replace(value=each), ucum) for each in (0, 1, 2)]
    if found[0] is None or found[1] is None or found[2] is None or found[0][0] != 0:
        return None
    # Logarithmic units do not double.
    return found[1] if found[2][0] == 2 * found[1][0] else None


def product(left: Quantity, right: Quantity, operator: str, ucum: Units | None) -> str | None:
    """The unit of a product (`.`) or quotient (`/`); None when it cannot be told."""
    units = _unit(left), _unit(right)
    if units[1] == "1":
        return units[0]
    if units[0] == "1" and operator == ".":
        return units[1]
    if units[0] == units[1] and operator == "/":
        return "1"
    if ucum is None or not all(_ucum(each) for each in (left, right)):
        return None
    composed = operator.join("1" if each == "1" else f"({each})" for each in units)
    return composed if ucum.canonical(Decimal(1), composed) else None


def definite(quantity: Quantity) -> Quantity:
    """The same as a duration of UCUM, which a calendar one is equivalent to."""
    if not quantity.calendar:
        return quantity
    return Quantity(quantity.value, CALENDAR[quantity.unit] or _MEAN[quantity.unit])


def _canonical(quantity: Quantity, ucum: Units | None) -> tuple[Decimal, str] | None:
    if ucum is None or not _ucum(quantity):
        return None
    return ucum.canonical(Decimal(quantity.value), _unit(quantity))


def _ucum(quantity: Quantity) -> bool:
    """Whether the unit is one of UCUM's: a calendar month or year is none."""
    return not quantity.calendar or CALENDAR[quantity.unit] is not None


def amount(quantity: Quantity, ucum: Units | None = None) -> Hashable:
    """A key that two quantities share when, and only when, they are of one unit or of one scale
    and of equal value."""
    unit, canonical = _unit(quantity), _canonical(quantity, ucum)
    if canonical is not None:
        return "quantity", canonical[1], canonical[0]
    for number, scale in enumerate(_SCALES):
        if unit in scale:
            return "quantity", number, Fraction(quantity.value) * Fraction(scale[unit])
    return "quantity", unit, quantity.value


def words() -> Iterator[tuple[str, str]]:
    """The calendar words, singular and plural, with their singular."""
    for word in CALENDAR:
        yield word, word
        yield f"{word}s", word


def _unit(quantity: Quantity) -> str:
    if not quantity.calendar:
        return quantity.unit
    return CALENDAR[quantity.unit] or quantity.unit


def _clock(parts: tuple[int, ...], fraction: str) -> str:
    return ":".join(f"{part:02d}" for part in parts) + (f".{fraction}" if fraction else "")


def _zone(offset: int | None) -> str:
    if offset is None:
        return ""
    if offset == 0:
        return "Z"
    return f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"


def _offset(zone: str | None) -> int | None:
    if not zone:
        return None
    if zone == "Z":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[4:6])
    return -minutes if zone[0] == "-" else minutes


def utc(value: Temporal) -> Temporal:
    """The same instant at offset zero, at the same precision."""
    if not value.offset:
        return value
    year, month, day, hour, minute = (*value.parts[:5], 0)[:5]
    try:
        moved = datetime(year, month, day, hour, minute) - timedelta(minutes=value.offset)
    except (ValueError, OverflowError):
        return value
    fields = (moved.year, moved.month, moved.day, moved.hour, moved.minute, *value.parts[5:])
    return value._replace(parts=fields[: len(value.parts)], offset=0)


def _apart(left: Temporal, right: Temporal) -> int | None:
    """Compares when one offset is unknown: certain only if more than a day lies between."""
    if len(left.parts) < 3 or len(right.parts) < 3:
        shared = min(len(left.parts), len(right.parts))
        one, other = left.parts[:shared], right.parts[:shared]
        return None if one == other else (-1 if one < other else 1)
    try:
        days = (_day(left) - _day(right)).days
    except ValueError:  # 30 February and the like
        return None
    return None if abs(days) <= 2 else (-1 if days < 0 else 1)


def _day(value: Temporal) -> date:
    year, month, day = value.parts[:3]
    return date(year, month, day)
