"""Ranges that lie here or there, as `ge` and `le` ask: one term instead of one for each.

https://hl7.org/fhir/R4/search.html#prefix
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias, TypeGuard

from fhir_server.storage.sqlite.entries import SPANS
from fhir_server.storage.sqlite.matches import Conditions, below, params_of
from fhir_server.storage.sqlite.sql import COMPARED, Sql, among, spread
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
    asked = tuple([tuple([each[:2] for each in match.conditions]) for match in matches])
    values = [each.value for match in matches for each in match.conditions]
    hulls = [_hull(matches, shape) for shape in params.values()]
    probe, source = _texts(asked, tuple([tuple([text for text, _ in hull]) for hull in hulls]))
    listed = [
        value
        for p, hull in zip(params, hulls, strict=True)
        for value in (p, *[bound for _, bound in hull], *values)
    ]
    test = Sql(probe, (*spread(tuple(params)), *values))  # type: ignore[arg-type]
    return Term(test, Sql(source, tuple(listed)), rank=4, own=True)  # type: ignore[arg-type]


_Bound: TypeAlias = tuple[str, int | float]  # a test of `low`, and its value


@lru_cache(256)
def _texts(
    asked: tuple[tuple[tuple[str, ...], ...], ...], hulls: tuple[tuple[str, ...], ...]
) -> tuple[str, str]:
    """The texts of the test and of the source, by the fields and operators of each match and the
    bounds of each param."""
    ways = [" AND ".join([f"{field} {COMPARED[by]} ?" for field, by in each]) for each in asked]
    test = f"({' OR '.join([f'({each})' for each in ways])})"
    start = "SELECT pk FROM range WHERE p = ?"
    probe = f"EXISTS (SELECT 1 FROM range WHERE {among('p', len(hulls))} AND {test} AND pk = {PK})"
    return probe, " UNION ALL ".join([" AND ".join([start, *hull, test]) for hull in hulls])


def _hull(matches: Sequence[Match], shape: str) -> list[_Bound]:
    """Between what `low` must lie, whichever of the matches holds."""
    found: list[_Bound] = []
    floors = [_floor(match.conditions, shape) for match in matches]
    ceilings = [_ceiling(match.conditions) for match in matches]
    if None not in floors:
        found.append(("low >= ?", min([each for each in floors if each is not None])))
    if None not in ceilings:
        found.append(("low <= ?", max([each for each in ceilings if each is not None])))
    return found


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
