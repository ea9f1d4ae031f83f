"""Search on AuditEvent: narrow keys find the rows, everything else is checked on the rows found.

https://hl7.org/fhir/R4/auditevent.html#search
"""

from __future__ import annotations

from collections.abc import Sequence

from conformance.json import parse
from conformance.outcome import FhirError
from fhir_server.audit.apart import whole
from fhir_server.audit.links import KEYS
from fhir_server.core import Step
from fhir_server.storage.store import (
    EVENT_TIME,
    EVENTS,
    EVERYTHING,
    ID,
    UPDATED,
    All,
    AnyOf,
    Entry,
    Found,
    Match,
    Not,
    Page,
    Query,
    ReferredBy,
    RefersTo,
    Sort,
    TooCostly,
    Version,
    satisfies,
)
from fhir_server.times import parse_instant

_INDEXED = KEYS | {EVENT_TIME, ID}
_BATCH = 500


async def find_events(step: Step, query: Query, sort: Sequence[Sort], page: Page) -> Found:
    """One page of events. FhirError when it is sorted by anything but the date. TooCostly."""
    if any(each.params != (EVENT_TIME,) for each in sort):
        raise FhirError("not-supported", "AuditEvent is sorted by date only", status=400)
    indexed, rest = _split(query)
    shown: list[Version] = []
    after = page.after
    deadline = _deadline(step)
    while True:
        # As many rows as still fit, so that the place behind the last row is the page's end.
        found = await step.tx.find(EVENTS, indexed, sort, Page(page.limit - len(shown), after))
        shown += [each for each in found.versions if _holds(step, rest, each)]
        after = found.after
        if after is None or len(shown) == page.limit:
            return Found(tuple(shown), after)
        _check(step, deadline)


async def count_events(step: Step, query: Query) -> int:
    """How many events meet a query. TooCostly."""
    indexed, rest = _split(query)
    if rest == EVERYTHING:
        return await step.tx.count(EVENTS, indexed)
    total, after, deadline = 0, None, _deadline(step)
    while True:
        found = await step.tx.find(EVENTS, indexed, (), Page(_BATCH, after))
        total += sum(_holds(step, rest, each) for each in found.versions)
        after = found.after
        if after is None:
            return total
        _check(step, deadline)


def _deadline(step: Step) -> int:
    return step.core.clock() + int(step.core.limits.search_seconds * 1_000_000)


def _check(step: Step, deadline: int) -> None:
    if step.core.clock() > deadline:
        raise TooCostly


def _split(query: Query) -> tuple[Query, Query]:
    """What the store can answer for events, and what is checked on the rows found."""
    parts = query.queries if isinstance(query, All) else (query,)
    flat = [each for part in parts for each in (part.queries if isinstance(part, All) else (part,))]
    indexed = tuple(each for each in flat if _is_indexed(each))
    rest = tuple(each for each in flat if not _is_indexed(each))
    return All(indexed), All(rest)


def _is_indexed(query: Query) -> bool:
    match query:
        case Match():
            return query.param in _INDEXED
        case All() | AnyOf():
            return all(_is_indexed(each) for each in query.queries)
        case Not():
            return _is_indexed(query.query)
        case RefersTo():
            return query.param in KEYS
        case ReferredBy():
            return True


def _holds(step: Step, query: Query, version: Version) -> bool:
    if query == EVERYTHING:
        return True
    resource = parse(whole(version))
    updated = parse_instant(resource["meta"]["lastUpdated"])
    entries = (
        *step.core.index.entries(resource),
        Entry("token", ID, None, version.id),
        Entry("range", UPDATED, low=updated, high=updated),
    )
    return satisfies(query, entries, _follow)


def _follow(query: RefersTo | ReferredBy) -> bool:
    raise FhirError(
        "not-supported",
        f"A chain through {query.param} of AuditEvent is not offered; take entity or agent",
        status=400,
    )


def refuse_hidden(query: Query, type: str) -> None:
    """Refuse a chain or _has that asks of AuditEvent what the store cannot answer. FhirError."""
    match query:
        case Match():
            if type == EVENTS and query.param not in _INDEXED:
                raise FhirError(
                    "not-supported",
                    f"{query.param} of AuditEvent is only searched for directly",
                    status=400,
                )
        case All() | AnyOf():
            for each in query.queries:
                refuse_hidden(each, type)
        case Not():
            refuse_hidden(query.query, type)
        case RefersTo() | ReferredBy():
            refuse_hidden(query.query, query.type)
