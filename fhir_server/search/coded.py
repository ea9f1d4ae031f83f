"""Token modifiers that ask what codes mean: :in and :not-in a value set, :above and :below a code.

https://hl7.org/fhir/R4/search.html#token
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, TypeAlias

from conformance.outcome import FhirError
from fhir_server.search.context import SearchContext, Vocabulary, malformed
from fhir_server.search.literals import split, unescape
from fhir_server.search.parameters import Parameter

Codes: TypeAlias = Collection[tuple[str, str]]


class Related(NamedTuple):
    """A code that is asked for by its place in a hierarchy."""

    system: str
    code: str


def listed(parameter: Parameter, values: Sequence[str], context: SearchContext) -> Codes:
    """The codes of value sets, by their canonical url or as ValueSet/id. FhirError when one is
    unknown, cannot be listed, or is larger than a search compares."""
    asked, most = _asked(context, parameter, "in"), context.limits.value_set
    found: dict[tuple[str, str], None] = {}
    for each in values:
        found.update(dict.fromkeys(asked.members(unescape(each), most)))
        _refuse_too_many(parameter, found, most)
    return found


def below(parameter: Parameter, values: Sequence[str], context: SearchContext) -> Codes:
    """The codes of values system|code and what they subsume. FhirError as above."""
    asked = _asked(context, parameter, "below")
    return _near(parameter, values, asked.below, context.limits.value_set)


def above(parameter: Parameter, values: Sequence[str], context: SearchContext) -> Codes:
    """The codes of values system|code and what subsumes them. FhirError as above."""
    asked = _asked(context, parameter, "above")
    return _near(parameter, values, asked.above, context.limits.value_set)


def _near(
    parameter: Parameter,
    values: Sequence[str],
    reached: Callable[[str, str, int], Collection[str]],
    most: int,
) -> Codes:
    found: dict[tuple[str, str], None] = {}
    for system, start in (_related(parameter, each) for each in values):
        found.update(dict.fromkeys((system, code) for code in reached(system, start, most)))
        _refuse_too_many(parameter, found, most)
    return found


def _refuse_too_many(parameter: Parameter, found: Codes, most: int) -> None:
    if len(found) > most:
        text = f"`{parameter.code}` of {parameter.type} is compared with at most {most} codes"
        raise FhirError("too-costly", text, status=422)


def _related(parameter: Parameter, value: str) -> Related:
    parts = [unescape(each) for each in split(value, "|")]
    if len(parts) != 2 or not all(parts):
        raise malformed(
            f"A value of `{parameter.code}` of {parameter.type} with :above or :below is written"
            " system|code"
        )
    return Related(*parts)


def _asked(context: SearchContext, parameter: Parameter, modifier: str) -> Vocabulary:
    if context.vocabulary is None:
        raise malformed(f"`{parameter.code}:{modifier}` cannot be asked here")
    return context.vocabulary
