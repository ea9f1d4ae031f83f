"""The concepts of a CodeSystem resource, read into tuples: properties, designations, status.

https://hl7.org/fhir/R4/codesystem.html, https://hl7.org/fhir/R4/codesystem-concept-properties.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from terminology.provider import Concept, Designation, Property

PROPERTIES = "http://hl7.org/fhir/concept-properties#"
STANDARDS_STATUS = "http://hl7.org/fhir/StructureDefinition/structuredefinition-standards-status"
_GONE = frozenset({"retired", "inactive"})
_PARENTS = frozenset({"parent", "subsumedBy"})


class Defined(NamedTuple):
    """What a code system says of one of its properties."""

    uri: str | None
    type: str | None


class Meanings(NamedTuple):
    """The codes of the properties that tell what we act on. The uri of a property decides; where
    no property has the uri, the code that FHIR suggests for it does."""

    not_selectable: frozenset[str]
    inactive: frozenset[str]
    status: frozenset[str]
    parent: frozenset[str]
    child: frozenset[str]


def defined(resource: Mapping[str, Any]) -> dict[str, Defined]:
    """The properties that a CodeSystem defines, by code."""
    return {
        each["code"]: Defined(each.get("uri"), each.get("type"))
        for each in resource.get("property", ())
        if "code" in each
    }


def meanings(properties: Mapping[str, Defined]) -> Meanings:
    """Which of the properties stand for what."""

    def called(*names: str) -> frozenset[str]:
        found = {
            code
            for code, each in properties.items()
            if any(each.uri == PROPERTIES + name for name in names)
        }
        return frozenset(found or names)

    return Meanings(
        called("notSelectable") | {"abstract"},
        called("inactive") | {"retired"},
        called("status"),
        called("parent") | _PARENTS,
        called("child"),
    )


def read(raw: Mapping[str, Any], known: Mapping[str, Defined], mean: Meanings) -> Concept:
    """One concept."""
    properties = tuple(_properties(raw, known))
    extension = tuple(raw.get("extension", ()))
    status = _status(properties, extension, mean)
    return Concept(
        raw["code"],
        raw.get("display"),
        raw.get("definition"),
        designations(raw),
        properties,
        _true(properties, mean.not_selectable),
        status in _GONE or _true(properties, mean.inactive),
        status,
        extension,
    )


def designations(raw: Mapping[str, Any], source: str | None = None) -> tuple[Designation, ...]:
    """Those of a concept of a code system, a supplement or a value set."""
    return tuple(
        Designation(
            each.get("language"),
            each["value"],
            _use(each.get("use")),
            tuple(each.get("extension", ())),
            source,
        )
        for each in raw.get("designation", ())
        if "value" in each
    )


def supplemented(raw: Mapping[str, Any], source: str, known: Mapping[str, Defined]) -> Concept:
    """What a supplement adds to a concept, as a concept."""
    return Concept(
        raw["code"],
        designations=designations(raw, source),
        properties=tuple(_properties(raw, known)),
        extension=tuple(raw.get("extension", ())),
    )


def also(concept: Concept, more: Sequence[Concept]) -> Concept:
    """The concept with what supplements add to it."""
    every = (concept, *more)
    return concept._replace(
        designations=tuple(one for each in every for one in each.designations),
        properties=tuple(one for each in every for one in each.properties),
        extension=tuple(one for each in every for one in each.extension),
    )


def walk(concepts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], str | None]]:
    """Every concept with the code of the one that it is nested in, in the resource's order."""
    waiting: list[tuple[Mapping[str, Any], str | None]] = [(each, None) for each in concepts[::-1]]
    while waiting:
        concept, parent = waiting.pop()
        if "code" not in concept:
            continue
        yield concept, parent
        code = concept["code"]
        waiting.extend((each, code) for each in concept.get("concept", ())[::-1])


def written(value: Any) -> str:
    """A property's value as filters compare it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return str(value.get("code", ""))
    return str(value)


def _properties(raw: Mapping[str, Any], known: Mapping[str, Defined]) -> Iterator[Property]:
    for each in raw.get("property", ()):
        code = each.get("code")
        name = next((name for name in each if name.startswith("value")), None)
        if code is not None and name is not None:
            told = known.get(code)
            type = name[5].lower() + name[6:]
            type = "Coding" if type == "coding" else type
            yield Property(code, type, each[name], told.uri if told else None)


def _status(
    properties: Iterable[Property], extension: Sequence[Mapping[str, Any]], mean: Meanings
) -> str | None:
    found = next((each for each in properties if each.code in mean.status), None)
    if found is not None:
        return written(found.value)
    told = next((each for each in extension if each.get("url") == STANDARDS_STATUS), None)
    return told.get("valueCode") if told else None


def _true(properties: Iterable[Property], codes: frozenset[str]) -> bool:
    return any(each.code in codes and each.value is True for each in properties)


def _use(raw: Mapping[str, Any] | None) -> tuple[str | None, str | None, str | None] | None:
    return (raw.get("system"), raw.get("code"), raw.get("display")) if raw else None
