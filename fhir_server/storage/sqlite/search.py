"""Pages of search results, and counts.

A page goes on after the last place in the order of the first one, among the resources that have not
changed since (`phase` 1); then come the others that match now, in the order of their creation
(`phase` 2). https://hl7.org/fhir/R4/http.html#paging
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.storage.sqlite.frame import Candidates, Frame, Line, select
from fhir_server.storage.sqlite.plan import MANY, cheapest, estimate
from fhir_server.storage.sqlite.sorting import by_creation, sorted_lines
from fhir_server.storage.sqlite.sql import Sql, Value
from fhir_server.storage.sqlite.state import Reach
from fhir_server.storage.sqlite.term import Term
from fhir_server.storage.sqlite.terms import Compiler
from fhir_server.storage.store import Found, Page, Query, Sort


def find(reach: Reach, type: str, query: Query, sort: Sequence[Sort], page: Page) -> Found:
    terms = Compiler(reach).conjuncts(type, query)
    if terms is None:
        return Found((), None)
    phase, top, last, *place = page.after or (1, None, None)
    frame = Frame(reach, type, terms, top, last)  # type: ignore[arg-type]
    limit = page.limit + 1
    lines = _steady(frame, sort, place, limit) if phase == 1 else []
    steady = len(lines)
    if page.after and steady < limit and not frame.events:
        lines += _changed(frame, place[0] if phase == 2 else None, limit - steady)
    versions = tuple(line.version for line in lines[: page.limit])
    if len(lines) < limit or not versions:
        return Found(versions, None)
    if not page.after:
        top, last = frame.newest()
    final = lines[page.limit - 1]
    if page.limit <= steady:
        return Found(versions, (1, top, last, *final.values, final.number))  # type: ignore[arg-type]
    return Found(versions, (2, top, last, final.number))


def count(reach: Reach, type: str, query: Query, bound: int | None = None) -> int:
    """How many live resources of a type the query holds for, counted up to the bound."""
    terms = Compiler(reach).conjuncts(type, query)
    if terms is None:
        return 0
    frame = Frame(reach, type, terms)
    driver, _ = cheapest(reach, terms)
    found = frame.candidates(driver)
    chosen = select(f"{'' if found.once else 'DISTINCT '}{found.pk} AS pk", found.rows, found.tests)
    if bound is not None:
        chosen = chosen + Sql(" LIMIT ?", (bound,))
    number: int = reach.conn.execute(f"SELECT count(*) FROM ({chosen.text})", chosen.values).get
    return number


def _steady(frame: Frame, sort: Sequence[Sort], place: Sequence[Value], limit: int) -> list[Line]:
    """The next lines of the first phase."""
    if sort:
        return sorted_lines(frame, sort, place, limit)
    found = frame.candidates(_driver(frame))
    return frame.lines(by_creation(frame, found, place[0] if place else None, limit), 0)


def _driver(frame: Frame) -> Term | None:
    """What to enumerate for a page in the order of creation. An index in that order can stop when
    the page is full; of the others, one with many rows costs more than looking at all resources in
    that order. Links stay: what belongs to one resource lies together, far from the start."""
    driver, _ = cheapest(frame.reach, frame.terms)
    if driver is None or driver.ordered or driver.walk:
        return driver
    if estimate(frame.reach, driver) < MANY:
        return driver
    return next((term for term in frame.terms if term.ordered), None)


def _changed(frame: Frame, number: Value, limit: int) -> list[Line]:
    """The next lines of the second phase: changed since the first page, which knew of them."""
    rows = Sql("resource c")
    since = Sql(
        "c.type = ? AND c.ver > 0 AND c.deleted = 0 AND c.t > ? AND c.pk <= ?",
        (frame.reach.kind(frame.type), frame.top, frame.last),
    )
    unbound = Frame(frame.reach, frame.type, frame.terms)
    tests = [since, *unbound.tests("c.pk", None, scanned=True)]
    found = Candidates(rows, "c.pk", tests, True, "c.pk", False)
    return frame.lines(by_creation(frame, found, number, limit), 0)
