"""The newest resources of each code that a search finds, without looking at all that are older.

https://hl7.org/fhir/R4/observation-operation-lastn.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, NamedTuple

from msgspec.structs import replace

from conformance.json import parse
from conformance.outcome import FhirError
from fhir_server.core import Step
from fhir_server.interaction import Resource
from fhir_server.search import dates
from fhir_server.search.context import Search
from fhir_server.search.results import find
from fhir_server.search.tokens import Token, matches
from fhir_server.storage.store import All, Not, Page, Query, Version

_AT_ONCE = 100


class Grouping(NamedTuple):
    """What makes resources one group: the CodeableConcept `element`, whose codings the entries
    under `key` hold; `moments` are the members that say when, a Period by its start."""

    element: str
    key: str
    moments: tuple[str, ...]


@dataclass(slots=True)
class _Group:
    """What is there of one code: how many, and the moment of the last that counts."""

    count: int = 0
    last: int | None = None
    full: bool = False  # nothing older than `last` is wanted


@dataclass(slots=True)
class _Found:
    """What was found so far. Codings that stand together are one code."""

    most: int
    grouping: Grouping
    zone: tzinfo
    versions: list[Version] = field(default_factory=list)
    groups: dict[Any, _Group] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def take(self, version: Version) -> None:
        """Look at the next one, none newer than those before it."""
        if version.id in self.seen:
            return
        self.seen.add(version.id)
        resource = parse(version.body)
        names = list(_names(resource, self.grouping.element))
        group = next((self.groups[each] for each in names if each in self.groups), _Group())
        for each in names:
            self.groups.setdefault(each, group)
        at = _moment(resource, self.grouping.moments, self.zone)
        if group.count >= self.most and (at is None or at != group.last):
            group.full = True
            return
        group.count, group.last = group.count + 1, at
        self.versions.append(version)

    def full(self) -> list[Token]:
        """The codings of which nothing more is wanted."""
        return [
            name for name, group in self.groups.items() if group.full and isinstance(name, Token)
        ]


async def newest(step: Step, search: Search, most: int, grouping: Grouping) -> list[Version]:
    """The newest of each code that a search finds, with those of the same time as the last of
    them; newest first. The search sorts by that time, descending. FhirError 413 when they are
    more than a page holds."""
    found = _Found(most, grouping, step.core.timezone)
    asked, excluded, after = search, 0, None
    while True:
        page = await find(step, asked, Page(_AT_ONCE, after))
        for each in page.versions:
            found.take(each)
        if len(found.versions) > step.core.limits.page:
            text = f"These are more than {step.core.limits.page}: ask for a code, category or date"
            raise FhirError("too-costly", text)
        if page.after is None:
            return found.versions  # in order: whatever is newer than a page was on one before
        full, after = found.full(), page.after
        if len(full) > excluded:  # look no more at what there is enough of
            query = _but(search.query, grouping.key, full)
            asked, excluded, after = replace(search, query=query), len(full), None


def _but(query: Query, key: str, full: list[Token]) -> Query:
    return All((query, *(Not(each) for each in matches(key, full))))


def _names(resource: Resource, element: str) -> Iterator[Any]:
    """By what a code is known: its codings, or its text."""
    code = resource.get(element, {})
    codings = [each for each in code.get("coding", ()) if each.get("code")]
    for each in codings:
        yield Token(each.get("system", ""), each["code"])
    if not codings:
        yield str(code.get("text", "")).casefold()


def _moment(resource: Resource, members: tuple[str, ...], zone: tzinfo) -> int | None:
    """When something was, in microseconds since 1970."""
    for name in members:
        value = resource.get(name)
        text = value.get("start") if isinstance(value, dict) else value
        if isinstance(text, str):
            return dates.stored(text, zone)[0]
    return None
