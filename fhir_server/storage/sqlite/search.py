"""Pages of search results, and counts.

A page goes on after the last place in the order of the first one, among the resources that have not
changed since (`phase` 1); then come the others that match now, in the order of their creation
(`phase` 2). https://hl7.org/fhir/R4/http.html#paging
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fhir_server.storage.sqlite.frame import Candidates, Frame, Line, select
from fhir_server.storage.sqlite.plan import MANY, cheapest, estimate
from fhir_server.storage.sqlite.shapes import (
    LAST,
    LIMIT,
    TOP,
    Plan,
    slotted_place,
    slotted_terms,
    statement,
    values_of,
)
from fhir_server.storage.sqlite.sorting import Choice, by_creation, choose, merged, sorted_plan
from fhir_server.storage.sqlite.sql import IN_LIST, Sql, Value
from fhir_server.storage.sqlite.state import Reach
from fhir_server.storage.sqlite.term import Term
from fhir_server.storage.sqlite.terms import Compiler
from fhir_server.storage.store import (
    EVENTS,
    All,
    AnyOf,
    Found,
    Not,
    Page,
    Query,
    ReferredBy,
    RefersTo,
    Sort,
)

SHAPES = 2_000  # of searches, whose statements are remembered
WORTH = 4  # rows in the order of creation cost as much as one that must be sorted
TOTALS = 2_000  # of searches, that are remembered


def find(reach: Reach, type: str, query: Query, sort: Sequence[Sort], page: Page) -> Found:
    terms = Compiler(reach).conjuncts(type, query)
    if terms is None:
        return Found((), None)
    phase, top, last, *place = page.after or (1, None, None)
    frame = Frame(reach, type, terms, top, last, page.bodies)
    limit = page.limit + 1
    lines = _lines(frame, _steady_choice(frame, sort), sort, place, limit) if phase == 1 else []
    steady = len(lines)
    if page.after and steady < limit and not frame.events:
        lines += _changed(frame, place[:1] if phase == 2 else [], limit - steady)
    versions = tuple(frame.versions(lines[: page.limit]))
    if len(lines) < limit or not versions:
        return Found(versions, None)
    if not page.after:
        top, last = frame.newest()
    final = lines[page.limit - 1]
    if page.limit <= steady:
        return Found(versions, (1, top, last, *final[1 : len(sort) + 1], frame.number(final)))
    return Found(versions, (2, top, last, frame.number(final)))


def count(reach: Reach, type: str, query: Query, bound: int | None = None) -> int:
    """How many live resources of a type the query holds for, counted up to the bound. A reader
    remembers it for as long as no resource of the types that the query asks about is written."""
    types = sorted({type, *_types(query)})
    if not reach.reads or not reach.current or EVENTS in types:
        return _count(reach, type, query, bound)
    asked = (type, query, bound)
    newest = tuple([reach.conn.execute(_NEWEST, (reach.kind(each),)).get for each in types])
    state = (reach.era, newest)
    totals = reach.shared.totals
    known = totals.get(asked)
    if known is None or known[0] != state:
        if len(totals) >= TOTALS:
            totals.clear()
        known = totals[asked] = (state, _count(reach, type, query, bound))
    return known[1]


_NEWEST = "SELECT max(t) FROM resource WHERE type = ? AND ver > 0"


def _types(query: Query) -> Iterator[str]:
    """The types of resources that a query asks about, besides the one that is searched."""
    match query:
        case All(queries) | AnyOf(queries):
            for each in queries:
                yield from _types(each)
        case Not(inner):
            yield from _types(inner)
        case RefersTo() | ReferredBy():
            yield query.type
            yield from _types(query.query)


def _count(reach: Reach, type: str, query: Query, bound: int | None) -> int:
    terms = Compiler(reach).conjuncts(type, query)
    if terms is None:
        return 0
    frame = Frame(reach, type, terms)
    driver, _ = cheapest(reach, terms)
    choice = Choice("count", None if driver is None else terms.index(driver))
    most = -1 if bound is None else bound
    ((text, fill),) = _planned(frame, choice, (), ()).statements
    number: int = reach.conn.execute(text, fill(values_of(most, None, None, (), terms))).get
    return number


_CHANGED = Choice("changed", None)


def _changed(frame: Frame, place: Sequence[Value], limit: int) -> list[Line]:
    """The next lines of the second phase."""
    return _lines(frame, _CHANGED, (), place, limit)


def _steady_choice(frame: Frame, sort: Sequence[Sort]) -> Choice:
    """How the lines of the first phase are found."""
    if sort:
        return choose(frame, sort)
    driver = _driver(frame)
    return Choice("creation", None if driver is None else frame.terms.index(driver))


def _lines(
    frame: Frame, choice: Choice, sort: Sequence[Sort], place: Sequence[Value], limit: int
) -> list[Line]:
    """The next lines after a place."""
    plan = _planned(frame, choice, sort, place)
    return frame.run(plan, values_of(limit, frame.top, frame.last, place, frame.terms), limit)


def _planned(frame: Frame, choice: Choice, sort: Sequence[Sort], place: Sequence[Value]) -> Plan:
    """The statements of a choice, remembered by all that their text depends on."""
    if frame.events:  # whose places count down
        return _plan(frame, choice, sort, place)
    known, terms = frame.reach.shared.plans, frame.terms
    shape = (
        choice,
        frame.type,
        frame.reach.kind(frame.type),
        tuple(sort),
        frame.top is None,
        frame.bodies,
        tuple([value is None for value in place]),
        tuple([(term.test.text, term.rank, term.own) for term in terms]),
        None if choice.term is None else terms[choice.term].source.text,  # type: ignore[union-attr]
    )
    plan = known.get(shape)
    if plan is None:
        if len(known) >= SHAPES:
            known.clear()
        top, last = (None, None) if frame.top is None else (TOP, LAST)
        terms = slotted_terms(terms, len(place))
        slotted = Frame(frame.reach, frame.type, terms, top, last, frame.bodies)
        plan = known[shape] = _plan(slotted, choice, sort, slotted_place(place))
    return plan


def _plan(frame: Frame, choice: Choice, sort: Sequence[Sort], place: Sequence[Value]) -> Plan:
    """The statements of a choice."""
    if sort:
        return sorted_plan(frame, choice, sort, place, LIMIT)
    number = place[0] if place else None
    driver = None if choice.term is None else frame.terms[choice.term]
    found = _written_since(frame) if choice.way == "changed" else frame.candidates(driver)
    if choice.way == "count":
        made = statement(_counting(found))
    else:
        made = frame.statement(by_creation(frame, found, number, LIMIT))
    return Plan((made,), None, False, 0)


def _counting(found: Candidates) -> Sql:
    """How many candidates there are, up to the limit, which is -1 for all."""
    if found.arms:
        chosen = merged(found, found.tests, LIMIT)
    else:
        once = "" if found.once else "DISTINCT "
        chosen = select(f"{once}{found.pk} AS pk", found.rows, found.tests)
        chosen = chosen + Sql(" LIMIT ?", (LIMIT,))
    return "SELECT count(*) FROM (" + chosen + ")"


def _driver(frame: Frame) -> Term | None:
    """What to enumerate for a page in the order of creation. An index in that order can stop when
    the page is full: it is worth some more rows, and of the others, one with many rows costs more
    than looking at all resources in that order. Links stay: what belongs to one resource lies
    together, far from the start."""
    driver, rows = cheapest(frame.reach, frame.terms)
    if driver is None or driver.ordered or driver.arm or driver.walk:
        return driver
    ordered = [term for term in frame.terms if term.ordered or term.arm]
    if estimate(frame.reach, driver) >= MANY:
        return ordered[0] if ordered else None
    if len(driver.numbers) > IN_LIST:  # a long list is dear to probe
        return driver
    most = rows * WORTH
    fitting = (term for term in ordered if estimate(frame.reach, term, most) < most)
    return next(fitting, driver)


def _written_since(frame: Frame) -> Candidates:
    """The candidates of the second phase: changed since the first page, which knew of them."""
    since = Sql(
        "c.type = ? AND c.ver > 0 AND c.deleted = 0 AND c.t > ? AND c.pk <= ?",
        (frame.reach.kind(frame.type), frame.top, frame.last),
    )
    unbound = Frame(frame.reach, frame.type, frame.terms)
    tests = [since, *unbound.tests("c.pk", None, scanned=True)]
    return Candidates(Sql("resource c"), "c.pk", tests, True, "c.pk", False)
