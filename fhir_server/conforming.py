"""Which profiles $validate holds a resource to: those of the packages, and those that users stored.

https://hl7.org/fhir/R4/validation.html

A stored definition takes part when the caller may read and search its type, and may reach this one
by both; so nobody learns from an answer of $validate what they could not have read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from conformance.outcome import FhirError
from conformance.packages import Packages
from conformance.patience import look
from conformance.profiles import Profiles
from fhir_server import drawing
from fhir_server.core import Step
from fhir_server.drawing import Room, read
from fhir_server.storage.store import Version
from fhir_server.terminologies import may, reaching, stored
from fhir_server.vocabulary import Key, State, Vocabulary

Resource: TypeAlias = Mapping[str, Any]

_STORED = 100  # definitions that one request draws in
_NAMED = 1_000  # urls of definitions that one request names and draws in
_ROUNDS = 16  # from what is asked for to what that draws in
_TYPES = ("StructureDefinition", "Questionnaire")
_MOST = "http://hl7.org/fhir/StructureDefinition/elementdefinition-maxValueSet"


class Held(NamedTuple):
    """What a resource is held to, and the stored versions among it, for the audit."""

    profiles: Profiles
    touched: tuple[Key, ...] = ()


class Beside:
    """The definitions of packages with stored ones before them."""

    def __init__(self, packages: Packages, own: Iterable[Resource]) -> None:
        self._packages = packages
        self._own: dict[tuple[str, str], dict[str, Any]] = {}
        for each in own:
            type, url = str(each["resourceType"]), str(each.get("url"))
            self._own.setdefault((type, url), dict(each))
            self._own[type, f"{url}|{each.get('version', '')}"] = dict(each)

    def find(self, type: str, canonical: str) -> dict[str, Any] | None:
        """The resource that `url` or `url|version` names."""
        return self._own.get((type, canonical)) or self._packages.find(type, canonical)


async def held(step: Step, resource: Resource, asked: Iterable[str], weight: int = 0) -> Held:
    """The profiles for a resource, of so many bytes, that claims what it claims and is asked to
    meet these. FhirError 422 when too much is drawn in."""
    current, room = step.core.guides.current, Room()
    types = [each for each in _TYPES if may(step, each)]
    fresh = await read(step, weight, partial(_urls, resource, tuple(asked)))
    known, sets = set[str](), set[str]()
    found: dict[State, _Read] = {}
    for _ in range(_ROUNDS):
        if not fresh:
            break
        known |= fresh
        if len(known) > _NAMED:
            text = f"The request names more than {_NAMED} profiles and extensions"
            raise FhirError("too-costly", text, status=422)
        sets.update(one for each in _bundled(current.packages, fresh) for one in _value_sets(each))
        versions = [
            each for type in types for each in await stored(step, type, fresh, _STORED, room)
        ]
        work = partial(_read, current.vocabulary, versions)
        made = await read(step, drawing.size(versions), work)
        found.update(made)
        if len(found) > _STORED:
            text = f"The request draws in more than {_STORED} stored definitions"
            raise FhirError("too-costly", text, status=422)
        sets.update(*(each.value_sets for each in made.values()))
        fresh = {url for each in made.values() for url in each.draws} - known
    reached = await reaching(step, sets, room=room)
    states = frozenset(found) | reached.states
    if not states:
        return Held(current.profiles)
    own = [each.resource for each in found.values()]
    profiles = current.profiles_with(
        states,
        lambda: current.profiles.having(Beside(current.packages, own), reached.terminology),
    )
    return Held(profiles, tuple((each.type, each.id, each.number) for each in states))


class _Read(NamedTuple):
    """A stored definition, and the urls of the definitions and value sets that it leads to."""

    resource: Resource
    draws: frozenset[str]
    value_sets: frozenset[str]


def _read(vocabulary: Vocabulary, versions: Sequence[Version]) -> dict[State, _Read]:
    made = {}
    for each in versions:
        look()
        one = vocabulary.parsed(each)
        made[State.of(each)] = _Read(one, frozenset(_drawn(one)), frozenset(_value_sets(one)))
    return made


def _urls(resource: Resource, asked: tuple[str, ...]) -> set[str]:
    return {each.partition("|")[0] for each in (*asked, *_named(resource))}


def _named(value: Any) -> Iterator[str]:
    """The canonicals that a resource names: its profiles, extensions and questionnaire."""
    if isinstance(value, dict):
        meta = value.get("meta") if "resourceType" in value else None
        claimed = meta.get("profile") if isinstance(meta, dict) else None
        yield from (each for each in claimed or () if isinstance(each, str))
        if value.get("resourceType") == "QuestionnaireResponse":
            yield str(value.get("questionnaire", ""))
        for name in ("extension", "modifierExtension"):
            own = value.get(name)
            for each in own if isinstance(own, list) else ():
                if isinstance(each, dict) and ":" in str(each.get("url", "")):
                    yield str(each["url"])
        value = list(value.values())
    if isinstance(value, list):
        for child in value:
            if isinstance(child, dict | list):
                yield from _named(child)


def _bundled(packages: Packages, urls: set[str]) -> Iterator[Resource]:
    for url in urls:
        found = packages.find("StructureDefinition", url)
        if found is not None and found.get("derivation") == "constraint":
            yield found
        found = packages.find("Questionnaire", url)
        if found is not None:
            yield found


def _elements(definition: Resource) -> Sequence[Resource]:
    for name in ("snapshot", "differential"):
        found: Sequence[Resource] = definition.get(name, {}).get("element", ())
        if found:
            return found
    return ()


def _drawn(definition: Resource) -> Iterator[str]:
    """The definitions that one leads to."""
    yield str(definition.get("baseDefinition", ""))
    for element in _elements(definition):
        for type in element.get("type", ()):
            for each in (*type.get("profile", ()), *type.get("targetProfile", ())):
                yield str(each).partition("|")[0]


def _value_sets(definition: Resource) -> Iterator[str]:
    """The value sets that one holds answers or elements to."""
    for element in _elements(definition):
        binding = element.get("binding", {})
        most = (e.get("valueCanonical") for e in binding.get("extension", ()) if e["url"] == _MOST)
        yield from (str(each) for each in (binding.get("valueSet"), *most) if each)
    items: list[Any] = [definition]
    while items:
        item = items.pop()
        items += item.get("item", ())
        value_set = item.get("answerValueSet")
        if value_set and not str(value_set).startswith("#"):
            yield str(value_set)
