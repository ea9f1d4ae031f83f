"""What a unit is worth: a factor and powers of base units, or a function of them.

Factors are exact fractions; a number meets them as a decimal of 44 digits and leaves with 28. An
arbitrary unit is a dimension of its own. https://ucum.org/ucum#section-Semantics
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction
from functools import cache, lru_cache
from typing import NamedTuple, TypeAlias

from terminology.ucum.functions import EXACT, FUNCTIONS, Function
from terminology.ucum.grammar import Component, Number, Simple, Term, UnitError, parse
from terminology.ucum.table import table

UNITY = "1"
DIGITS = 28  # of a result
_BITS = 4096  # of a numerator or denominator
_UNITS = 4096  # that are remembered

_ROUNDED = Context(prec=DIGITS, Emax=99_999, Emin=-99_999, traps=[InvalidOperation])

_ONE = Fraction(1)
_Ratio: TypeAlias = tuple[int, int]  # whole numbers, that divided make a factor
Dimensions: TypeAlias = tuple[tuple[str, int], ...]
Conversion: TypeAlias = Callable[[Decimal], Decimal]


class Unit(NamedTuple):
    """`factor` of the canonical units in `key`; a special unit's number, times `prefix`, goes
    through `function` first. `scale` is the factor as a decimal."""

    key: str
    factor: Fraction
    scale: Decimal
    dimensions: Dimensions
    function: Function | None = None
    prefix: Decimal = Decimal(1)


class _Worth(NamedTuple):
    """The worth of an atom: `special` is its function, of which only one unit alone is made."""

    factor: Fraction
    dimensions: Mapping[str, int]
    special: Function | None = None


@lru_cache(maxsize=_UNITS)
def _parsed(code: str) -> Term | UnitError:
    known = table()
    try:
        return parse(code, known.atoms, known.prefixes)
    except UnitError as why:
        return why


def parsed(code: str) -> Term:
    """The parts of a code. UnitError when it is no unit."""
    found = _parsed(code)
    if isinstance(found, UnitError):
        raise UnitError(*found.args)
    return found


def wrong(code: str) -> str | None:
    """Why a code is no unit; None when it is one."""
    found = _parsed(code)
    return str(found) if isinstance(found, UnitError) else None


@lru_cache(maxsize=_UNITS)
def _unit(code: str) -> Unit | UnitError:
    try:
        return _valued(parsed(code)) if code else _made(Fraction(1), {})
    except UnitError as why:
        return why


def unit(code: str) -> Unit:
    """A unit's worth; of an empty code unity. UnitError when it is none, or is no measure: a
    special unit in a product, a factor beyond all bounds."""
    found = _unit(code)
    if isinstance(found, UnitError):
        raise UnitError(*found.args)
    return found


def known_unit(code: str) -> Unit | None:
    """The same, None where `unit` raises."""
    found = _unit(code)
    return None if isinstance(found, UnitError) else found


def _valued(term: Term) -> Unit:
    only = term[0][1] if len(term) == 1 and term[0][0] == "." else None
    if isinstance(only, Simple) and only.atom is not None and only.exponent == 1:
        worth = _worth(only.atom.code)
        if worth.special is not None:
            prefix = _prefixed(only)
            number = EXACT.divide(Decimal(prefix.numerator), Decimal(prefix.denominator))
            made = _made(worth.factor, worth.dimensions)
            return made._replace(function=worth.special, prefix=number)
    return _made(*_product(term))


def _made(factor: Fraction, dimensions: Mapping[str, int]) -> Unit:
    present = tuple(sorted((each for each in dimensions.items() if each[1]), key=_order))
    scale = EXACT.divide(Decimal(factor.numerator), Decimal(factor.denominator))
    return Unit(key_of(present), factor, scale, present)


def _order(dimension: tuple[str, int]) -> tuple[int, str]:
    places = _places()
    return places.get(dimension[0], len(places)), dimension[0]


@cache
def _places() -> Mapping[str, int]:
    return {name: place for place, name in enumerate(table().dimensions)}


def key_of(dimensions: Iterable[tuple[str, int]]) -> str:
    """The code of a product of powers: canonical units as UCUM writes them."""
    return ".".join(f"{name}{power if power != 1 else ''}" for name, power in dimensions) or UNITY


def _product(term: Term) -> tuple[Fraction, dict[str, int]]:
    above, below, dimensions = 1, 1, dict[str, int]()
    for operator, component in term:
        sign = -1 if operator == "/" else 1
        value, powers = _component(component)
        above, below = _times((above, below), _power(value, sign))
        for name, power in powers.items():
            dimensions[name] = dimensions.get(name, 0) + sign * power
    return Fraction(above, below), dimensions


def _component(component: Component) -> tuple[_Ratio, Mapping[str, int]]:
    if isinstance(component, Number):
        return (component.value, 1), {}
    if not isinstance(component, Simple):
        factor, powers = _product(component)
        return _ratio(factor), powers
    if component.atom is None:
        return (1, 1), {}
    worth, exponent = _worth(component.atom.code), component.exponent
    if worth.special is not None:
        raise UnitError(f"{component.atom.code} is on a scale of its own: it has no products")
    value = _times(_ratio(worth.factor), _ratio(_prefixed(component)))
    if exponent == 1:
        return value, worth.dimensions
    return _power(value, exponent), {
        name: power * exponent for name, power in worth.dimensions.items()
    }


def _prefixed(simple: Simple) -> Fraction:
    return _ONE if simple.prefix is None else table().factors[simple.prefix.code]


def _ratio(value: Fraction) -> _Ratio:
    return value.numerator, value.denominator


def _times(one: _Ratio, other: _Ratio) -> _Ratio:
    above, below = one[0] * other[0], one[1] * other[1]
    if above.bit_length() > _BITS or below.bit_length() > _BITS:
        raise _too_large()
    return above, below


def _power(value: _Ratio, exponent: int) -> _Ratio:
    """Powers of whole numbers, once it is seen that they are not too large."""
    above, below = value if exponent > 0 else value[::-1]
    if below == 0:
        raise UnitError("nothing can be divided by zero")
    times = abs(exponent)
    if times == 1:
        return above, below
    if max(above.bit_length(), below.bit_length()) * times > _BITS:
        raise _too_large()
    return above**times, below**times


def _too_large() -> UnitError:
    return UnitError("the unit is too large or too small to be reckoned with")


@cache
def _worth(atom: str) -> _Worth:
    defined = table().defined[atom]
    if defined.unit is None or (defined.arbitrary and defined.unit == UNITY):
        return _Worth(Fraction(1), {atom: 1})
    factor, dimensions = _product(parsed(defined.unit))
    special = FUNCTIONS[defined.function] if defined.function else None
    return _Worth(defined.value * factor, dimensions, special)


# --- numbers -------------------------------------------------------------------------------------


@lru_cache(maxsize=_UNITS)
def conversion(source: str, target: str) -> Conversion | None:
    """What makes a number of the target of one of the source, rounded; None when that cannot be.
    It raises decimal.InvalidOperation for a number that the units do not have, and gives an
    infinity for one beyond all bounds."""
    a, b = known_unit(source), known_unit(target)
    if a is None or b is None or a.dimensions != b.dimensions or not b.factor:
        return None
    if source == target:
        return _ROUNDED.plus
    if a.function is None and b.function is None:
        ratio = a.factor / b.factor
        scale = EXACT.divide(Decimal(ratio.numerator), Decimal(ratio.denominator))
        return lambda number: _ROUNDED.plus(EXACT.multiply(number, scale))
    return lambda number: _ROUNDED.plus(_special(b, _proper(a, number)))


def _proper(unit: Unit, number: Decimal) -> Decimal:
    if unit.function is not None:
        number = unit.function.proper(EXACT.multiply(number, unit.prefix))
    return EXACT.multiply(number, unit.scale)


def _special(unit: Unit, number: Decimal) -> Decimal:
    number = EXACT.divide(number, unit.scale)
    if unit.function is not None:
        number = EXACT.divide(unit.function.special(number), unit.prefix)
    return number


def neat(number: Decimal) -> Decimal:
    """The number without the zeros that rounding left behind it."""
    return number.normalize(_ROUNDED) if len(number.as_tuple().digits) >= DIGITS else number


def product(a: Unit, b: Unit, sign: int) -> Unit:
    """Of two units without functions, b to the power of `sign`."""
    powers = dict(a.dimensions)
    for name, power in b.dimensions:
        powers[name] = powers.get(name, 0) + sign * power
    return _made(Fraction(*_times(_ratio(a.factor), _power(_ratio(b.factor), sign))), powers)


def scaled(one: Decimal, other: Decimal, sign: int, scale: Decimal) -> Decimal:
    """The product or quotient of two numbers, in the scale of their unit."""
    joined = EXACT.multiply(one, other) if sign > 0 else EXACT.divide(one, other)
    return _ROUNDED.plus(EXACT.multiply(joined, scale))
