"""Ranges that lie here or there, as `ge` and `le` ask: one term instead of one for each.

https://hl7.org/fhir/R4/search.html#prefix
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeGuard

from fhir_server.storage.sqlite.entries import SPANS
from fhir_server.storage.sqlite.matches import Conditions, below, params_of
from fhir_server.storage.sqlite.sql import Sql, all_of, any_of, holds, joined, member
from fhir_server.storage.sqlite.state import Reach
from fhir_server.storage.sqlite.term import PK, Term
from fhir_server.storage.store import EVENT_TIME, EVENTS, UPDATED, Match, Query


def plain_range(query: Query, type: str) -> TypeGuard[Match]:
    """Whether a query asks of a range nothing but where it lies."""
    return (
        isinstance(query, Match)
        and query.shape == "range"
        and query.param != UPDATED
        and not (type == EVENTS and query.param == EVENT_TIME)
        and bool(query.conditions)
        and all(
            each.field in ("low", "high") and isinstance(each.value, int | float)
            for each in query.conditions
        )
    )


def measured_range(query: Query) -> TypeGuard[Match]:
    """Whether a query asks in which unit a range lies where; times have none."""
    return (
        isinstance(query, Match)
        and query.shape == "range"
        and any(each.field == "code" and each.value is not None for each in query.conditions)
    )


def either_range(reach: Reach, type: str, matches: Sequence[Match]) -> Term | bool:
    """The term for ranges of one param that lie here or there: one look, not one for each."""
    kind = reach.kind(type)
    params = {} if kind is None else params_of(reach, kind, matches[0].param, "range")
    if not params:
        return False
    tests = [[holds(each.field, each) for each in match.conditions] for match in matches]
    test = any_of([all_of(each) for each in tests])
    sources = [
        Sql("SELECT pk FROM range WHERE p = ? AND ", (p,)) + all_of([*_hull(matches, shape), test])
        for p, shape in params.items()
    ]
    which = member("p", tuple(params))
    probe = "EXISTS (SELECT 1 FROM range WHERE " + which + " AND " + test + f" AND pk = {PK})"
    return Term(probe, joined(sources, " UNION ALL "), rank=4, own=True)


def _hull(matches: Sequence[Match], shape: str) -> Iterator[Sql]:
    """Between what `low` must lie, whichever of the matches holds."""
    floors = [_floor(match.conditions, shape) for match in matches]
    ceilings = [_ceiling(match.conditions) for match in matches]
    if None not in floors:
        yield Sql("low >= ?", (min(each for each in floors if each is not None),))
    if None not in ceilings:
        yield Sql("low <= ?", (max(each for each in ceilings if each is not None),))


def _floor(conditions: Conditions, shape: str) -> int | float | None:
    found: list[int | float] = []
    for field, operator, value in conditions:
        if operator in ("ge", "gt", "eq") and isinstance(value, int | float):
            if field == "low":
                found.append(value)
            elif shape in SPANS:
                found.append(below(value, SPANS[shape]))
    return max(found, default=None)


def _ceiling(conditions: Conditions) -> int | float | None:
    found = [
        value
        for _, operator, value in conditions
        if operator in ("le", "lt", "eq") and isinstance(value, int | float)
    ]
    return min(found, default=None)
