"""One code as an expansion tells it: display, designations, properties, extensions.

https://hl7.org/fhir/R4/valueset-definitions.html#ValueSet.expansion.contains

R4 has no properties there: they go into the extensions that stand for those of R5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from terminology.compose import Member
from terminology.concepts import PROPERTIES
from terminology.displays import kept, said, shown
from terminology.languages import Languages
from terminology.provider import Designation, Property

_FHIR = "http://hl7.org/fhir/StructureDefinition/"
CONTAINS_PROPERTY = (
    "http://hl7.org/fhir/5.0/StructureDefinition/extension-ValueSet.expansion.contains.property"
)
# Extensions of a concept that a user of the expansion needs; all others stay behind.
_KEPT = frozenset(
    _FHIR + name
    for name in (
        "rendering-style",
        "rendering-xhtml",
        "valueset-deprecated",
        "valueset-concept-definition",
        "valueset-concept-comments",
    )
)
_KEPT_OF_DESIGNATIONS = frozenset(
    _FHIR + name for name in ("coding-sctdescid", "structuredefinition-standards-status")
)
# Extensions that say what R5 has as a property; of two, the value set's goes first.
_PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "order": ("valueset-conceptOrder", "codesystem-conceptOrder"),
    "label": ("valueset-label", "codesystem-label"),
    "weight": ("itemWeight", "ordinalValue", "codesystem-ordinalValue", "valueset-ordinalValue"),
}
_URIS = {"weight": PROPERTIES + "itemWeight"}
_COMMON = frozenset({"definition", "status", "parent", "child", "inactive", "notSelectable"})
_ACTIVE = frozenset({"active", "Active", "A", "ACTIVE", "normative", "trial-use", "draft"})
_RELATED = frozenset({"parent", "child"})


class Told(NamedTuple):
    """What is told of each code."""

    languages: Languages | None
    designations: bool
    tokens: tuple[str, ...]
    properties: tuple[str, ...]


def contains(member: Member, told: Told, versioned: bool) -> tuple[dict[str, Any], list[str]]:
    """The element of an expansion, and the names of the properties in it."""
    concept = member.concept
    display, rest = shown(said(concept, member.provider, member.reference), told.languages)
    extensions = _extensions(member)
    properties = list(_properties(member, told, extensions))
    own = [each for each in extensions if each.get("url") in _KEPT]
    made: dict[str, Any] = {
        "extension": own + [_property(each) for each in properties],
        "system": member.system,
        "abstract": True if concept.abstract else None,
        "inactive": True if concept.inactive else None,
        "version": member.version if versioned else None,
        "code": concept.code,
        "display": display,
        "designation": [
            designation(each) for each in rest if told.designations and kept(each, told.tokens)
        ],
    }
    found = {key: value for key, value in made.items() if value is not None and value != []}
    return found, [each.code for each in properties]


def designation(each: Designation) -> dict[str, Any]:
    """As an element of a resource."""
    extension = [one for one in each.extension if one.get("url") in _KEPT_OF_DESIGNATIONS]
    made = {
        "extension": extension or None,
        "language": each.language,
        "use": use(each),
        "value": each.value,
    }
    return {key: value for key, value in made.items() if value is not None}


def use(each: Designation) -> dict[str, Any] | None:
    if each.use is None:
        return None
    named = zip(("system", "code", "display"), each.use, strict=True)
    return {key: value for key, value in named if value is not None}


def property_uri(name: str) -> str | None:
    """What a property means that no code system defines."""
    if name in _PROPERTIES or name in _COMMON:
        return _URIS.get(name, PROPERTIES + name)
    return None


def value_of(each: Property) -> dict[str, Any]:
    """Its value[x]."""
    return {f"value{each.type[0].upper()}{each.type[1:]}": each.value}


def _extensions(member: Member) -> list[Mapping[str, Any]]:
    """Those of the value set, then those of the code system that it does not have."""
    own = list((member.reference or {}).get("extension", ()))
    urls = {each.get("url") for each in own}
    return own + [each for each in member.concept.extension if each.get("url") not in urls]


def _properties(
    member: Member, told: Told, extensions: list[Mapping[str, Any]]
) -> Iterator[Property]:
    concept, wanted = member.concept, told.properties
    if "definition" in wanted and concept.definition is not None:
        yield Property("definition", "string", concept.definition)
    if concept.status is not None and concept.status not in _ACTIVE:
        yield Property("status", "code", concept.status)
    values = {each.get("url"): each for each in extensions}
    for name, urls in _PROPERTIES.items():
        found = next((values[_FHIR + url] for url in urls if _FHIR + url in values), None)
        told_so = _extended(name, found) if found is not None else None
        if told_so is not None:
            yield told_so
    for each in concept.properties:
        if (each.code in wanted or "*" in wanted) and each.code not in ("status", *_RELATED):
            yield each
    for name in sorted(_RELATED & set(wanted)):
        codes = _related(member, name)
        yield from (Property(name, "code", code) for code in codes)


def _related(member: Member, name: str) -> tuple[str, ...]:
    if member.provider is None:
        return ()
    near = member.provider.parents if name == "parent" else member.provider.children
    return tuple(near(member.concept.code))


def _extended(name: str, extension: Mapping[str, Any]) -> Property | None:
    """None where the extension says nothing that can be told."""
    value = next((extension[key] for key in extension if key.startswith("value")), None)
    if isinstance(value, str):
        return Property(name, "string", value)
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        return Property(name, "decimal", Decimal(value))
    return None


def _property(each: Property) -> dict[str, Any]:
    parts = [{"url": "code", "valueCode": each.code}, {"url": "value", **value_of(each)}]
    return {"url": CONTAINS_PROPERTY, "extension": parts}
