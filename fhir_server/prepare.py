"""From a received resource to what is stored: validated, indexed, encoded, but for its version.

Everything here is pure and runs before a transaction is entered; the transaction stamps the id,
versionId and lastUpdated by joining bytes. https://hl7.org/fhir/R4/resource.html#Meta
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from conformance.json import encode
from conformance.outcome import FhirError, Issue
from fhir_server import owners
from fhir_server.claimed import conform
from fhir_server.core import Core
from fhir_server.indexing.sources import is_active, require_usable
from fhir_server.interaction import Resource
from fhir_server.search.references import literal
from fhir_server.storage.store import Entry, Version
from fhir_server.times import instant

# What is refused until the part of the server that makes it work is there: type -> element, values.
_INERT: dict[str, tuple[str, frozenset[str]]] = {
    "Subscription": ("status", frozenset({"requested", "active"})),
}

_NO_META: dict[str, Any] = {}
_STAMPED = ("versionId", "lastUpdated", "_versionId", "_lastUpdated")  # of meta, when it is put
_BEFORE = ("resourceType", "id", "meta")  # stand before the rest of a resource


@dataclass(frozen=True, slots=True)
class Prepared:
    """A valid resource, ready to become a version of any id. `warnings` are the validator's;
    `edition`: of the index, by which its entries were made."""

    resource: Resource
    meta: bytes  # the rest of meta behind versionId and lastUpdated, with its closing brace
    rest: bytes  # the rest of the resource behind meta, with its closing brace
    entries: tuple[Entry, ...]
    owner: str | None
    warnings: tuple[Issue, ...]
    edition: object

    @property
    def type(self) -> str:
        """Its resource type."""
        return str(self.resource["resourceType"])

    @property
    def id(self) -> str | None:
        """The id that the body itself gives."""
        return self.resource.get("id")

    def references(self, core: Core) -> set[str]:
        """Literal references to resources of this server, as Type/id."""
        found = (
            literal(text, core.base_url, core.definitions.types)
            for text in literal_references(self.resource)
        )
        return {f"{each.type}/{each.id}" for each in found if each is not None}

    def version(self, id: str, number: int, updated: int) -> Version:
        """The version to put."""
        body = (
            f'{{"resourceType":"{self.type}","id":"{id}",'
            f'"meta":{{"versionId":"{number}","lastUpdated":"{instant(updated)}"'
        ).encode() + (self.meta + self.rest)
        owner = f"Patient/{id}" if self.type == "Patient" else self.owner
        return Version(self.type, id, number, updated, body, owner)


def prepare(core: Core, resource: Resource, warnings: bool = False) -> Prepared:
    """Validate, extract and encode; look for `warnings` too when the caller wants to know them.
    FhirError with every issue when the resource is not valid."""
    issues = core.validator.validate(resource, core.limits.issues, warnings=warnings)
    if any(each.severity in ("error", "fatal") for each in issues):
        raise FhirError("invalid", "The resource is not valid", status=422, issues=issues)
    if warnings or core.writing.enforces:
        issues += conform(core, resource, warnings)
    _refuse_inert(resource)
    if is_active(resource):
        require_usable(core, resource)
    edition = core.index.edition
    entries = core.index.entries(resource)
    return Prepared(
        resource,
        _joined(resource.get("meta", _NO_META), _STAMPED),
        _joined(resource, _BEFORE),
        tuple(entries),
        owners.owner(resource, entries, core.index),
        tuple(issues),
        edition,
    )


def _joined(members: dict[str, Any], without: tuple[str, ...]) -> bytes:
    """An object's bytes from behind its opening brace, led by a comma where something follows."""
    rest = members.copy()
    for name in without:
        rest.pop(name, None)
    return b"," + encode(rest)[1:] if rest else b"}"


def _refuse_inert(resource: Resource) -> None:
    element, values = _INERT.get(resource["resourceType"], ("", frozenset()))
    if element and resource.get(element) in values:
        type = resource["resourceType"]
        raise FhirError(
            "not-supported",
            f"A {type} with {element} {resource[element]} would have no effect on this server yet; "
            f"store it with another {element}",
            f"{type}.{element}",
        )


def literal_references(value: Any) -> Iterator[str]:
    """Every `reference` string in a resource, contained ones included."""
    if isinstance(value, dict):
        own = value.get("reference")
        if isinstance(own, str):
            yield own
        value = list(value.values())
    if isinstance(value, list):
        for child in value:
            yield from literal_references(child)
