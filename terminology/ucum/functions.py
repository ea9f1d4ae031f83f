"""The function pairs of special units, to and from what their proper unit measures.

https://ucum.org/ucum#section-Special-Units-on-non-ratio-Scales
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, DivisionByZero, InvalidOperation
from typing import NamedTuple

# Beyond these exponents nothing measures: a power that would leave them becomes an infinity.
EXACT = Context(prec=44, Emax=99_999, Emin=-99_999, traps=[InvalidOperation, DivisionByZero])

_TEN = Decimal(10)
_LN2 = EXACT.ln(Decimal(2))


class Function(NamedTuple):
    """`proper` makes of the special unit's number that of its proper unit, `special` the reverse.
    They raise decimal.InvalidOperation where they are not defined."""

    proper: Callable[[Decimal], Decimal]
    special: Callable[[Decimal], Decimal]


def _offset(zero: str) -> Function:
    """A scale whose zero lies `zero` of its own degrees above the absolute one."""
    absolute = Decimal(zero)
    return Function(lambda x: EXACT.add(x, absolute), lambda x: EXACT.subtract(x, absolute))


def _logarithm(base: int, times: int) -> Function:
    """`times` the logarithm to a base: a level."""
    factor = Decimal(times)
    ln_base = EXACT.divide(EXACT.ln(Decimal(base)), factor)
    return Function(
        lambda x: EXACT.power(Decimal(base), EXACT.divide(x, factor)),
        lambda x: EXACT.divide(_ln(x), ln_base),
    )


def _lg(times: int) -> Function:
    factor = Decimal(times)
    return Function(
        lambda x: EXACT.power(_TEN, EXACT.divide(x, factor)),
        lambda x: EXACT.multiply(EXACT.log10(_positive(x)), factor),
    )


def _positive(x: Decimal) -> Decimal:
    if x <= 0:
        raise InvalidOperation("a logarithm of what is not above zero")
    return x


def _ln(x: Decimal) -> Decimal:
    return EXACT.ln(_positive(x))


def _tangent(unit: float) -> Function:
    """A slope in percent of an angle in a unit of so many radians; the only one through floats."""
    return Function(
        lambda x: Decimal(repr(math.atan(float(x) / 100) / unit)),
        lambda x: Decimal(repr(math.tan(float(x) * unit) * 100)),
    )


FUNCTIONS: Mapping[str, Function] = {
    "Cel": _offset("273.15"),
    "degF": _offset("459.67"),
    "degRe": _offset("218.52"),
    "pH": _lg(-1),
    "ln": Function(EXACT.exp, _ln),
    "lg": _lg(1),
    "lgTimes2": _lg(2),
    "ld": Function(lambda x: EXACT.power(Decimal(2), x), lambda x: EXACT.divide(_ln(x), _LN2)),
    "hpX": _lg(-1),
    "hpC": _logarithm(100, -1),
    "hpM": _logarithm(1_000, -1),
    "hpQ": _logarithm(50_000, -1),
    "tanTimes100": _tangent(1.0),
    "100tan": _tangent(math.pi / 180),
    "sqrt": Function(
        lambda x: EXACT.multiply(x, x),
        EXACT.sqrt,
    ),
}
