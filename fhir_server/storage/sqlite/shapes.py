"""Searches of one shape: their SQL is put together once, and then only filled with values.

Most of what a short search costs is putting its statements together, and they are few: what changes
from one request to the next are the values. https://www.sqlite.org/lang_expr.html#parameters
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from msgspec.structs import replace

from fhir_server.storage.sqlite.sql import Sql, Value
from fhir_server.storage.sqlite.term import Term

Fill: TypeAlias = Callable[[Sequence[Value]], tuple[Value, ...]]


class Slot(int):
    """Stands for the value at this place among those of a search; never at the first, so that no
    Slot is false."""


class Statement(NamedTuple):
    """A SELECT of pk and sort values, and which of the values of a search it takes."""

    text: str
    fill: Fill


class Plan(NamedTuple):
    """How the lines of a page are found: from each of these statements up to the limit, put into
    one order, and then from the last one, of the lines without a sort value. `values` is how many
    sort values a line has."""

    statements: tuple[Statement, ...]
    missing: Statement | None
    descending: bool
    values: int


LIMIT, TOP, LAST, PLACE = Slot(1), Slot(2), Slot(3), 4


def values_of(
    limit: int, top: Value, last: Value, place: Sequence[Value], terms: Sequence[Term]
) -> list[Value]:
    """The values of one search, in the order of its slots."""
    values: list[Value] = [None, limit, top, last, *place]
    for term in terms:
        values += term.test.values
        if term.source is not None:
            values += term.source.values
    return values


def slotted_place(place: Sequence[Value]) -> tuple[Value, ...]:
    """The place with slots for its values; what is absent stays so."""
    return tuple([v if v is None else Slot(PLACE + n) for n, v in enumerate(place)])


def slotted_terms(terms: Sequence[Term], places: int) -> list[Term]:
    """The terms with slots for their values."""
    made: list[Term] = []
    start = PLACE + places
    for term in terms:
        test, start = _slotted(term.test, start)
        source = None
        if term.source is not None:
            source, start = _slotted(term.source, start)
        made.append(replace(term, test=test, source=source))
    return made


def _slotted(sql: Sql, start: int) -> tuple[Sql, int]:
    end = start + len(sql.values)
    return Sql(sql.text, tuple(map(Slot, range(start, end)))), end


def statement(sql: Sql) -> Statement:
    """A statement whose slots are filled with the values of each search."""
    if all(isinstance(value, Slot) for value in sql.values) and len(sql.values) > 1:
        return Statement(sql.text, itemgetter(*sql.values))
    return Statement(sql.text, _filling(sql.values))


def _filling(wanted: tuple[Any, ...]) -> Fill:
    def fill(values: Sequence[Value]) -> tuple[Value, ...]:
        return tuple([values[v] if type(v) is Slot else v for v in wanted])

    return fill
