"""In which units a quantity is found: in its own, and in one that all of its kind share.

What most quantities are in is asked for by itself, so that they need no entry but their own; any
other unit of UCUM gets a second entry, in the first common unit of what it measures.
https://hl7.org/fhir/R4/search.html#quantity
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from functools import cache, lru_cache
from typing import NamedTuple

from terminology import ucum
from terminology.ucum.spelled import spelled

SYSTEM = ucum.SYSTEM
IN = "|"  # between a param and the common unit in which it has quantities of other units

# One for each kind of quantity: what clinics use most, since that needs no second entry.
_COMMON = (
    "mg/dL",
    "mmol/L",
    "%",
    "mm[Hg]",
    "cm",
    "kg",
    "kg/m2",
    "Cel",
    "/min",
    "U/L",
    "mL/min/{1.73_m2}",
    "fL",
    "a",
)


class Other(NamedTuple):
    """The common unit and what a number becomes in it; `falling` when a greater one becomes less.
    `param` is what follows the param of its entries."""

    code: str
    change: ucum.Conversion
    falling: bool
    param: str


@cache
def _common() -> Mapping[str, str]:
    return {ucum.canonical_key(code) or "": code for code in _COMMON}


@lru_cache(maxsize=4096)
def common(code: str) -> str | None:
    """The unit that all quantities of this one's kind are found in: the common one, or else the
    canonical one. None for what is no measure."""
    key = ucum.canonical_key(code)
    return None if key is None else _common().get(key, key)


@lru_cache(maxsize=4096)
def other(code: str) -> Other | None:
    """The unit in which a quantity of this one gets a second entry: none where it is the common
    one already, nor for what is no measure."""
    target = common(code)
    if target is None or target == code:
        return None
    change = ucum.conversion(code, target)
    if change is None:
        return None
    return Other(target, change, change(Decimal(1)) > change(Decimal(2)), IN + target)


@lru_cache(maxsize=4096)
def is_unit(code: str) -> bool:
    """Whether UCUM has a unit."""
    return ucum.validate(code) is None


def meant(code: str) -> str | None:
    """The unit that a usual spelling of it means, where that is not the one of UCUM."""
    return spelled(code)


def digest() -> str:
    """Equal where the same quantities get the same entries."""
    return hashlib.sha256(f"{ucum.version()} {_COMMON}".encode()).hexdigest()
