"""A MeasureReport against its Measure: its groups, their populations, and the score.

https://hl7.org/fhir/R4/measurereport.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from conformance.outcome import Issue

_UNSCORED = "cohort"  # a measure that only counts

Resource = Mapping[str, Any]
_Code: TypeAlias = tuple[str | None, str]


class _Group(NamedTuple):
    """A group of a measure: its codes, and those of its populations."""

    codes: frozenset[_Code]
    populations: frozenset[_Code]


def check(report: Resource, measure: Resource) -> Iterator[Issue]:
    """What is wrong with a report of this measure."""
    scoring = {code for _, code in _codings(measure.get("scoring"))}
    groups = [_group(each) for each in _objects(measure, "group")]
    by_code = {code: group for group in reversed(groups) for code in group.codes}
    for index, group in _numbered(report, "group"):
        at = f"MeasureReport.group[{index}]"
        if _UNSCORED in scoring and "measureScore" in group:
            text = "A report of a measure whose scoring is cohort has no measureScore"
            yield Issue("error", "business-rule", text, f"{at}.measureScore")
        found = _named(group, groups, by_code)
        if found is None:
            yield Issue("error", "business-rule", "The measure has no group of this code", at)
        else:
            yield from _populations(group, found, at)


def _group(raw: Resource) -> _Group:
    populations = _objects(raw, "population")
    return _Group(
        frozenset(_codings(raw.get("code"))),
        frozenset(code for each in populations for code in _codings(each.get("code"))),
    )


def _named(
    group: Resource, groups: Sequence[_Group], by_code: Mapping[_Code, _Group]
) -> _Group | None:
    """The group of the measure that one of the report is about: by its code, unless there is only
    one and either has none."""
    codes = list(_codings(group.get("code")))
    if len(groups) == 1 and not (codes and groups[0].codes):
        return groups[0]
    return next((by_code[code] for code in codes if code in by_code), None)


def _populations(group: Resource, measured: _Group, at: str) -> Iterator[Issue]:
    """Each population of a group is one of the measure's."""
    known = measured.populations
    for index, each in _numbered(group, "population"):
        codes = list(_codings(each.get("code")))
        if known and codes and not any(code in known for code in codes):
            text = "The measure has no population of this code in the group"
            yield Issue("error", "business-rule", text, f"{at}.population[{index}].code")


def _numbered(holder: Resource, name: str) -> Iterator[tuple[int, Resource]]:
    found = holder.get(name)
    for index, each in enumerate(found if isinstance(found, list) else ()):
        if isinstance(each, dict):
            yield index, each


def _objects(holder: Resource, name: str) -> list[Resource]:
    return [each for _, each in _numbered(holder, name)]


def _codings(concept: Any) -> Iterator[_Code]:
    """System and code of each coding of a concept."""
    for each in _objects(concept, "coding") if isinstance(concept, dict) else ():
        system, code = each.get("system"), each.get("code")
        if isinstance(code, str):
            yield system if isinstance(system, str) else None, code
