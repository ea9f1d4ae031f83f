"""Comparison prefixes as conditions on ranges: of dates, numbers and quantities alike.

https://hl7.org/fhir/R4/search.html#prefix
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from fhir_server.storage.store import AnyOf, Condition, Field, Match, Operator, Query

Conditions: TypeAlias = tuple[Condition, ...]


class Bounds(NamedTuple):
    """What a search value covers. `low` and `high` are its implied range, whose end `last` says
    to be inclusive (dates) or not (numbers); `least` and `greatest` are what lt, gt and their like
    compare with: the same for dates, the exact value for numbers; `before` is what an end must
    lie below for `eb`. `near` is the range of `ap`."""

    low: int | float
    high: int | float
    least: int | float
    greatest: int | float
    before: int | float
    last: bool
    near: tuple[int | float, int | float]


def _within(b: Bounds, low: Field, high: Field) -> Conditions:
    end: Operator = "le" if b.last else "lt"
    return Condition(low, "ge", b.low), Condition(high, end, b.high)


def _or(one: Condition, other: Condition) -> tuple[Conditions, ...]:
    """Either condition; of a point (one field is both ends) the second says nothing more."""
    return ((one,),) if one.field == other.field else ((one,), (other,))


# Each prefix: alternatives, of which some one must hold wholly on one entry. ge is gt or within the
# value's range, and since low <= high that is: it does not begin before, or it ends behind; le
# likewise.
_PREFIXES: Mapping[str, Callable[[Bounds, Field, Field], tuple[Conditions, ...]]] = {
    "eq": lambda b, low, high: (_within(b, low, high),),
    "ne": lambda b, low, high: (
        (Condition(low, "lt", b.low),),
        (Condition(high, "gt" if b.last else "ge", b.high),),
    ),
    "gt": lambda b, low, high: ((Condition(high, "gt", b.greatest),),),
    "lt": lambda b, low, high: ((Condition(low, "lt", b.least),),),
    "ge": lambda b, low, high: _or(
        Condition(low, "ge", b.least), Condition(high, "gt", b.greatest)
    ),
    "le": lambda b, low, high: _or(
        Condition(high, "le", b.greatest), Condition(low, "lt", b.least)
    ),
    "sa": lambda b, low, high: ((Condition(low, "gt", b.greatest),),),
    "eb": lambda b, low, high: ((Condition(high, "lt", b.before),),),
    "ap": lambda b, low, high: (
        (Condition(low, "le", b.near[1]), Condition(high, "ge", b.near[0])),
    ),
}


def alternatives(
    prefix: str, bounds: Bounds, low: Field = "low", high: Field = "high"
) -> tuple[Conditions, ...]:
    """The alternatives of a comparison with an entry whose ends are in these fields."""
    return _PREFIXES[prefix](bounds, low, high)


def compared(param: str, prefix: str, bounds: Bounds, unit: Conditions = ()) -> list[Query]:
    """The comparison as queries of which one must hold; `unit` holds on the same entry."""
    return [Match(param, "range", (*unit, *each)) for each in alternatives(prefix, bounds)]


def any_of(queries: list[Query]) -> Query:
    """Some one of these."""
    return queries[0] if len(queries) == 1 else AnyOf(tuple(queries))
