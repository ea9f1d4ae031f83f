"""What installed guides make this server say of itself.

https://hl7.org/fhir/R4/capabilitystatement.html#CapabilityStatement.instantiates
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from conformance.capability import Guides
from conformance.packages import Package, Packages, core, order
from fhir_server.bulk.offered import EXPORTS, INSTANTIATES


class Role(NamedTuple):
    """A CapabilityStatement, and when a server keeps to it: where a package is installed, and where
    it offers operations."""

    canonical: str
    package: str = ""
    operations: frozenset[str] = frozenset()


ROLES = (
    Role(
        "http://hl7.org/fhir/us/core/CapabilityStatement/us-core-server", package="hl7.fhir.us.core"
    ),
    Role(
        "http://hl7.org/fhir/CapabilityStatement/terminology-server",
        operations=frozenset({"expand", "validate-code", "lookup", "translate"}),
    ),
    Role(INSTANTIATES, operations=frozenset({EXPORTS[0].name})),
)


def claims(packages: Packages, operations: frozenset[str]) -> Guides:
    """The guides, roles and profiles of a server with these packages and operations (codes)."""
    installed = [each for each in packages.packages if each.name != core().name]
    return Guides(
        tuple(_guide(each) for each in installed),
        tuple(_roles(packages, operations)),
        _profiles(installed),
    )


def _guide(package: Package) -> str:
    """The canonical of its ImplementationGuide, with the version."""
    guides = package.by_type.get("ImplementationGuide", ())
    made = f"{package.canonical}/ImplementationGuide/{package.name}"
    return f"{guides[0].url if guides else made}|{package.version}"


def _roles(packages: Packages, operations: frozenset[str]) -> Iterator[str]:
    for role in ROLES:
        if not role.operations <= operations:
            continue
        if not role.package:
            yield role.canonical
            continue
        # A server of several versions keeps to each of them.
        yield from (
            f"{role.canonical}|{each.version}"
            for each in packages.packages
            if each.name == role.package
        )


def _profiles(installed: list[Package]) -> dict[str, tuple[str, ...]]:
    """The profiles on resources by type: each by its url, and by its versions where it has
    several."""
    versions: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for package in installed:
        for each in package.by_type.get("StructureDefinition", ()):
            if each.derivation == "constraint" and each.kind == "resource" and each.url:
                versions[each.of][each.url].add(each.version)
    return {type: tuple(_versioned(urls)) for type, urls in sorted(versions.items())}


def _versioned(urls: dict[str, set[str]]) -> Iterator[str]:
    for url, versions in sorted(urls.items()):
        yield url
        if len(versions) > 1:
            yield from (f"{url}|{each}" for each in sorted(versions, key=order))
