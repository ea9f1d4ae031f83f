"""Patient/$everything: a patient's compartment and what it refers to, a page after the other.

https://hl7.org/fhir/R4/patient-operation-everything.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from conformance.outcome import FhirError
from fhir_server import access, owners, sight
from fhir_server.changes import absent
from fhir_server.core import Operation, Step
from fhir_server.interaction import Interaction, Parameters, Result
from fhir_server.links import Place
from fhir_server.operations import searchset
from fhir_server.operations.given import given, text
from fhir_server.search import dates
from fhir_server.search.ranges import any_of
from fhir_server.search.references import link
from fhir_server.search.results import context
from fhir_server.storage.store import (
    EVENTS,
    NOTHING,
    UPDATED,
    All,
    Condition,
    Match,
    Not,
    Page,
    Query,
    ReferredBy,
    Version,
)

PATIENT = owners.PATIENT
_TAKES = ("start", "end", "_since", "_type", "_count")
# What is in no compartment and goes with what refers to it, in an order in which each comes after
# those that refer to it.
_ALONG = (
    "PractitionerRole",
    "HealthcareService",
    "Practitioner",
    "Location",
    "Medication",
    "Substance",
    "Organization",
    "Endpoint",
)
_AT_ONCE = 100  # versions that are read before their size is looked at
# Attachments are fetched by the URLs that resources have; what the audit says has its own ways out.
_NEVER = frozenset({"Binary", EVENTS})


class _Asked(NamedTuple):
    """What is asked for: dates in microseconds since 1970, types (None: all), resources a page."""

    patient: str | None
    start: int | None
    end: int | None
    since: int | None
    types: frozenset[str] | None
    size: int


async def run(step: Step, asked: Interaction) -> Result:
    """200 with a page of a searchset. FhirError 400, 403, 404."""
    opened = searchset.opened(step, asked)
    used = opened.parameters if opened else _used(asked)
    wanted = _wanted(step, asked, used)
    if asked.id is not None:
        patient = await sight.current(step, PATIENT, asked.id, "r")
        if patient is None:
            raise absent(PATIENT)
        if patient.deleted:
            raise FhirError("deleted", "This Patient was deleted")
    found, along, after = await _page(step, wanted, opened.after if opened else None)
    touched = ((PATIENT, asked.id, None),) if asked.id else ()
    links = searchset.links(step, asked, used, after)
    total = len(found) if opened is None and after is None else None
    result = await searchset.searchset(
        step, asked, found, along, links=links, total=total, touched=touched
    )
    return result if opened is None else replace(result, asked=used)


# --- what is asked -------------------------------------------------------------------------------


def _used(asked: Interaction) -> Parameters:
    """The parameters, as a link keeps them. FhirError 400."""
    found = given(asked, _TAKES, ("_type",))
    return tuple((name, text(value)) for name, values in found.items() for value in values)


def _wanted(step: Step, asked: Interaction, used: Parameters) -> _Asked:
    values = dict(used)
    types = {t for name, value in used if name == "_type" for t in value.split(",") if t}
    for type in types:
        if type not in step.core.definitions.types:
            raise FhirError("value", "_type names what is no resource type of R4", status=400)
        access.check_search(step.grant, type)
    return _Asked(
        asked.id,
        _moment(step, values, "start", 0),
        _moment(step, values, "end", 1),
        _moment(step, values, "_since", 0),
        frozenset(types) or None,
        _count(step, values.get("_count")),
    )


def _moment(step: Step, values: dict[str, str], name: str, side: int) -> int | None:
    """The first or the last microsecond of a date. FhirError 400."""
    if name not in values:
        return None
    try:
        return dates.asked(values[name], step.core.timezone)[side]
    except ValueError as error:
        raise FhirError("value", f"{name} is a date or an instant", status=400) from error


def _count(step: Step, value: str | None) -> int:
    most = step.core.limits.page
    if value is None:
        return most
    if not value.isascii() or not value.isdigit() or int(value[:10]) == 0:
        raise FhirError("value", "_count is a number from 1", status=400)
    return min(int(value[:10]), most)


# --- what is found -------------------------------------------------------------------------------


async def _page(
    step: Step, wanted: _Asked, after: Place | None
) -> tuple[list[Version], list[Version], Place | None]:
    """A page of what is the patient's, and of what goes along; where the next one begins. `after`
    is the number of a type, and the place among its resources."""
    order = _order(step)
    start = int(after[0] or 0) if after else 0
    place = after[1:] if after and len(after) > 1 else None
    found: list[Version] = []
    along: list[Version] = []
    left, room = wanted.size, step.core.limits.page_bytes
    own: list[str] | None = None
    for number in range(start, len(order)):
        type = order[number]
        goes_along = type in _ALONG
        if goes_along and own is None:
            own = await _present(step, wanted)
        query = _along(step, wanted, type, own or ()) if goes_along else _own(step, wanted, type)
        if query == NOTHING or not _is_asked(step, wanted, type):
            place = None
            continue
        while True:
            if left == 0 or room < 0:
                return found, along, (number, *(place or ()))
            page = await step.tx.find(type, query, (), Page(min(left, _AT_ONCE), place))
            (along if goes_along else found).extend(page.versions)
            left -= len(page.versions)
            room -= sum(len(each.body) for each in page.versions)
            place = page.after
            if place is None:
                break
    return found, along, None


def _order(step: Step) -> tuple[str, ...]:
    """The types in the order in which they come: the patient first."""
    types = step.core.definitions.types
    theirs = (t for t in sorted(types) if owners.naming(t, step.core.index))
    return (PATIENT, *(t for t in theirs if t not in {PATIENT, *_ALONG, *_NEVER}), *_ALONG)


def _is_asked(step: Step, wanted: _Asked, type: str) -> bool:
    if wanted.types is not None and type not in wanted.types:
        return False
    return access.covers(step.grant, type, "s")


def _own(step: Step, wanted: _Asked, type: str, filtered: bool = True) -> Query:
    """The resources of a type that are the patient's, or some patient's, and that the caller may
    find."""
    parts = [_theirs(step, wanted, type), context(step).visible(type)]
    if filtered and wanted.since is not None:
        parts.append(Match(UPDATED, "range", (Condition("low", "ge", wanted.since),)))
    return All((*parts, *_dated(step, wanted, type)))


def _theirs(step: Step, wanted: _Asked, type: str) -> Query:
    if type == PATIENT:
        return All() if wanted.patient is None else access.with_ids([wanted.patient])
    keys = sorted(owners.naming(type, step.core.index))
    if wanted.patient is None:
        named = (Condition("system", "eq", PATIENT),)
        return any_of([Match(key, "link", named) for key in keys])
    return any_of([link(key, (PATIENT,), (wanted.patient,)) for key in keys])


def _dated(step: Step, wanted: _Asked, type: str) -> Iterator[Query]:
    """That care was given between two dates, of what says when."""
    key = step.core.index.carried(type)
    if key is None:
        return
    bounds = []
    if wanted.start is not None:
        bounds.append(Condition("high", "ge", wanted.start))
    if wanted.end is not None:
        bounds.append(Condition("low", "le", wanted.end))
    if bounds:
        yield any_of([Match(key, "range", tuple(bounds)), Not(Match(key, "range"))])


async def _present(step: Step, wanted: _Asked) -> list[str]:
    """The types of which there is something that the caller may find."""
    found = []
    for type in _order(step):
        if type in _ALONG or not access.covers(step.grant, type, "s"):
            continue
        if await step.tx.count(type, _own(step, wanted, type, filtered=False), 1):
            found.append(type)
    return found


def _along(step: Step, wanted: _Asked, type: str, own: Sequence[str]) -> Query:
    """The resources of a type to which what is the patient's refers, or what goes along with that,
    and that the caller may find."""
    if not access.covers(step.grant, type, "s"):
        return NOTHING
    referring = [
        ReferredBy(source, key, _own(step, wanted, source, filtered=False))
        for source in own
        for key in _keys(step, source, type)
    ]
    before = _ALONG[: _ALONG.index(type)] if type in _FARTHER else ()
    for source in before:
        if source in _LEADING and (keys := _keys(step, source, type)):
            inner = _along(step, wanted, source, own)
            if inner != NOTHING:
                referring += [ReferredBy(source, key, inner) for key in keys]
    if not referring:
        return NOTHING
    parts: list[Query] = [any_of([*referring]), context(step).visible(type)]
    if wanted.since is not None:
        parts.append(Match(UPDATED, "range", (Condition("low", "ge", wanted.since),)))
    return All(tuple(parts))


# Who acts in a role, and for whom: the one step beyond what the patient's own resources refer to.
_LEADING = frozenset({"PractitionerRole"})
_FARTHER = frozenset({"Practitioner", "Organization", "Location"})


def _keys(step: Step, source: str, target: str) -> list[str]:
    """The keys of the references from a type to another."""
    known = step.core.index.parameters(source).values()
    keys = [
        key
        for each in known
        if each.kind == "reference" and each.own and target in each.targets
        for key in each.keys
    ]
    return list(dict.fromkeys(keys))


OPERATION = Operation(
    "everything",
    frozenset({"type", "instance"}),
    frozenset({PATIENT}),
    False,
    "http://hl7.org/fhir/OperationDefinition/Patient-everything",
    run,
    "r",
)
