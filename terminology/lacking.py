"""What a value set is made of that is not here, so that nobody can tell what is in it.

https://hl7.org/fhir/R4/valueset-definitions.html#ValueSet.compose
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from conformance.outcome import FhirError
from terminology.canonical import canonical
from terminology.catalog import Resource
from terminology.compose import PARTIAL
from terminology.rules import Context

_NOTHING = frozenset({*PARTIAL, "not-present"})  # content that decides no question


class Lacking(NamedTuple):
    """The value sets that are not here, of a set and of those that it draws in, and the code
    systems that are not, or not wholly."""

    sets: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()


def lacking(value_set: str, context: Context) -> Lacking:
    """What is not here of a value set; the set itself, where that is not."""
    sets: dict[str, None] = {}
    systems: dict[str, None] = {}
    seen: set[str] = set()

    def look(url: str) -> None:
        if url in seen:
            return
        seen.add(url)
        found = None
        with suppress(FhirError):  # what cannot be read lacks nothing else
            found = context.catalog.resource("ValueSet", canonical(url))
            if found is None:
                sets[url] = None
        for include in _includes(found):
            for each in include.get("valueSet", ()):
                if not each.startswith("#"):
                    look(each)
            named = include.get("system")
            if named is not None and not include.get("concept") and not _whole(include, context):
                systems[named] = None

    look(value_set)
    return Lacking(tuple(sets), tuple(systems))


def _includes(resource: Resource | None) -> Iterator[Resource]:
    """What a value set includes and excludes, and those that it contains."""
    for each in () if resource is None else (resource, *resource.get("contained", ())):
        composed = each.get("compose", {})
        yield from (*composed.get("include", ()), *composed.get("exclude", ()))


def _whole(include: Resource, context: Context) -> bool:
    found = None
    with suppress(FhirError):
        found = context.system(include["system"], include.get("version"))
    return found is not None and found.content not in _NOTHING
