"""Filters on concepts that are at hand: by code, or by what a property of them says.

https://hl7.org/fhir/R4/valueset-filter-operator.html
"""

from __future__ import annotations

from collections.abc import Callable

from terminology.patterns import matcher
from terminology.provider import Concept, Selection, unknown_filter

Test = Callable[[str | None], bool]


def test_of(system: str, property: str, op: str, value: str) -> Test:
    """What a filter asks of the value of a property. FhirError for an operator that cannot be
    asked, or for a pattern that is none."""
    if op == "=":
        return lambda found: found == value
    if op in ("in", "not-in"):
        several = frozenset(each.strip() for each in value.split(","))
        inside = op == "in"
        return lambda found: (found in several) is inside
    if op == "exists":
        wanted = value == "true"
        return lambda found: (found is not None) is wanted
    if op == "regex":
        matches = matcher(value)
        return lambda found: found is not None and matches(found)
    raise unknown_filter(system, property, op)


def of(concept: Concept, property: str) -> str | None:
    """What a concept says under a property, as a text."""
    if property == "code":
        return concept.code
    if property == "display":
        return concept.display
    for each in concept.properties:
        if each.code == property:
            return str(each.value)
    return None


def open_selection(locate: Callable[[str], Concept | None], property: str, test: Test) -> Selection:
    """The selection in a system whose codes cannot be listed."""

    def holds(code: str) -> bool:
        concept = locate(code)
        return concept is not None and test(of(concept, property))

    return Selection(holds)
