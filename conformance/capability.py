"""The CapabilityStatement, made of the tables that the server runs on, so that it cannot lie.

https://hl7.org/fhir/R4/capabilitystatement.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

_TYPE_CODES = (
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
)
_SYSTEM_CODES = ("transaction", "batch", "search-system", "history-system")


class Offered(NamedTuple):
    """An operation as the statement names it. `types` empty: every type."""

    name: str
    definition: str
    types: frozenset[str]
    levels: frozenset[str]


class Parameter(NamedTuple):
    """A search parameter as the statement names it."""

    name: str
    definition: str
    type: str


class Guides(NamedTuple):
    """Canonical urls of the implementation guides that are installed, of the CapabilityStatements
    that the server keeps to, and of the profiles that it knows for each resource type."""

    guides: tuple[str, ...] = ()
    instantiates: tuple[str, ...] = ()
    profiles: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class Surface(NamedTuple):
    """What a server offers. `offers(type, code)`: whether it has an interaction on a type;
    `parameters(type)`: what can be searched for; `includes(type)`, `revincludes(type)`; `guides`:
    what it knows of implementation guides."""

    types: Iterable[str]
    codes: frozenset[str]
    offers: Callable[[str, str], bool]
    parameters: Callable[[str], Iterable[Parameter]]
    includes: Callable[[str], Iterable[str]]
    revincludes: Callable[[str], Iterable[str]]
    operations: Iterable[Offered]
    patch_formats: tuple[str, ...]
    compartments: tuple[str, ...] = ()  # canonical urls of those that can be searched within
    guides: Guides = Guides()


class Software(NamedTuple):
    """Which build, where, and since when (a FHIR dateTime)."""

    name: str
    version: str
    url: str
    date: str
    security: str
    released: str = ""  # when this version was; unknown: `date`


_FEATURE = "http://hl7.org/fhir/uv/application-feature/StructureDefinition/feature"
# What terminology clients look for: the tests that the server is held against (by the commit of
# HL7/fhir-tx-ecosystem-ig, since what they are taken from bears no version), and that it takes
# code systems along with a request.
_FEATURES: tuple[tuple[str, str, str | bool], ...] = (
    (
        "http://hl7.org/fhir/uv/tx-tests/FeatureDefinition/test-version",
        "valueCode",
        "0.0.0+888e84d",
    ),
    (
        "http://hl7.org/fhir/uv/tx-ecosystem/FeatureDefinition/CodeSystemAsParameter",
        "valueBoolean",
        True,
    ),
)


def _feature(definition: str, type: str, value: str | bool) -> dict[str, Any]:
    parts = [{"url": "definition", "valueCanonical": definition}, {"url": "value", type: value}]
    return {"url": _FEATURE, "extension": parts}


def _offers(surface: Surface, operation: str) -> bool:
    return any(each.name == operation for each in surface.operations)


def statement(surface: Surface, software: Software) -> dict[str, Any]:
    """The CapabilityStatement of a server."""
    made = {
        "resourceType": "CapabilityStatement",
        "extension": [_feature(*each) for each in _FEATURES if _offers(surface, "expand")],
        "url": f"{software.url}/metadata",
        "version": software.version,
        "name": software.name,
        "title": f"What {software.name} offers",
        "status": "active",
        "date": software.date,
        "kind": "instance",
        "instantiates": list(surface.guides.instantiates),
        "software": {
            "name": software.name,
            "version": software.version,
            "releaseDate": software.released or software.date,
        },
        "implementation": {"description": software.name, "url": software.url},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "patchFormat": list(surface.patch_formats),
        "implementationGuide": list(surface.guides.guides),
        "rest": [_rest(surface, software)],
    }
    return {name: value for name, value in made.items() if value}


def _rest(surface: Surface, software: Software) -> dict[str, Any]:
    made = {
        "mode": "server",
        "security": {"description": software.security},
        "resource": [_resource(surface, type) for type in sorted(surface.types)],
        "interaction": [{"code": c} for c in _SYSTEM_CODES if c in surface.codes],
        "operation": _operations(surface.operations, "system", None),
        "compartment": list(surface.compartments),
    }
    return {name: value for name, value in made.items() if value}


def _resource(surface: Surface, type: str) -> dict[str, Any]:
    codes = [c for c in _TYPE_CODES if c in surface.codes and surface.offers(type, c)]
    made: dict[str, Any] = {
        "type": type,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{type}",
        "supportedProfile": list(surface.guides.profiles.get(type, ())),
        "interaction": [{"code": code} for code in codes],
        "versioning": "versioned-update" if "update" in codes else "no-version",
        "readHistory": "vread" in codes,
        "conditionalRead": "full-support",
        **_conditional(codes),
        "referencePolicy": ["literal", "logical"],
        "searchInclude": sorted(surface.includes(type)),
        "searchRevInclude": sorted(surface.revincludes(type)),
        "searchParam": [
            {"name": each.name, "definition": each.definition, "type": each.type}
            for each in surface.parameters(type)
        ],
        "operation": _operations(surface.operations, "type", type),
    }
    return {name: value for name, value in made.items() if value not in ([], ())}


def _conditional(codes: list[str]) -> Mapping[str, Any]:
    return {
        "updateCreate": "update" in codes,
        "conditionalCreate": "create" in codes and "update" in codes,
        "conditionalUpdate": "update" in codes,
        "conditionalDelete": "multiple" if "delete" in codes else "not-supported",
    }


def _operations(offered: Iterable[Offered], level: str, type: str | None) -> list[dict[str, str]]:
    return [
        {"name": each.name, "definition": each.definition}
        for each in offered
        if (level in each.levels or (level == "type" and "instance" in each.levels))
        and (type is None or not each.types or type in each.types)
    ]
