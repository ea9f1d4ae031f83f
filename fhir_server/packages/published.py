"""Definitions of core and of installed packages, served as resources that can be read and found.

https://hl7.org/fhir/R4/canonicalresource.html

They are found by their canonical url (and version, name, status), beside what is stored, and read
by an id of their own, since several versions of a guide use one id. Nobody can change them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache

from conformance.json import encode
from conformance.packages import Listed, Package, Packages
from fhir_server import access
from fhir_server.core import Step
from fhir_server.packages.ours import ours
from fhir_server.storage.store import ID, Version
from smart_auth.grant import Grant

TYPES = frozenset(
    {
        "CapabilityStatement",
        "CodeSystem",
        "CompartmentDefinition",
        "ConceptMap",
        "ImplementationGuide",
        "NamingSystem",
        "OperationDefinition",
        "Questionnaire",
        "SearchParameter",
        "StructureDefinition",
        "ValueSet",
    }
)
_ID = re.compile(r"pkg-[0-9a-f]{40}", re.ASCII)
# How a parameter asks of what the table of contents says; whatever else is asked is not answered.
_ASKED: Mapping[str, Callable[[Listed, str], bool]] = {
    ID: lambda listed, value: False,  # what has an id is found by it alone
    "url": lambda listed, value: listed.url == value,
    "version": lambda listed, value: listed.version == value,
    "name": lambda listed, value: listed.name.lower().startswith(value.lower()),
    "name:exact": lambda listed, value: listed.name == value,
    "title": lambda listed, value: listed.title.lower().startswith(value.lower()),
    "status": lambda listed, value: listed.status == value,
}
# What does not change which resources match.
_SHAPES = frozenset({"_count", "_elements", "_format", "_pretty", "_sort", "_summary", "_total"})


def read(step: Step, type: str, id: str) -> Version | None:
    """The definition with an id that `found` gave; None where there is none for this caller."""
    if type not in TYPES or not _ID.fullmatch(id) or not _may(step.grant, type, "r"):
        return None
    place = _places(_shelf(step)).get(id)
    if place is None or place[1].type != type:
        return None
    return _version(*place, id)


def found(
    step: Step, type: str, asked: Iterable[tuple[str, str]], compartment: bool
) -> tuple[Version, ...]:
    """The definitions that a search means: by url or by id, narrowed by nothing that a table of
    contents does not tell."""
    if type not in TYPES or compartment or not _may(step.grant, type, "s"):
        return ()
    terms = [(name, value) for name, value in asked if name not in _SHAPES]
    named = dict(terms)
    if len(named) != len(terms) or not named.keys() <= _ASKED.keys():
        return ()
    if set(named) == {ID}:
        versions = (_placed(step, type, each) for each in named[ID].split(","))
        return tuple(each for each in versions if each is not None)
    if "url" not in named:
        return ()
    packages = _shelf(step)
    return tuple(
        _version(package, listed, _id(package, listed))
        for url in named["url"].split(",")
        for package, listed in packages.all_of(type, url)
        if all(
            any(_ASKED[name](listed, each) for each in value.split(","))
            for name, value in terms
            if name != "url"
        )
    )


def _shelf(step: Step) -> Packages:
    """What is installed, and what we define ourselves."""
    return _with_ours(step.core.guides.current.packages)


@lru_cache(maxsize=4)
def _with_ours(packages: Packages) -> Packages:
    return packages.including(ours())


def _placed(step: Step, type: str, id: str) -> Version | None:
    place = _places(_shelf(step)).get(id) if _ID.fullmatch(id) else None
    return _version(*place, id) if place is not None and place[1].type == type else None


def _may(grant: Grant, type: str, letter: str) -> bool:
    """Whether a scope opens all definitions of a type: one that is limited by a search parameter
    does not say whether it means these."""
    return grant.unrestricted or any(
        each.covers(type, letter) and not each.query for each in access.in_force(grant)
    )


def _version(package: Package, listed: Listed, id: str) -> Version:
    """A definition as if it were stored."""
    resource = package.resource(listed)
    rest = {name: value for name, value in resource.items() if name not in ("id", "meta")}
    meta = {**resource.get("meta", {}), "versionId": "1", "source": f"urn:package:{package.label}"}
    body = {"resourceType": rest.pop("resourceType"), "id": id, "meta": meta, **rest}
    return Version(listed.type, id, 1, 0, encode(body))


def _id(package: Package, listed: Listed) -> str:
    name = f"{package.label} {listed.type} {listed.url} {listed.version} {listed.id}"
    return f"pkg-{hashlib.sha256(name.encode()).hexdigest()[:40]}"


@lru_cache(maxsize=4)
def _places(packages: Packages) -> Mapping[str, tuple[Package, Listed]]:
    """Every definition by its id; made when the first is read."""
    return dict(_each(packages))


def _each(packages: Packages) -> Iterator[tuple[str, tuple[Package, Listed]]]:
    for package, listed in packages.each(*sorted(TYPES)):
        if listed.url:
            yield _id(package, listed), (package, listed)
