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

SYSTEM = ucum.SYSTEM
CANONICAL = "|canonical"  # what follows a param where a quantity is in the unit that all share

# By what is measured: one line each. Every unit here costs a search of its kind one more look, and
# saves its quantities an entry: so these are few.
_COMMON = (
    ("mg/dL", "g/dL"),
    ("mmol/L", "10*3/uL", "10*6/uL"),
    ("{score}", "%"),
    ("mm[Hg]",),
    ("cm",),
    ("kg", "pg"),
    ("kg/m2",),
    ("Cel",),
    ("/min",),
    ("U/L",),
    ("mL/min", "mL/min/{1.73_m2}"),
    ("fL", "mL"),
    ("a", "d", "min"),
)


class Other(NamedTuple):
    """Another unit and what a number becomes in it; `falling` when a greater one becomes less.
    `param` is what follows the param of the entries that are in it."""

    code: str
    change: ucum.Conversion
    falling: bool
    param: str


@cache
def _common() -> Mapping[str, tuple[str, ...]]:
    return {ucum.canonical_key(alike[0]) or "": alike for alike in _COMMON}


def _alike(key: str) -> tuple[str, ...]:
    """The common units of what is measured in canonical units; where there are none, just those."""
    return _common().get(key) or (key,)


@lru_cache(maxsize=4096)
def shared(code: str) -> Other | None:
    """The unit in which a quantity of this one gets a second entry: none for a common unit, nor
    for what is no measure."""
    key = ucum.canonical_key(code)
    if key is None or code in _alike(key):
        return None
    return _other(code, _alike(key)[0], CANONICAL)


@lru_cache(maxsize=4096)
def others(code: str) -> tuple[Other, ...]:
    """Everywhere that quantities comparable with one of this unit are, but for its own entries."""
    key = ucum.canonical_key(code)
    if key is None:
        return ()
    alike = _alike(key)
    own = [_other(code, each, "") for each in alike if each != code]
    found = [*own, _other(code, alike[0], CANONICAL)]
    return tuple(each for each in found if each is not None)


def _other(code: str, target: str, param: str) -> Other | None:
    change = ucum.conversion(code, target)
    if change is None:
        return None
    return Other(target, change, change(Decimal(1)) > change(Decimal(2)), param)


def digest() -> str:
    """Equal where the same quantities get the same entries."""
    return hashlib.sha256(f"{ucum.version()} {_COMMON}".encode()).hexdigest()
