"""Decimals as ranges of floats, with the precision that their digits imply.

https://hl7.org/fhir/R4/search.html#number
"""

from __future__ import annotations

import math
import re
import sys
from decimal import Decimal

LEAST = -sys.float_info.max
GREATEST = sys.float_info.max

_DIGITS = 64  # characters of a number in a search value
_ASKED = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,4})?", re.ASCII)


def stored(value: Decimal | int) -> float:
    """The nearest float; beyond the floats their ends, never an infinity."""
    try:
        return min(max(float(value), LEAST), GREATEST)
    except OverflowError:
        return GREATEST if value > 0 else LEAST


def above(value: Decimal | int) -> float:
    """The least float beyond a number: where an open range (`>5`) begins."""
    return min(math.nextafter(stored(value), math.inf), GREATEST)


def below(value: Decimal | int) -> float:
    """The greatest float below a number: where an open range (`<5`) ends."""
    return max(math.nextafter(stored(value), -math.inf), LEAST)


def asked(text: str) -> Decimal:
    """The number that a search value writes. ValueError when it is none."""
    if len(text) > _DIGITS or not _ASKED.fullmatch(text):
        raise ValueError("not a number")
    value = Decimal(text)
    if not math.isfinite(float(value)):
        raise ValueError("not a number")
    return value


def ends(value: Decimal) -> tuple[Decimal, Decimal]:
    """The ends of what a number implies at its precision: of 5 they are 4.5 and 5.5."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)  # `asked` lets no NaN or infinity through
    # The standard's own example reads 1e2 as [95, 105): a tenth of what its one digit would imply.
    half = Decimal(5).scaleb(exponent - (2 if exponent > 0 else 1))
    return value - half, value + half


def implied(value: Decimal) -> tuple[float, float]:
    """The half-open range [low, high) of values that equal this one at its precision: 5 is
    [4.5, 5.5), 5.00 is [4.995, 5.005). It holds the value's own float, however narrow it is."""
    own = stored(value)
    low, high = ends(value)
    # From some 16 digits on, both ends would be rounded to the float that stands for the value.
    return min(stored(low), own), max(stored(high), next_above(own))


def next_above(value: float) -> float:
    """The next float; behind the greatest comes the infinity."""
    return math.nextafter(value, math.inf)


def near(value: Decimal) -> tuple[Decimal, Decimal]:
    """The ends of 10% around a number."""
    tenth = abs(value) / 10
    return value - tenth, value + tenth


def approximate(value: Decimal) -> tuple[float, float]:
    """The range that `ap` means: within 10% of the value, and at least its implied range."""
    low, high = implied(value)
    least, greatest = near(value)
    return min(low, stored(least)), max(high, stored(greatest))
