"""The terminology that one request is answered from: what is installed, and what of the stored
code systems, value sets and concept maps the caller may read.

https://hl7.org/fhir/R4/terminology-service.html

Bundled content is for every caller with a valid token. A stored resource takes part when the
caller may read and search its type, and may reach this one by both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from conformance.json import encode
from conformance.outcome import FhirError
from fhir_server import access, sight
from fhir_server.changes import absent
from fhir_server.core import Core, Step
from fhir_server.interaction import Interaction
from fhir_server.storage.store import All, Condition, Match, Page, Query, Version
from fhir_server.times import instant
from fhir_server.vocabulary import Key
from terminology.canonical import canonical
from terminology.catalog import TYPES
from terminology.compose import SUPPLEMENT
from terminology.service import Terminology

_STORED = 200  # resources that one request draws in
_ROUNDS = 16  # from what is asked for to what that draws in
_OFFERED = tuple(each for each in TYPES if each != "NamingSystem")


class Reached(NamedTuple):
    """A terminology, and the stored versions in it, for the audit."""

    terminology: Terminology
    touched: tuple[Key, ...] = ()


async def instance(step: Step, asked: Interaction) -> Mapping[str, Any] | None:
    """The stored resource that an operation on an instance is asked of. FhirError 404, 410."""
    if asked.id is None:
        return None
    type = asked.type or ""
    version = await sight.current(step, type, asked.id, "r")
    if version is None or version.deleted:
        raise absent(type)
    return _parsed(step, version)


async def reaching(
    step: Step, named: Iterable[str], resources: Iterable[Mapping[str, Any]] = ()
) -> Reached:
    """The terminology with all that is stored under these canonicals, and under those that these
    resources draw in. FhirError when that is too much."""
    vocabulary = step.core.guides.current.vocabulary
    types = [each for each in _OFFERED if _may(step, each)]
    if not types:
        return Reached(vocabulary.terminology)
    asked, found = {canonical(each).url for each in named}, dict[Key, Version]()
    for each in resources:
        asked.update(drawn(each))
    known: set[str] = set()
    for _ in range(_ROUNDS):
        fresh = asked - known
        if not fresh:
            break
        known |= fresh
        versions = [each for type in types for each in await _stored(step, type, fresh)]
        found.update({(each.type, each.id, each.number): each for each in versions})
        if len(found) > _STORED:
            text = f"The request draws in more than {_STORED} stored resources"
            raise FhirError("too-costly", text, status=422)
        for one in (*(_parsed(step, each) for each in versions), *_bundled(step, fresh)):
            asked.update(drawn(one))
    if not found:
        return Reached(vocabulary.terminology)
    made = vocabulary.having(
        frozenset(found), lambda: [_parsed(step, each) for each in found.values()]
    )
    return Reached(made, tuple(found))


def drawn(resource: Mapping[str, Any]) -> Iterator[str]:
    """The urls of what a resource of terminology is made with."""
    compose = resource.get("compose", {})
    for each in (*compose.get("include", ()), *compose.get("exclude", ())):
        if "system" in each:
            yield canonical(str(each["system"])).url
        yield from (canonical(str(one)).url for one in each.get("valueSet", ()))
    for each in resource.get("extension", ()):
        if each.get("url") == SUPPLEMENT:
            yield canonical(str(each.get("valueCanonical", ""))).url
    for each in resource.get("contained", ()):
        yield from drawn(each)
    for each in resource.get("group", ()):
        if "url" in each.get("unmapped", {}):
            yield canonical(str(each["unmapped"]["url"])).url


def statement(core: Core) -> bytes:
    """TerminologyCapabilities of this server, of what is bundled: it is told to anybody."""
    current = core.guides.current
    about = {
        "url": f"{core.base_url}/metadata?mode=terminology",
        "version": current.packages.digest[:12],
        "name": "SalusTerminology",
        "title": "What this server knows of code systems, value sets and concept maps",
        "date": instant(core.clock()),
    }
    return encode({**current.vocabulary.capabilities, **about})


def _may(step: Step, type: str) -> bool:
    """Whether the caller may find and read resources of a type at all."""
    return all(access.covers(step.grant, type, letter) for letter in "rs")


async def _stored(step: Step, type: str, urls: set[str]) -> Sequence[Version]:
    """The stored resources of a type with one of these urls that the caller may find and read."""
    url = step.core.index.parameters(type).get("url")
    if url is None:
        return ()
    (key,) = url.keys
    asked: Query = Match(key, "token", (Condition("code", "in", frozenset(urls)),))
    seen = (access.visible(step.core, step.grant, type, letter) for letter in "rs")
    found = await step.tx.find(type, All((asked, *seen)), (), Page(_STORED + 1))
    return found.versions


def _bundled(step: Step, urls: set[str]) -> Iterator[Mapping[str, Any]]:
    """The value sets and maps of packages with these urls, which may draw in what is stored."""
    packages = step.core.guides.current.packages
    for url in urls:
        for type in ("ValueSet", "ConceptMap"):
            found = packages.find(type, url)
            if found is not None:
                yield found


def _parsed(step: Step, version: Version) -> Mapping[str, Any]:
    key = (version.type, version.id, version.number)
    return step.core.guides.current.vocabulary.parsed(key, version.body)
