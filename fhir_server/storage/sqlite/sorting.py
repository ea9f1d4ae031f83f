"""Sorted pages: walking an index in order, or computing the sort values of the candidates.

The order is the same whichever way: by the sort values, missing ones last, then by creation, in the
direction of the first sort. https://hl7.org/fhir/R4/search.html#sort
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from fhir_server.storage.sqlite.codec import ID_TEXT
from fhir_server.storage.sqlite.entries import LONG, SPANS, UNDATED
from fhir_server.storage.sqlite.frame import Candidates, Frame, select
from fhir_server.storage.sqlite.plan import MANY, cheapest, estimate
from fhir_server.storage.sqlite.shapes import Plan
from fhir_server.storage.sqlite.sql import Sql, Value, all_of, any_of, joined, member
from fhir_server.storage.sqlite.term import Term
from fhir_server.storage.store import EVENT_TIME, ID, UPDATED, Sort

Place = Sequence[Value]  # the sort values and the number of the line before; empty at the start


class Walk(NamedTuple):
    """An index in the order of a sort value: FROM, the SQL of pk and value, what must hold."""

    rows: Sql
    pk: str
    value: str
    tests: list[Sql]


class Choice(NamedTuple):
    """How a sorted page is found: by walking the links to one resource, an index of the sort's own,
    or by computing; the place of the term that drives it."""

    way: str
    term: int | None
    params: tuple[tuple[int, ...], ...] = ()


def choose(frame: Frame, sort: Sequence[Sort]) -> Choice:
    """The cheapest way."""
    terms = frame.terms
    driver, rows = cheapest(frame.reach, terms)
    number = None if driver is None else terms.index(driver)
    if len(sort) == 1:
        (only,) = sort
        link = next((n for n, term in enumerate(terms) if term.walk), None)
        timed = frame.events and is_time(frame, only)
        if link is not None and (timed or (only.carried and only.shape == "range")):
            if link == number or 4 * rows > estimate(frame.reach, terms[link]):
                return Choice("links", link)
        elif driver is None or estimate(frame.reach, driver) >= MANY:
            if is_time(frame, only):
                return Choice("time", None)
            params = tuple(_params(frame, only))
            if params and _has_index(frame, only):
                return Choice(only.shape, None, (params,))
    return Choice("computed", number, tuple([tuple(_params(frame, each)) for each in sort]))


def _has_index(frame: Frame, sort: Sort) -> bool:
    return not frame.events and sort.shape in ("range", "text") and UPDATED not in sort.params


def sorted_plan(
    frame: Frame, choice: Choice, sort: Sequence[Sort], place: Place, limit: Value
) -> Plan:
    """The statements for the lines after a place."""
    if choice.way == "computed":
        found = _computed(frame, choice, sort, place, limit)
        return Plan(tuple(map(frame.statement, found)), None, False, len(sort))
    descending = sort[0].descending
    if choice.way == "links":
        return _walk_links(frame, frame.terms[choice.term or 0], descending, place, limit)
    if choice.way == "time":
        return _walk(frame, [_by_time(frame)], None, descending, place, limit)
    (params,) = choice.params
    missing = frame.candidates(None)
    value = _SHAPE_VALUES[choice.way](missing.pk, params)
    missing.tests.append("NOT EXISTS (SELECT 1 " + value + ")")
    make = _by_range if choice.way == "range" else _by_text
    walks = [make(frame, p, params, descending) for p in params]
    return _walk(frame, walks, missing, descending, place, limit)


def by_creation(
    frame: Frame,
    found: Candidates,
    number: Value,
    limit: Value,
    *,
    descending: bool = False,
    columns: str = "",
) -> Sql:
    """The candidates after a number, in the order of creation."""
    tests = list(found.tests)
    down = found.down is not descending
    if number is not None:
        start = -int(number) if found.down else number
        tests.append(Sql(f"{found.place} {'<' if down else '>'} ?", (start,)))
    if found.arms and not columns:
        return merged(found, tests, limit, "DESC" if down else "ASC")
    once = "" if found.once else "DISTINCT "
    chosen = select(f"{once}{found.pk} AS pk{columns}", found.rows, tests)
    return chosen + Sql(f" ORDER BY {found.place} {'DESC' if down else 'ASC'} LIMIT ?", (limit,))


def merged(found: Candidates, tests: list[Sql], limit: Value, direction: str = "ASC") -> Sql:
    """The candidates from their arms, merged: each once, in order, without a table to sort in."""
    arms = [select(f"{found.pk} AS pk", arm, tests) for arm in found.arms]
    return joined(arms, " UNION ") + Sql(f" ORDER BY 1 {direction} LIMIT ?", (limit,))


def is_time(frame: Frame, sort: Sort) -> bool:
    """Whether the sort is by the time of the version, or of the event, alone."""
    times = (UPDATED, EVENT_TIME) if frame.events else (UPDATED,)
    return sort.shape == "range" and len(sort.params) == 1 and sort.params[0] in times


# --- walking -------------------------------------------------------------------------------------


def _walk(
    frame: Frame,
    walks: list[Walk],
    missing: Candidates | None,
    descending: bool,
    place: Place,
    limit: Value,
) -> Plan:
    """Lines from several indexes in one order, then those without a value."""
    over = bool(place) and place[0] is None
    found = [] if over else [_step(frame, walk, descending, place, limit) for walk in walks]
    rest = None
    if missing is not None:
        number = place[1] if over else None
        rest = frame.statement(
            by_creation(frame, missing, number, limit, descending=descending, columns=", NULL")
        )
    return Plan(tuple(map(frame.statement, found)), rest, descending, 1)


def _step(frame: Frame, walk: Walk, descending: bool, place: Place, limit: Value) -> Sql:
    after, direction = ("<", "DESC") if descending else (">", "ASC")
    pk_after, pk_direction = _tie(frame, descending)
    tests = list(walk.tests)
    if place:
        value, number = place
        pk = -int(number or 0) if frame.events else number
        tests.append(Sql(f"{walk.value} {after}= ?", (value,)))
        tests.append(Sql(f"({walk.value} {after} ? OR {walk.pk} {pk_after} ?)", (value, pk)))
    chosen = select(f"{walk.pk} AS pk, {walk.value}", walk.rows, tests)
    order = f" ORDER BY {walk.value} {direction}, {walk.pk} {pk_direction} LIMIT ?"
    return chosen + Sql(order, (limit,))


def _tie(frame: Frame, descending: bool) -> tuple[str, str]:
    """How equal values are told apart: by creation, against which the pks of events count."""
    return ("<", "DESC") if descending is not frame.events else (">", "ASC")


def _walk_links(frame: Frame, link: Term, descending: bool, place: Place, limit: Value) -> Plan:
    """Everything that links to one resource, by the sort key that the links carry."""
    assert link.source is not None
    there = Sql("c.p = ? AND c.dst = ?", link.source.values)
    tests = [there, *frame.tests("c.src", link)]
    rows = Sql("link c")
    dated = Walk(rows, "c.src", "c.at", [*tests, Sql(f"c.at < {UNDATED}")])
    undated = Candidates(
        rows, "c.src", [*tests, Sql(f"c.at = {UNDATED}")], True, "c.src", frame.events
    )
    return _walk(frame, [dated], undated, descending, place, limit)


def _by_time(frame: Frame) -> Walk:
    if frame.events:
        return Walk(Sql("event c"), "(-c.n)", "c.at", frame.tests("(-c.n)", None, scanned=True))
    of_type = Sql("c.type = ? AND c.ver > 0 AND c.deleted = 0", (frame.reach.kind(frame.type),))
    tests = [of_type, *frame.tests("c.pk", None, scanned=True)]
    return Walk(Sql("resource c"), "c.pk", "c.t", tests)


def _by_range(frame: Frame, p: int, params: Sequence[int], descending: bool) -> Walk:
    """Each resource at its least (or greatest) value only."""
    before = ">" if descending else "<"
    tests = [
        Sql("c.p = ?", (p,)),
        *frame.tests("c.pk", None, scanned=True),
        "NOT EXISTS (SELECT 1 FROM range o WHERE o.pk = c.pk AND "
        + member("o.p", params)
        + f" AND (o.low {before} c.low OR (o.low = c.low"
        + " AND (o.p, o.high, o.unit) < (c.p, c.high, c.unit))))",
    ]
    return Walk(Sql("range c"), "c.pk", "c.low", tests)


def _by_text(frame: Frame, p: int, params: Sequence[int], descending: bool) -> Walk:
    before = ">" if descending else "<"
    tests = [
        Sql("f.p = ? AND f.text IS NOT NULL", (p,)),
        *frame.tests("c.pk", None, scanned=True),
        "NOT EXISTS (SELECT 1 FROM text o CROSS JOIN phrase g ON g.w = o.w"
        " WHERE o.pk = c.pk AND "
        + member("g.p", params)
        + f" AND (g.text {before} f.text OR (g.text = f.text AND o.w < c.w)))",
    ]
    return Walk(Sql("phrase f CROSS JOIN text c ON c.w = f.w"), "c.pk", "f.text", tests)


# --- computing -----------------------------------------------------------------------------------


def _computed(
    frame: Frame, choice: Choice, sort: Sequence[Sort], place: Place, limit: Value
) -> list[Sql]:
    """Sort all candidates by values that are looked up for each."""
    found = frame.candidates(None if choice.term is None else frame.terms[choice.term])
    names = [f"k{number}" for number in range(len(sort))]
    columns = Sql(f"{'' if found.once else 'DISTINCT '}{found.pk} AS pk")
    for name, each, params in zip(names, sort, choice.params, strict=True):
        value = _value(frame, each, params, found.pk, len(sort) == 1)
        columns = columns + ", " + value + f" AS {name}"
    chosen = select(columns, found.rows, found.tests)
    after, direction = _tie(frame, sort[0].descending)
    order = [
        f"{name} {'DESC' if each.descending else 'ASC'} NULLS LAST"
        for name, each in zip(names, sort, strict=True)
    ]
    tests = [_beyond(frame, sort, names, place, after)] if place else []
    sql = "WITH all_found AS MATERIALIZED (" + chosen + ") "
    sql = sql + select(", ".join(["pk", *names]), "all_found", tests)
    sql = sql + Sql(f" ORDER BY {', '.join([*order, f'pk {direction}'])} LIMIT ?", (limit,))
    return [sql]


def _beyond(frame: Frame, sort: Sequence[Sort], names: list[str], place: Place, after: str) -> Sql:
    """That a line comes after a place."""
    *values, number = place
    same: list[Sql] = []
    ways: list[Sql] = []
    for each, name, value in zip(sort, names, values, strict=True):
        if value is not None:
            compared = f"({name} {'<' if each.descending else '>'} ? OR {name} IS NULL)"
            ways.append(all_of([*same, Sql(compared, (value,))]))
        same.append(Sql(f"{name} IS ?", (value,)))
    pk = -int(number or 0) if frame.events else number
    return any_of([*ways, all_of([*same, Sql(f"pk {after} ?", (pk,))])])


def _value(frame: Frame, sort: Sort, params: Sequence[int], pk: str, alone: bool) -> Sql:
    """The sort value of a candidate."""
    choose = "max" if sort.descending else "min"
    parts = list(_own_values(frame, sort, pk, alone))
    if params:
        shape = "event token" if frame.events and sort.shape == "token" else sort.shape
        parts.append("SELECT k AS k " + _SHAPE_VALUES[shape](pk, params))
    if not parts:
        return Sql("NULL")
    return f"(SELECT {choose}(k) FROM (" + joined(parts, " UNION ALL ") + "))"


def _own_values(frame: Frame, sort: Sort, pk: str, alone: bool) -> Iterator[Sql]:
    """The values that every resource has, among the params of a sort. The sequence is the finer
    measure of time, but equal times must leave the choice to a further sort."""
    if frame.events:
        if sort.shape == "range" and {UPDATED, EVENT_TIME} & set(sort.params):
            yield Sql(f"SELECT at AS k FROM event WHERE n = -{pk}")
        if sort.shape == "token" and ID in sort.params:
            yield Sql(f"SELECT CAST(-{pk} AS TEXT) AS k")
        return
    if sort.shape == "range" and UPDATED in sort.params:
        time = "t" if alone and len(sort.params) == 1 else "updated"
        yield Sql(f"SELECT {time} AS k FROM resource WHERE pk = {pk}")
    if sort.shape == "token" and ID in sort.params:
        yield Sql(f"SELECT {ID_TEXT.format('id')} AS k FROM resource WHERE pk = {pk}")


def _params(frame: Frame, sort: Sort) -> list[int]:
    kind = frame.reach.kind(frame.type)
    shapes = (*SPANS, *LONG.values()) if sort.shape == "range" else (sort.shape,)
    if kind is None:
        return []
    found = (frame.reach.param(kind, param, shape) for param in sort.params for shape in shapes)
    return [p for p in found if p is not None]


def _range_values(pk: str, params: Sequence[int]) -> Sql:
    return f"FROM (SELECT low AS k FROM range WHERE pk = {pk} AND " + member("p", params) + ")"


def _text_values(pk: str, params: Sequence[int]) -> Sql:
    start = "FROM (SELECT g.text AS k FROM text o CROSS JOIN phrase g ON g.w = o.w"
    return f"{start} WHERE g.text IS NOT NULL AND o.pk = {pk} AND " + member("g.p", params) + ")"


def _token_values(pk: str, params: Sequence[int]) -> Sql:
    start = "FROM (SELECT x.code AS k FROM resource o CROSS JOIN json_each(tokens_of(o.keys, ?)) j"
    end = f" CROSS JOIN value x ON x.v = j.value WHERE o.pk = {pk})"
    return Sql(start + end, (json.dumps(list(params)),))


def _event_token_values(pk: str, params: Sequence[int]) -> Sql:
    start = "FROM (SELECT x.code AS k FROM token o CROSS JOIN value x ON x.v = o.v"
    return f"{start} WHERE o.pk = {pk} AND " + member("o.p", params) + ")"


def _link_values(pk: str, params: Sequence[int]) -> Sql:
    start = (
        f"FROM (SELECT coalesce((SELECT k.name || '/' || {ID_TEXT.format('d.id')}"
        " FROM resource d CROSS JOIN kind k ON k.k = d.type WHERE d.pk = o.dst),"
        f" 'AuditEvent/' || -o.dst) AS k FROM link o WHERE o.src = {pk} AND "
    )
    return start + member("o.p", params) + ")"


_SHAPE_VALUES: dict[str, Callable[[str, Sequence[int]], Sql]] = {
    "range": _range_values,
    "text": _text_values,
    "token": _token_values,
    "event token": _event_token_values,
    "link": _link_values,
}
