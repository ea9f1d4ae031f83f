"""A Match as a term: what its conditions ask, on the rows of its shape.

https://hl7.org/fhir/R4/search.html#ptypes
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import product
from math import ceil, floor, isfinite
from typing import Any, TypeAlias

from fhir_server.storage.sqlite.codec import ID_TEXT
from fhir_server.storage.sqlite.entries import LONG, SPANS, UNDATED
from fhir_server.storage.sqlite.resources import first_at
from fhir_server.storage.sqlite.sql import (
    EXACT,
    FALSE,
    Sql,
    all_of,
    among,
    holds,
    joined,
    member,
    spread,
)
from fhir_server.storage.sqlite.state import Reach
from fhir_server.storage.sqlite.term import PK, Term
from fhir_server.storage.store import (
    EVENT_TIME,
    EVENTS,
    ID,
    UPDATED,
    Condition,
    Entry,
    Field,
    Match,
    meets,
)

Conditions: TypeAlias = tuple[Condition, ...]
Params: TypeAlias = dict[int, str]  # the shape of each p under which a param is numbered

LISTED = 64  # values or phrases that are looked up one by one; more are a nested SELECT

# The fields that entries of a shape can have.
_FIELDS: dict[str, frozenset[Field]] = {
    "token": frozenset(("system", "code")),
    "text": frozenset(("text", "code")),
    "range": frozenset(("low", "high", "system", "code")),
    "link": frozenset(("system", "code", "low")),
}


def compile_match(reach: Reach, type: str, query: Match) -> Term | bool:
    """The term for a match on resources of a type; a bool when it is the same for all of them."""
    conditions = _present(query.conditions, _FIELDS[query.shape])
    kind = reach.kind(type)
    if conditions is None or kind is None:
        return False
    if query.param == ID:
        return query.shape == "token" and _id(reach, type, conditions)
    if query.param == UPDATED or (type == EVENTS and query.param == EVENT_TIME):
        return query.shape == "range" and _time(reach, type, conditions)
    params = params_of(reach, kind, query.param, query.shape)
    if not params:
        return False
    if not conditions:
        return _any_entry(type, query.shape, params)
    return _SHAPES[query.shape](reach, type, params, conditions)


def compile_ranges(
    reach: Reach, type: str, params: Iterable[str], conditions: Conditions
) -> Term | bool:
    """The term for ranges of some one of several params that meet the same conditions."""
    kind = reach.kind(type)
    if kind is None:
        return False
    numbers: Params = {}
    for param in params:
        numbers.update(params_of(reach, kind, param, "range"))
    return _range(reach, type, numbers, conditions) if numbers else False


def live(reach: Reach, type: str) -> Callable[[str], Sql]:
    """That a resource is there, live and of the type."""
    if type == EVENTS:
        return lambda pk: Sql(f"EXISTS (SELECT 1 FROM event WHERE n = -{pk})")
    kind = reach.kind(type)
    test = "EXISTS (SELECT 1 FROM resource WHERE type = ? AND deleted = 0 AND pk = "
    return lambda pk: Sql(f"{test}{pk})", (kind,))


def finite(group: tuple[str, int], numbers: Iterable[int]) -> Term:
    """The entry of a param has one of these numbers: values, phrases, or what links lead to."""
    listed = tuple(sorted(numbers))
    shape, p = group
    return _FINITE[shape](p, listed)


def _present(conditions: Conditions, fields: frozenset[Field]) -> Conditions | None:
    """The conditions on fields that the shape has; None when another field has to be there."""
    for condition in conditions:
        if condition.field not in fields and condition[1:] != ("eq", None):
            return None
    return tuple(condition for condition in conditions if condition.field in fields)


def params_of(reach: Reach, kind: int, param: str, shape: str) -> Params:
    shapes = (*SPANS, *LONG.values()) if shape == "range" else (shape,)
    found = ((reach.param(kind, param, each), each) for each in shapes)
    return {p: each for p, each in found if p is not None}


# --- entries of any value ------------------------------------------------------------------------

_ENUMERATED = {
    "token": "SELECT pk FROM token WHERE ",
    "range": "SELECT pk FROM range WHERE ",
    "text": "SELECT t.pk AS pk FROM phrase f CROSS JOIN text t ON t.w = f.w WHERE f.",
}


def _any_entry(type: str, shape: str, params: Params) -> Term:
    which = member("p", tuple(params))
    start = _ENUMERATED.get(shape)
    source = None if start is None else start + which
    if type == EVENTS:
        listed = source or "SELECT src AS pk FROM link WHERE src < 0 AND " + which
        return Term(f"{PK} IN (" + listed + ")", source, rank=8, own=True)
    test = "EXISTS (SELECT 1 FROM resource CROSS JOIN mixed ON h = mix WHERE "
    return Term(test + which + f" AND pk = {PK})", source, rank=8, own=True)


# --- tokens and texts ----------------------------------------------------------------------------

# Terms on a few values are the commonest, and their texts are few.


@lru_cache(64)
def _token_texts(size: int) -> tuple[str, str]:
    start = f"FROM token WHERE p = ? AND {among('v', size)}"
    return f"EXISTS (SELECT 1 {start} AND pk = {PK})", f"SELECT pk {start}"


@lru_cache(64)
def _phrase_texts(size: int) -> tuple[str, str]:
    start = f"FROM text WHERE {among('w', size)}"
    return f"EXISTS (SELECT 1 {start} AND pk = {PK})", f"SELECT pk {start}"


@lru_cache(64)
def _link_texts(size: int) -> tuple[str, str]:
    start = f"p = ? AND {among('dst', size)}"
    test = f"EXISTS (SELECT 1 FROM link WHERE src = {PK} AND src > 0 AND {start})"
    return test, f"SELECT src AS pk FROM link WHERE {start}"


def _tokens(p: int, values: tuple[int, ...]) -> Term:
    test, source = _token_texts(len(values))
    asked = (p, *spread(values))
    arm = _token_texts(1)[1] if 1 < len(values) <= EXACT else None
    single, group = len(values) == 1, ("token", p)
    return Term(Sql(test, asked), Sql(source, asked), 3, single, True, group, values, arm=arm)


def _texts(p: int, phrases: tuple[int, ...]) -> Term:
    test, source = _phrase_texts(len(phrases))
    asked = spread(phrases)
    arm = _phrase_texts(1)[1] if 1 < len(phrases) <= EXACT else None
    single, group = len(phrases) == 1, ("text", p)
    return Term(Sql(test, asked), Sql(source, asked), 2, single, True, group, phrases, arm=arm)


def _token(reach: Reach, type: str, params: Params, conditions: Conditions) -> Term | bool:
    (p,) = params
    values = _values(reach, conditions)
    if isinstance(values, tuple):
        return _tokens(p, values) if values else False
    source = Sql(
        "SELECT t.pk AS pk FROM token t CROSS JOIN value x ON x.v = t.v WHERE t.p = ? AND ", (p,)
    )
    source = source + values
    return Term(f"{PK} IN (" + source + ")", source, rank=7, own=True)


def _text(reach: Reach, type: str, params: Params, conditions: Conditions) -> Term | bool:
    (p,) = params
    asked = all_of([holds(f"f.{each.field}", each) for each in conditions])
    phrases = Sql("SELECT f.w FROM phrase f WHERE f.p = ? AND ", (p,)) + asked
    few = f"{phrases.text} LIMIT {LISTED + 1}"
    found: list[Any] = reach.conn.execute(few, phrases.values).fetchall()
    if len(found) <= LISTED:
        return _texts(p, tuple([w for (w,) in found])) if found else False
    join = "FROM phrase f CROSS JOIN text t ON t.w = f.w WHERE f.p = ? AND "
    source = Sql(f"SELECT t.pk AS pk {join}", (p,)) + asked
    backwards = Sql("FROM text t CROSS JOIN phrase f ON f.w = t.w WHERE f.p = ? AND ", (p,)) + asked
    test = "EXISTS (SELECT 1 " + backwards + f" AND t.pk = {PK})"
    return Term(test, source, rank=7, own=True)


def _values(reach: Reach, conditions: Conditions) -> tuple[int, ...] | Sql:
    """The values that meet the conditions on system and code, or what must hold of a `value x`."""
    if _one_value(conditions):
        known = reach.value(conditions[0].value, conditions[1].value)  # type: ignore[arg-type]
        return () if known is None else (known,)
    codes, systems = _choices(conditions, "code"), _choices(conditions, "system")
    if codes is None or len(codes) > LISTED:
        return _value_filter(conditions)
    if systems is not None and len(codes) * len(systems) <= LISTED:
        pairs = product(systems, codes)
        those = [reach.value(*pair) for pair in pairs if _fits(conditions, *pair)]
        return tuple([v for v in those if v is not None])
    sql = "SELECT v, name FROM value JOIN system USING (s) WHERE code IS ?"
    found: list[int] = []
    for code in codes:
        rows: list[Any] = reach.conn.execute(sql, (code,)).fetchall()
        found += [v for v, system in rows if _fits(conditions, system, code)]
    return tuple(found)


def _one_value(conditions: Conditions) -> bool:
    """Whether they are just a system and a code, as they are most often."""
    return [each[:2] for each in conditions] == _ONE_VALUE


_ONE_VALUE = [("system", "eq"), ("code", "eq")]


def _value_filter(conditions: Conditions) -> Sql:
    codes = [holds("x.code", each) for each in conditions if each.field == "code"]
    systems = [holds("name", each) for each in conditions if each.field == "system"]
    if systems:
        codes.append("x.s IN (SELECT s FROM system WHERE " + all_of(systems) + ")")
    return all_of(codes)


def _choices(conditions: Conditions, field: Field) -> frozenset[str | None] | None:
    """The values that a field can have when conditions hold; None when there is no end of them."""
    chosen: frozenset[str | None] | None = None
    for condition in conditions:
        if condition.field == field and condition.operator in ("eq", "in"):
            value = condition.value
            these = value if isinstance(value, frozenset) else frozenset((value,))
            chosen = these if chosen is None else chosen & these  # type: ignore[assignment]
    return chosen


def _fits(conditions: Conditions, system: str | None, code: str | None) -> bool:
    entry = Entry("token", "", system, code)
    return all(meets(entry, each) for each in conditions if each.field in ("system", "code"))


# --- ranges --------------------------------------------------------------------------------------


def _range(reach: Reach, type: str, params: Params, conditions: Conditions) -> Term | bool:
    asked = [holds(each.field, each) for each in conditions if each.field in ("low", "high")]
    if any(each.field in ("system", "code") for each in conditions):
        units = _values(reach, conditions)
        if isinstance(units, Sql):
            asked.append("unit IN (SELECT x.v FROM value x WHERE " + units + ")")
        elif units:
            asked.append(member("unit", units))
        else:
            return False
    test = all_of(asked)
    which = member("p", tuple(params))
    sources = [
        Sql("SELECT pk FROM range WHERE p = ? AND ", (p,)) + all_of([*bounds, test])
        for p, bounds in _bounded(params, conditions)
    ]

    probe = "EXISTS (SELECT 1 FROM range WHERE " + which + " AND " + test + f" AND pk = {PK})"
    return Term(probe, joined(sources, " UNION ALL "), rank=4, own=True)


def _bounded(params: Params, conditions: Conditions) -> Iterable[tuple[int, list[Sql]]]:
    """Each param with what follows for `low`, which the index is led by, from conditions on
    `high`: low <= high, and in a short range high is near."""
    for p, shape in params.items():
        bounds: list[Sql] = []
        for _, operator, value in (each for each in conditions if each.field == "high"):
            if not isinstance(value, int | float):
                continue
            if operator in ("le", "lt", "eq"):
                bounds.append(Sql("low <= ?", (value,)))
            if operator in ("ge", "gt", "eq") and shape in SPANS:
                bounds.append(Sql("low >= ?", (below(value, SPANS[shape]),)))
        yield p, bounds


def below(value: int | float, span: int | float) -> int | float:
    """A number certainly at or below `value - span`, whatever floats lose."""
    if isinstance(value, int) and isinstance(span, int):
        return max(value - span, -(2**63))
    return value - span - abs(value) * 1e-12 if isfinite(value) else value


# --- links ---------------------------------------------------------------------------------------


def _links(p: int, targets: tuple[int, ...]) -> Term:
    test, source = _link_texts(len(targets))
    asked = (p, *spread(targets))
    single, group = len(targets) == 1, ("link", p)
    return Term(Sql(test, asked), Sql(source, asked), 1, False, True, group, targets, single)


def _event_links(p: int, targets: tuple[int, ...]) -> Term:
    """Links of events have no index by src, but all carry the time of their event."""
    those = Sql("p = ? AND ", (p,)) + member("dst", targets)
    time = f"(SELECT at FROM event WHERE n = -{PK})"
    test = "EXISTS (SELECT 1 FROM link WHERE " + those + f" AND at = {time} AND src = {PK})"
    source = "SELECT src AS pk FROM link WHERE " + those
    return Term(test, source, 1, False, True, ("event link", p), targets, len(targets) == 1)


def _link(reach: Reach, type: str, params: Params, conditions: Conditions) -> Term | bool:
    (p,) = params
    if _one_value(conditions) and None not in (conditions[0].value, conditions[1].value):
        target = reach.pk(conditions[0].value, conditions[1].value)  # type: ignore[arg-type]
        return target is not None and finite((_LINKS.get(type, "link"), p), (target,))
    dated = all_of([_dated(each) for each in conditions if each.field == "low"])
    codes = _choices(conditions, "code")
    if codes is None or len(codes) > LISTED:
        return _open_link(type, p, conditions, dated)
    systems = _choices(conditions, "system") or _types(reach)
    found = [
        reach.pk(system, code)
        for system, code in product(systems, codes)
        if system is not None and code is not None and _fits(conditions, system, code)
    ]
    targets = tuple(sorted(pk for pk in found if pk is not None))
    if not targets:
        return False
    if not any(each.field == "low" for each in conditions):
        return finite((_LINKS.get(type, "link"), p), targets)
    return _some_link(type, p, member("dst", targets) + " AND " + dated)


_LINKS = {EVENTS: "event link"}


def _types(reach: Reach) -> frozenset[str | None]:
    return frozenset((EVENTS, *(name for (name,) in reach.conn.execute("SELECT name FROM kind"))))


def _dated(condition: Condition) -> Sql:
    """A condition on the sort key that a link carries."""
    if condition.value is None:
        return Sql("at = ?", (UNDATED,)) if condition.operator == "eq" else FALSE
    return Sql("at <> ? AND ", (UNDATED,)) + holds("at", condition)


def _open_link(type: str, p: int, conditions: Conditions, dated: Sql) -> Term:
    """Links by the type they lead to, or by a part of the id."""

    def asked(system: str, code: str) -> Sql:
        columns = {"system": system, "code": code}
        return all_of([holds(columns[c.field], c) for c in conditions if c.field in columns])

    resource = asked("k.name", ID_TEXT.format("d.id"))
    event = asked(f"'{EVENTS}'", "CAST(-dst AS TEXT)")
    leads = "(EXISTS (SELECT 1 FROM resource d CROSS JOIN kind k ON k.k = d.type"
    leads_sql = leads + " WHERE d.pk = dst AND " + resource + ") OR (dst < 0 AND " + event + "))"
    return _some_link(type, p, leads_sql + " AND " + dated)


def _some_link(type: str, p: int, test: Sql) -> Term:
    if type == EVENTS:
        listed = Sql("SELECT src AS pk FROM link WHERE src < 0 AND p = ? AND ", (p,)) + test
        return Term(f"{PK} IN (" + listed + ")", own=True)
    start = f"EXISTS (SELECT 1 FROM link WHERE src = {PK} AND src > 0 AND "
    return Term(start + Sql("p = ? AND ", (p,)) + test + ")", own=True)


# --- what every resource has ---------------------------------------------------------------------


def _id(reach: Reach, type: str, conditions: Conditions) -> Term | bool:
    named = tuple(each for each in conditions if each.field == "code")
    if any(each[1:] != ("eq", None) for each in conditions if each.field == "system"):
        return False
    if not named:
        return True
    codes = _choices(named, "code")
    if codes is None:
        return _id_pattern(type, named)
    if len(named) > 1 or None in codes:  # a single condition is met by what it chooses
        met = (
            code
            for code in codes
            if code is not None and all(meets(Entry("token", ID, None, code), e) for e in named)
        )
        codes = frozenset(met)
    found = [reach.pk(type, code) for code in codes]  # type: ignore[arg-type]
    events = type == EVENTS
    numbers = tuple(sorted(pk for pk in found if pk is not None and (pk < 0) is events))
    if not numbers:
        return False
    if events:
        source = "SELECT -n AS pk FROM event WHERE " + member("n", [-pk for pk in numbers])
    else:
        source = "SELECT pk FROM resource WHERE deleted = 0 AND " + member("pk", numbers)
    return Term(member(PK, numbers), source, rank=0)


def _id_pattern(type: str, named: Conditions) -> Term:
    if type == EVENTS:
        return Term(all_of([holds(f"CAST(-{PK} AS TEXT)", each) for each in named]))
    test = all_of([holds(ID_TEXT.format("id"), each) for each in named])
    return Term(f"EXISTS (SELECT 1 FROM resource WHERE pk = {PK} AND " + test + ")")


def _time(reach: Reach, type: str, conditions: Conditions) -> Term | bool:
    """The time of a version, which grows with its sequence, or of an event."""
    timed = [each for each in conditions if each.field in ("low", "high")]
    if any(each[1:] != ("eq", None) for each in conditions if each not in timed):
        return False
    if not timed:
        return True
    if type == EVENTS:
        test = all_of([holds("at", each) for each in timed])
        source = "SELECT -n AS pk FROM event WHERE " + test
        probe = "EXISTS (SELECT 1 FROM event WHERE " + test + f" AND n = -{PK})"
        return Term(probe, source, rank=4, own=True)
    test = all_of([holds("updated", each) for each in timed])
    kind = reach.kind(type)
    source = Sql("SELECT pk FROM resource WHERE type = ? AND ver > 0 AND deleted = 0 AND ", (kind,))
    source = source + all_of([test, *_sequences(reach, timed)])
    probe = "EXISTS (SELECT 1 FROM resource WHERE deleted = 0 AND " + test + f" AND pk = {PK})"
    return Term(probe, source, rank=4)


def _sequences(reach: Reach, timed: list[Condition]) -> Iterable[Sql]:
    """What the conditions on the time say about the sequence, which is indexed."""
    for _, operator, value in timed:
        if not isinstance(value, int | float) or not isfinite(value):
            continue
        if operator in ("ge", "gt", "eq"):
            yield Sql("t >= ?", (first_at(reach, 0, ceil(value)),))
        if operator in ("le", "lt", "eq"):
            yield Sql("t < ?", (first_at(reach, 0, floor(value) + 1),))


_SHAPES: dict[str, Callable[[Reach, str, Params, Conditions], Term | bool]] = {
    "token": _token,
    "text": _text,
    "range": _range,
    "link": _link,
}

_FINITE: dict[str, Callable[[int, tuple[int, ...]], Term]] = {
    "token": _tokens,
    "text": _texts,
    "link": _links,
    "event link": _event_links,
}
