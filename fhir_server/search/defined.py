"""A SearchParameter resource understood: what it says of each resource type, or why this server
cannot search by it.

https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from conformance.definitions import Definitions, SearchParameter
from conformance.fhirpath.syntax import FhirPathError
from conformance.outcome import FhirError
from fhir_server.search.expressions import plain, readable
from fhir_server.search.kinds import KINDS
from fhir_server.search.parameters import PHONETIC, parts_of

GENERAL = ("Resource", "DomainResource")
COMPOSITE = "composite"

# What is indexed in a way of its own, and what is cut for who may not see all of it, by parameters
# that the server knows: no further ones are taken there.
CLOSED = frozenset({"AuditEvent", "Provenance"})

# Keys of entries are made of codes: a code has none of the characters that join them.
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_\-]{0,63}", re.ASCII)
_ROOT = re.compile(r"\(*\s*(?P<name>[A-Za-z]+)")


class Source(NamedTuple):
    """A SearchParameter resource, and where it is from: `package#version` or SearchParameter/id."""

    resource: Mapping[str, Any]
    origin: str


class Definition(NamedTuple):
    """What one SearchParameter resource says, of each type that it has as base."""

    url: str
    code: str
    derived_from: str | None
    origin: str
    by_type: Mapping[str, SearchParameter]


def define(source: Source, definitions: Definitions) -> Definition:
    """The resource understood. FhirError 422, which names the element."""
    resource = source.resource
    code, kind = str(resource.get("code", "")), str(resource.get("type", ""))
    own = f"{code} of SearchParameter" if _CODE.fullmatch(code) else "A SearchParameter"
    if not _CODE.fullmatch(code) and not code.startswith("_"):
        raise refused(
            "A code is letters, digits, - and _, at most 64, and begins with a letter", "code"
        )
    if kind not in {*KINDS.keys() - {PHONETIC}, COMPOSITE}:
        raise refused(f"{own}: the type {kind} is not supported", "type")
    if resource.get("xpathUsage") in ("phonetic", "nearby", "distance"):
        raise refused(f"{own}: this xpathUsage is not supported", "xpathUsage")
    expression = resource.get("expression")
    if not expression:
        raise refused(f"{own} has no expression: this server needs one", "expression")
    _require_readable(expression, "expression", definitions)
    components = tuple(_components(resource, definitions))
    if (kind == COMPOSITE) != bool(components):
        raise refused(f"{own}: components belong to a composite, and to nothing else", "component")
    by_type = {
        type: SearchParameter(
            str(resource["url"]),
            code,
            kind,
            plain(said, definitions),
            _targets(resource, kind, definitions),
            components,
        )
        for type, said in _said(resource, expression, definitions)
    }
    derived = resource.get("derivedFrom")
    return Definition(str(resource["url"]), code, derived, source.origin, by_type)


def refused(text: str, element: str) -> FhirError:
    """422: this server cannot search by it."""
    return FhirError("not-supported", text, f"SearchParameter.{element}", status=422)


def _require_readable(expression: str, element: str, definitions: Definitions) -> None:
    try:
        readable(expression, definitions)
    except FhirPathError as error:
        raise refused(f"The {element} cannot be used: {error}", element) from None


def _components(resource: Mapping[str, Any], definitions: Definitions) -> Iterator[tuple[str, str]]:
    for each in resource.get("component", ()):
        _require_readable(each["expression"], "component.expression", definitions)
        yield each["definition"].partition("|")[0], plain(each["expression"], definitions)


def _targets(resource: Mapping[str, Any], kind: str, definitions: Definitions) -> tuple[str, ...]:
    if kind != "reference":
        return ()
    named = tuple(each for each in resource.get("target", ()) if each in definitions.types)
    return named or tuple(sorted(definitions.types))


def _said(
    resource: Mapping[str, Any], expression: str, definitions: Definitions
) -> Iterator[tuple[str, str]]:
    """Each type that it speaks of, and the parts of the expression that do. FhirError."""
    parts = sorted(parts_of(expression))
    for base in resource["base"]:
        if base not in GENERAL and base not in definitions.types:
            raise refused("A base is no resource type of R4", "base")
        of_base = [part for part in parts if _speaks_of(base, part, definitions)]
        if not of_base:
            text = f"No part of the expression speaks of {base}, which is a base"
            raise refused(text, "expression")
        for type in _types(base, definitions):
            yield type, " | ".join(of_base)


def _types(base: str, definitions: Definitions) -> list[str]:
    """The types that a base stands for."""
    if base not in GENERAL:
        return [base]
    return [
        type
        for type in sorted(definitions.types - CLOSED)
        if base == "Resource" or definitions.children(type).get("extension") is not None
    ]


def _speaks_of(base: str, part: str, definitions: Definitions) -> bool:
    root = _ROOT.match(part)
    named = root["name"] if root else ""
    return named in (base, *GENERAL) or named not in definitions.structures
