"""Date parameters: what a date, a period or a timing covers against what the search covers.

https://hl7.org/fhir/R4/search.html#date
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from typing import Any, TypeAlias

from fhir_server.search import dates
from fhir_server.search.context import Modifiers, SearchContext, malformed
from fhir_server.search.literals import prefixed
from fhir_server.search.parameters import Parameter
from fhir_server.search.place import Add, Factory, Place, Writer, add_present, range_entry
from fhir_server.search.ranges import Bounds, any_of, compared
from fhir_server.storage.store import Query

Covered: TypeAlias = tuple[int, int] | None


def _of(covered: Callable[[Any, tzinfo], Covered]) -> Factory:
    """Writes the range that a value covers; for what is no date, only that it is there."""

    def factory(param: str, place: Place) -> Writer:
        zone = place.timezone

        def write(value: Any, add: Add) -> None:
            try:
                found = covered(value, zone)
            except (ValueError, OverflowError):
                found = None
            if found is None or found[0] > found[1]:
                add_present(param, add)
            else:
                add(range_entry(param, found[0], found[1]))

        return write

    return factory


def _period(period: Mapping[str, Any], zone: tzinfo) -> Covered:
    start, end = period.get("start"), period.get("end")
    if start is None and end is None:
        return None
    low = dates.EARLIEST if start is None else dates.stored(start, zone)[0]
    high = dates.LATEST if end is None else dates.stored(end, zone)[1]
    return low, high


def _timing(timing: Mapping[str, Any], zone: tzinfo) -> Covered:
    """The outer bounds of all events and of the period that a repetition keeps within."""
    events = timing.get("event") or ()
    covered = [dates.stored(each, zone) for each in events if each is not None]
    bounds = _period((timing.get("repeat") or {}).get("boundsPeriod") or {}, zone)
    if bounds:
        covered.append(bounds)
    if not covered:
        return None
    return min(low for low, _ in covered), max(high for _, high in covered)


WRITERS: Mapping[str, Factory] = {
    **dict.fromkeys(("date", "dateTime", "instant"), _of(dates.stored)),
    "Period": _of(_period),
    "Timing": _of(_timing),
}


def bounds(parameter: Parameter, text: str, context: SearchContext) -> Bounds:
    """What a date without its prefix covers. FhirError when it is none."""
    try:
        low, high = dates.asked(text, context.timezone)
    except (ValueError, OverflowError):
        raise malformed(
            f"A value of `{parameter.code}` of {parameter.type} is a date as YYYY, YYYY-MM,"
            " YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss][offset], after one of the prefixes"
            " eq ne gt lt ge le sa eb ap or none"
        ) from None
    # `ap`: a tenth of the time between then and now, at least as much as the value is precise.
    slack = max(abs(context.now - (low + high) // 2) // 10, high - low + 1)
    # An entry that ends with the last microsecond of a second ends with that second, so it is not
    # before a moment between the two.
    between = low > high and low % dates.SECOND == 0
    before = high if between else low
    return Bounds(low, high, low, high, before, True, (low - slack, high + slack))


def _query(parameter: Parameter, values: Sequence[str], context: SearchContext) -> Query:
    found: list[Query] = []
    for text in values:
        prefix, date = prefixed(text)
        covers = bounds(parameter, date, context)
        found += [each for key in parameter.keys for each in compared(key, prefix, covers)]
    return any_of(found)


MODIFIERS: Modifiers = {None: _query}
