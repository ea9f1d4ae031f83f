"""A MeasureReport against its Measure: its groups, their populations, and the score.

https://hl7.org/fhir/R4/measurereport.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from conformance.outcome import Issue

_UNSCORED = "cohort"  # a measure that only counts

Resource = Mapping[str, Any]


def check(report: Resource, measure: Resource) -> Iterator[Issue]:
    """What is wrong with a report of this measure."""
    scoring = _codes(measure.get("scoring"))
    groups = _objects(measure, "group")
    by_code = {code: group for group in groups for _, code in _codings(group.get("code"))}
    for index, group in enumerate(_objects(report, "group")):
        at = f"MeasureReport.group[{index}]"
        if _UNSCORED in scoring and "measureScore" in group:
            text = "A report of a measure whose scoring is cohort has no measureScore"
            yield Issue("error", "business-rule", text, f"{at}.measureScore")
        found = groups[0] if len(groups) == 1 else _named(group, by_code)
        if found is None:
            yield Issue("error", "business-rule", "The measure has no group of this code", at)
        else:
            yield from _populations(group, found, at)


def _named(group: Resource, by_code: Mapping[str, Resource]) -> Resource | None:
    codes = (code for _, code in _codings(group.get("code")))
    return next((by_code[code] for code in codes if code in by_code), None)


def _populations(group: Resource, measured: Resource, at: str) -> Iterator[Issue]:
    """Each population of a group is one of the measure's."""
    known = {c for each in _objects(measured, "population") for c in _codings(each.get("code"))}
    for index, each in enumerate(_objects(group, "population")):
        codes = set(_codings(each.get("code")))
        if known and codes and not codes & known:
            text = "The measure has no population of this code in the group"
            yield Issue("error", "business-rule", text, f"{at}.population[{index}].code")


def _objects(holder: Resource, name: str) -> list[Resource]:
    found = holder.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _codings(concept: Any) -> Iterator[tuple[Any, str]]:
    if isinstance(concept, dict):
        for each in _objects(concept, "coding"):
            if isinstance(each.get("code"), str):
                yield each.get("system"), each["code"]


def _codes(concept: Any) -> set[str]:
    return {code for _, code in _codings(concept)}
