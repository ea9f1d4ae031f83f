"""The terminology that one request is answered from: what is installed, and what of the stored
code systems, value sets and concept maps the caller may read.

https://hl7.org/fhir/R4/terminology-service.html

Bundled content is for every caller with a valid token. A stored resource takes part when the
caller may read and search its type, and may reach this one by both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from conformance.json import encode
from conformance.outcome import FhirError
from conformance.patience import look
from fhir_server import access, drawing, sight
from fhir_server.changes import absent
from fhir_server.core import Core, Step
from fhir_server.drawing import Room, read, worked
from fhir_server.interaction import Interaction, Parameters
from fhir_server.search.literals import split, unescape
from fhir_server.search.ranges import any_of
from fhir_server.search.references import literal
from fhir_server.storage.store import All, Condition, Match, Version
from fhir_server.times import instant
from fhir_server.vocabulary import Key, State, Vocabulary
from terminology.canonical import Canonical, canonical
from terminology.compose import SUPPLEMENT
from terminology.service import Terminology

_STORED = 200  # resources that one request draws in
_NAMED = 5_000  # urls that one request names and draws in
_ROUNDS = 16  # from what is asked for to what that draws in
_LISTING = (":in", ":not-in")
_ASKING = (":in", ":not-in", ":above", ":below")  # what a parameter's name ends with
_DRAWING = ("CodeSystem", "ValueSet", "ConceptMap")
_OFFERED = ("CodeSystem", "ValueSet")
_MAP = "ConceptMap"
_URL = ("url",)
# By what a map is found for a $translate that names none: the systems that it is between.
_OF_MAPS = ("url", "source-system", "target-system")

Codes: TypeAlias = list[tuple[str, str]]


class Reached(NamedTuple):
    """A terminology, and the stored versions in it, for the audit; `states` say what it is of."""

    terminology: Terminology
    touched: tuple[Key, ...] = ()
    states: frozenset[State] = frozenset()


async def instance(step: Step, asked: Interaction) -> Mapping[str, Any] | None:
    """The stored resource that an operation on an instance is asked of. FhirError 404, 410."""
    if asked.id is None:
        return None
    type = asked.type or ""
    version = await sight.current(step, type, asked.id, "r")
    if version is None or version.deleted:
        raise absent(type)
    return await _opened(step, version)


async def reaching(
    step: Step,
    named: Iterable[str],
    resources: Iterable[Mapping[str, Any]] = (),
    *,
    maps: bool = False,
    hurry: bool = False,
    room: Room | None = None,
) -> Reached:
    """The terminology with all that is stored under these canonicals, and under those that these
    resources draw in; `maps`: also with the concept maps from and to them; `hurry`: other writes
    wait for this request; `room`: what it may still draw in. FhirError when that is too much."""
    vocabulary = step.core.guides.current.vocabulary
    offered = (*_OFFERED, _MAP) if maps else _OFFERED
    types = [each for each in offered if may(step, each)]
    if not types:
        return Reached(vocabulary.terminology)
    room = room or Room()
    asked, found = {canonical(each).url for each in named}, dict[Key, _Read]()
    for each in resources:
        asked.update(drawn(each))
    known: set[str] = set()
    for _ in range(_ROUNDS):
        fresh = asked - known
        if not fresh:
            break
        known |= fresh
        if len(known) > _NAMED:
            raise FhirError("too-costly", f"The request names more than {_NAMED} urls", status=422)
        versions = {
            (each.type, each.id, each.number): each
            for type in types
            for each in await stored(step, type, fresh, _STORED, room)
        }
        if len(found.keys() | versions.keys()) > _STORED:
            text = f"The request draws in more than {_STORED} stored resources"
            raise FhirError("too-costly", text, status=422)
        new = [each for key, each in versions.items() if key not in found]
        made = await read(step, drawing.size(new), partial(_read, vocabulary, new), hurry)
        found.update(made)
        for one in made.values():
            asked.update(one.draws)
        for bundled in _bundled(step, fresh):
            asked.update(drawn(bundled))
    if not found:
        return Reached(vocabulary.terminology)
    states = frozenset(each.state for each in found.values())
    having = partial(vocabulary.having, states, lambda: [each.resource for each in found.values()])
    weight = sum(each.size for each in states)
    return Reached(await read(step, weight, having, hurry), tuple(found), states)


class _Read(NamedTuple):
    """A stored resource, and the urls of what it is made with."""

    state: State
    resource: Mapping[str, Any]
    draws: frozenset[str]


def _read(vocabulary: Vocabulary, versions: Sequence[Version]) -> dict[Key, _Read]:
    made = {}
    for each in versions:
        look()
        resource = vocabulary.parsed(each)
        key = (each.type, each.id, each.number)
        made[key] = _Read(State.of(each), resource, frozenset(drawn(resource)))
    return made


class Searched(NamedTuple):
    """A terminology, and the codes of value sets that are stored, listed before."""

    terminology: Terminology
    listed: Mapping[str, Codes]

    def members(self, value_set: str, most: int) -> Codes:
        own = self.listed.get(value_set)
        return own if own is not None else self.terminology.members(value_set, most)

    def below(self, system: str, code: str, most: int) -> frozenset[str]:
        return self.terminology.below(system, code, most)

    def above(self, system: str, code: str, most: int) -> frozenset[str]:
        return self.terminology.above(system, code, most)


async def searched(step: Step, parameters: Parameters) -> Searched | None:
    """What the parameters of a search with :in, :not-in, :above or :below ask, however deep in a
    chain; None when there are none. FhirError 403, 404."""
    asked = [
        each for name, value in parameters if name.endswith(_ASKING) for each in split(value, ",")
    ]
    if not asked:
        return None
    values = [unescape(each) for each in asked]
    instances, room = dict[str, Mapping[str, Any]](), Room()
    for each in values:
        found = literal(each, step.core.base_url, step.core.definitions.types)
        if found is not None and found[0] == "ValueSet" and each not in instances:
            instances[each] = await _instance(step, *found, room)
    named = [each for each in values if each not in instances]
    reached = await reaching(step, named, instances.values(), room=room)
    if not reached.touched and not instances:
        return Searched(reached.terminology, {})
    sets = [
        unescape(each)
        for name, value in parameters
        if name.endswith(_LISTING)
        for each in split(value, ",")
    ]
    most = step.core.limits.value_set
    near = [each for each in values if each not in sets]
    work = partial(_listed, reached.terminology, instances, sets, near, most)
    listed = await worked(step, work)
    return Searched(reached.terminology, listed)


def _listed(
    terminology: Terminology,
    instances: Mapping[str, Mapping[str, Any]],
    sets: Sequence[str],
    near: Sequence[str],
    most: int,
) -> dict[str, Codes]:
    """The codes of value sets by what they are called; the code systems of `near`, system|code
    each, are read too. FhirError."""
    for each in near:
        terminology.known(*each.rpartition("|")[::2])
    return {
        each: terminology.members_of(instances[each], most)
        if each in instances
        else terminology.members(each, most)
        for each in sets
    }


async def _instance(step: Step, type: str, id: str, room: Room) -> Mapping[str, Any]:
    """FhirError 403, 404, 422."""
    if not access.covers(step.grant, type, "r"):
        raise access.refusal("read", type)
    version = await sight.current(step, type, id, "r")
    if version is None or version.deleted:
        raise absent(type)
    room.take((version,))
    return await _opened(step, version)


def drawn(resource: Mapping[str, Any]) -> Iterator[str]:
    """The urls of what a resource of terminology is made with."""
    if resource.get("resourceType") not in _DRAWING:
        return
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
        "implementation": {"description": "Salus", "url": core.base_url},
    }
    return encode({**current.vocabulary.capabilities, **about})


def may(step: Step, type: str) -> bool:
    """Whether the caller may find and read resources of a type at all."""
    return all(access.covers(step.grant, type, letter) for letter in "rs")


async def stored(step: Step, type: str, urls: set[str], most: int, room: Room) -> Sequence[Version]:
    """The stored resources of a type with one of these urls that the caller may find and read, some
    more than `most` when there are too many. FhirError 422."""
    known = step.core.index.parameters(type)
    by = [known[each] for each in (_OF_MAPS if type == _MAP else _URL) if each in known]
    one_of = (Condition("code", "in", frozenset(urls)),)
    asked = any_of([Match(key, "token", one_of) for each in by for key in each.keys])
    seen = (access.visible(step.core, step.grant, type, letter) for letter in "rs")
    return await drawing.stored(step, type, All((asked, *seen)), most, room)


def _bundled(step: Step, urls: set[str]) -> Iterator[Mapping[str, Any]]:
    """The value sets and maps of packages with these urls, which may draw in what is stored."""
    catalog = step.core.guides.current.vocabulary.terminology.catalog
    for url in urls:
        for type in ("ValueSet", "ConceptMap"):
            with suppress(FhirError):  # what cannot be read draws in nothing
                found = catalog.resource(type, Canonical(url))
                if found is not None:
                    yield found


async def _opened(step: Step, version: Version) -> Mapping[str, Any]:
    """What a stored version says; it is remembered."""
    parsed = step.core.guides.current.vocabulary.parsed
    return await read(step, len(version.body), partial(parsed, version))
