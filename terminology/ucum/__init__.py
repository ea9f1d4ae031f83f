"""Units of measure by UCUM: is a code a unit, what is a value in its canonical units or in others.

https://ucum.org/ucum, https://hl7.org/fhir/R4/terminologies-systems.html (Using UCUM with FHIR)
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from terminology.ucum import units
from terminology.ucum.display import words
from terminology.ucum.grammar import UnitError
from terminology.ucum.table import table
from terminology.ucum.units import UNITY, Conversion, Unit, conversion

__all__ = [
    "SYSTEM",
    "UNITY",
    "Conversion",
    "UnitError",
    "canonical",
    "canonical_key",
    "commensurable",
    "conversion",
    "convert",
    "display",
    "divide",
    "multiply",
    "symbol",
    "validate",
    "version",
]

SYSTEM = "http://unitsofmeasure.org"


def version() -> str:
    """The version of the essence of UCUM."""
    return table().version


def validate(code: str) -> str | None:
    """Why a code is no unit; None when it is one. The reason does not repeat the code."""
    return units.wrong(code)


def canonical_key(code: str) -> str | None:
    """The canonical units that a unit is measured in, as a code; None when it is no measure."""
    found = units.known_unit(code)
    return None if found is None else found.key


def canonical(value: Decimal, code: str) -> tuple[Decimal, str] | None:
    """A value in canonical units: 37 `Cel` is 310.15 `K`. None when the code is no unit, is no
    measure (a special unit in a product), or does not have the value."""
    key = canonical_key(code)
    if key is None:
        return None
    try:
        return _converted(value, code, key), key
    except UnitError:
        return None


def commensurable(a: str, b: str) -> bool:
    """Whether the values of two units can be compared."""
    one, other = units.known_unit(a), units.known_unit(b)
    return one is not None and other is not None and one.dimensions == other.dimensions


def convert(value: Decimal, a: str, b: str) -> Decimal:
    """A value of unit a in unit b, with up to 28 digits. UnitError when a code is no unit, when
    they measure different things, or when there is no such value."""
    return _converted(value, a, b)


def multiply(one: tuple[Decimal, str], other: tuple[Decimal, str]) -> tuple[Decimal, str]:
    """The product of two values, in canonical units. UnitError for special units."""
    return _product(one, other, 1)


def divide(one: tuple[Decimal, str], other: tuple[Decimal, str]) -> tuple[Decimal, str]:
    """The quotient of two values, in canonical units. UnitError for special units, or zero."""
    if not other[0]:
        raise UnitError("nothing can be divided by zero")
    return _product(one, other, -1)


def display(code: str) -> str:
    """The unit in words; of an empty code those for unity. UnitError when it is no unit."""
    return words(units.parsed(code)) if code else "(unity)"


def symbol(code: str) -> str | None:
    """How a unit that is a single symbol is printed; None of others."""
    found = table().defined.get(code)
    return None if found is None else found.symbol


def _converted(value: Decimal, a: str, b: str) -> Decimal:
    change = conversion(a, b)
    if change is None:
        units.unit(a), units.unit(b)
        raise UnitError("the two units measure different things")
    try:
        number = change(value)
    except (InvalidOperation, OverflowError, ValueError):
        raise UnitError("the unit has no such value") from None
    if not number.is_finite():
        raise UnitError("the value is beyond all bounds")
    return units.neat(number)


def _product(
    one: tuple[Decimal, str], other: tuple[Decimal, str], sign: int
) -> tuple[Decimal, str]:
    a, b = units.unit(one[1]), units.unit(other[1])
    if a.function is not None or b.function is not None:
        raise UnitError("a unit on a scale of its own has no products")
    made: Unit = units.product(a, b, sign)
    number = units.scaled(one[0], other[0], sign, made.scale)
    return units.neat(number), made.key
