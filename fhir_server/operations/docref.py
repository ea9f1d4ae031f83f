"""DocumentReference/$docref of US Core: the documents of a patient, the current ones or by date.

http://hl7.org/fhir/us/core/OperationDefinition/docref
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from conformance.outcome import FhirError, Issue
from fhir_server.core import Operation, Step
from fhir_server.interaction import Interaction, Parameters, Result
from fhir_server.operations import searchset
from fhir_server.operations.given import given, text
from fhir_server.operations.newest import Grouping, newest
from fhir_server.search import dates, params
from fhir_server.search.context import Search
from fhir_server.search.ranges import any_of
from fhir_server.search.results import context
from fhir_server.storage.store import All, Condition, Match, Not, Page, Query

TYPE = "DocumentReference"
_TAKES = ("patient", "start", "end", "type", "on-demand", "profile")
_BOOLEANS = {"true": True, "false": False}
_BY_TYPE = Grouping("type", "type", ("date",))
_NONE_MADE = Issue(
    "information",
    "not-supported",
    "This server makes no documents on demand: leave on-demand out to find those that are stored",
)


class _Asked(NamedTuple):
    """What is asked for. `pairs` is the search for it; dates are in microseconds since 1970."""

    pairs: tuple[tuple[str, str], ...]
    start: int | None
    end: int | None
    on_demand: bool


async def run(step: Step, asked: Interaction) -> Result:
    """200 with a searchset. Without dates it has the newest document of each type; with one, all
    whose care, or else whose making, was then, a page after the other. FhirError 400, 403, 404."""
    opened = searchset.opened(step, asked)
    used = opened.parameters if opened else _used(asked)
    wanted = _wanted(step, used)
    search = params.parse(TYPE, [*wanted.pairs, ("_sort", "-date")], context(step))
    if wanted.on_demand:
        to_itself = searchset.links(step, asked, used, None)
        return await searchset.searchset(
            step, asked, (), links=to_itself, total=0, notes=(_NONE_MADE,)
        )
    if wanted.start is None and wanted.end is None:
        found = tuple(await newest(step, search, 1, _BY_TYPE))
        links = searchset.links(step, asked, used, None)
        return await searchset.searchset(step, asked, found, links=links, total=len(found))
    search = _dated(step, search, wanted)
    place = opened.after if opened else None
    page = await step.tx.find(
        TYPE, search.query, search.sort, Page(step.core.limits.default_page, place)
    )
    links = searchset.links(step, asked, used, page.after)
    total = len(page.versions) if opened is None and page.after is None else None
    result = await searchset.searchset(step, asked, page.versions, links=links, total=total)
    return replace(result, asked=used) if opened else result


def _used(asked: Interaction) -> Parameters:
    found = given(asked, _TAKES, ("profile",))
    return tuple((name, text(value)) for name, values in found.items() for value in values)


def _wanted(step: Step, used: Parameters) -> _Asked:
    """FhirError 400."""
    values = dict(used)
    patient = values.get("patient", "")
    if not patient:
        raise FhirError("required", "$docref needs patient, the id of one", status=400)
    on_demand = _BOOLEANS.get(values.get("on-demand", "false"))
    if on_demand is None:
        raise FhirError("value", "on-demand is true or false", status=400)
    pairs = [("patient", patient), ("status", "current")]
    if "type" in values:
        pairs.append(("type", values["type"]))
    profiles = [value for name, value in used if name == "profile"]
    if profiles:
        pairs.append(("_profile", ",".join(profiles)))
    return _Asked(
        tuple(pairs),
        _moment(step, values.get("start"), "start", 0),
        _moment(step, values.get("end"), "end", 1),
        on_demand,
    )


def _moment(step: Step, value: str | None, name: str, side: int) -> int | None:
    if value is None:
        return None
    try:
        return dates.asked(value, step.core.timezone)[side]
    except ValueError as error:
        raise FhirError("value", f"{name} is a date or a dateTime", status=400) from error


def _dated(step: Step, search: Search, wanted: _Asked) -> Search:
    """The search, of documents whose period of care meets the dates; of those without one, whose
    own date does."""
    bounds: list[Condition] = []
    if wanted.start is not None:
        bounds.append(Condition("high", "ge", wanted.start))
    if wanted.end is not None:
        bounds.append(Condition("low", "le", wanted.end))
    (period,) = step.core.index.parameters(TYPE)["period"].keys
    within: list[Query] = [
        Match(period, "range", tuple(bounds)),
        All((Not(Match(period, "range")), Match("date", "range", tuple(bounds)))),
    ]
    return replace(search, query=All((search.query, any_of(within))))


OPERATION = Operation(
    "docref",
    frozenset({"type"}),
    frozenset({TYPE}),
    False,
    "http://hl7.org/fhir/us/core/OperationDefinition/docref",
    run,
    "s",
)
