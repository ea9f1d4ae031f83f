"""Whether a package can be installed here, and what stays unchecked for lack of others.

https://hl7.org/fhir/packages.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from conformance.packages import Package, PackageError, Packages, core

_R4 = ("4.0", "4.0.0", "4.0.1")
_BINDINGS = frozenset({"required", "extensible"})


class Lacking(NamedTuple):
    """`dependencies`: name, version and the version that is there instead (""); `value_sets` and
    `profiles`: what the package names and nobody has, counted by the address that they lie
    below."""

    dependencies: tuple[tuple[str, str, str], ...]
    value_sets: tuple[tuple[str, int], ...]
    profiles: tuple[tuple[str, int], ...]


def require_installable(package: Package) -> None:
    """PackageError for a package of another FHIR version, and for what is always here."""
    if package.name == core().name:
        raise PackageError(f"{core().label} is always here: it is a part of Salus")
    if not package.fhir_versions:
        raise PackageError(f"{package.label} does not say which FHIR version it is for")
    if not any(each in _R4 for each in package.fhir_versions):
        versions = ", ".join(package.fhir_versions)[:100]
        raise PackageError(
            f"{package.label} is for FHIR {versions}; this server speaks R4 (4.0.1): many packages "
            f"are published for R4 too, as {package.name}.r4"
        )


def lacking(package: Package, packages: Packages) -> Lacking:
    """What a package needs and a set of packages does not have. Reads all of its profiles."""
    there = packages.including(package)
    dependencies = tuple(_missing(package, there))
    value_sets: set[str] = set()
    profiles: set[str] = set()
    for listed in package.by_type.get("StructureDefinition", ()):
        for element in _elements(package.resource(listed)):
            value_sets.update(_bound(element))
            profiles.update(_typed(element))
        profiles.add(listed.base)
    for listed in package.by_type.get("ValueSet", ()):
        value_sets.update(_imported(package.resource(listed)))
    return Lacking(
        dependencies,
        _unknown(there, "ValueSet", value_sets),
        _unknown(there, "StructureDefinition", profiles),
    )


def _missing(package: Package, there: Packages) -> Iterator[tuple[str, str, str]]:
    for name, version in package.dependencies:
        if there.fitting(name, version) is None:
            other = there.package(name)
            yield name, version, other.version if other else ""


def _elements(structure: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for form in ("snapshot", "differential"):
        yield from structure.get(form, {}).get("element", ())


def _bound(element: Mapping[str, Any]) -> Iterator[str]:
    binding = element.get("binding", {})
    if binding.get("strength") in _BINDINGS and "valueSet" in binding:
        yield binding["valueSet"]


def _typed(element: Mapping[str, Any]) -> Iterator[str]:
    for type in element.get("type", ()):
        yield from type.get("profile", ())


def _imported(value_set: Mapping[str, Any]) -> Iterator[str]:
    compose = value_set.get("compose", {})
    for include in (*compose.get("include", ()), *compose.get("exclude", ())):
        yield from include.get("valueSet", ())


def _unknown(there: Packages, type: str, canonicals: Iterable[str]) -> tuple[tuple[str, int], ...]:
    below = Counter(
        each.partition("|")[0].rpartition("/")[0]
        for each in canonicals
        if each and "#" not in each and there.held(type, each) is None
    )
    return tuple(sorted(below.items()))
