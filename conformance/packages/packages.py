"""A set of packages, and what a canonical url names in it.

https://hl7.org/fhir/R4/references.html#canonical
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from conformance.packages.package import Listed, Package, core
from conformance.packages.versions import fits, order

# How far a code system's content goes: one that lists all of its codes is asked first.
_FIRST = {"complete": 0, "fragment": 1, "example": 2, "not-present": 3, "supplement": 4}


class Held(NamedTuple):
    """A resource and the package that has it."""

    package: Package
    listed: Listed


class Packages:
    """An immutable set of packages; the core of R4 is always in it."""

    def __init__(self, packages: Iterable[Package] = ()) -> None:
        given = {each.label: each for each in (core(), *packages)}
        self.packages = tuple(
            sorted(given.values(), key=lambda each: (each.name, order(each.version)))
        )
        # One dictionary entry per canonical that was asked for; filled by whoever asks first.
        self._known: dict[tuple[str, str], tuple[Held, ...]] = {}

    @cached_property
    def digest(self) -> str:
        """Names the set: equal sets have equal digests."""
        told = "".join(f"{each.label} {each.digest}\n" for each in self.packages)
        return hashlib.sha256(told.encode()).hexdigest()

    def find(self, type: str, canonical: str) -> dict[str, Any] | None:
        """The resource that `url` or `url|version` names; without a version the newest, code
        systems that are complete before all others. It is shared: whoever changes it copies it."""
        held = self.held(type, canonical)
        return None if held is None else held.package.resource(held.listed)

    def held(self, type: str, canonical: str) -> Held | None:
        """The same, with its package and unread."""
        url, bar, version = canonical.partition("|")
        known = self._versions(type, url)
        if not bar:
            return known[0] if known else None
        exact = [each for each in known if each.listed.version == version]
        if exact or not version:
            own = (each for each in exact if each.package is core())
            return next(own, exact[0] if exact else None)
        return next((each for each in known if fits(version, each.listed.version)), None)

    def versions(self, type: str, url: str) -> tuple[Listed, ...]:
        """What is there under one url, newest first; complete code systems before all others."""
        return tuple(held.listed for held in self._versions(type, url))

    def all_of(self, type: str, url: str) -> tuple[Held, ...]:
        """The same, with the package of each."""
        return self._versions(type, url)

    def each(self, *types: str) -> Iterator[tuple[Package, Listed]]:
        """Everything of these resource types, package by package."""
        for package in self.packages:
            for type in types:
                for listed in package.by_type.get(type, ()):
                    yield package, listed

    def package(self, name: str, version: str | None = None) -> Package | None:
        """A package; without a version the newest."""
        named = [each for each in self.packages if each.name == name]
        if version is None:
            return named[-1] if named else None
        return next((each for each in named if each.version == version), None)

    def fitting(self, name: str, version: str) -> Package | None:
        """The package that a dependency names: `4.0.x`, `6.1.x-preview`, `current` and `latest`
        are what guides write besides plain versions."""
        named = [each for each in self.packages if each.name == name]
        line = version.partition(".x")[0] if ".x" in version else None
        for each in reversed(named):
            if version in (each.version, "current", "dev", "latest", "", "*"):
                return each
            if line is not None and fits(line, each.version):
                return each
        return None

    def including(self, package: Package) -> Packages:
        """This set with one more."""
        return Packages((*self.packages, package))

    def without(self, name: str, version: str) -> Packages:
        """This set without one; core stays."""
        return Packages(
            each for each in self.packages if (each.name, each.version) != (name, version)
        )

    def _versions(self, type: str, url: str) -> tuple[Held, ...]:
        key = (type, url)
        known = self._known.get(key)
        if known is None:
            found = [
                Held(package, listed)
                for package in self.packages
                for listed in package.by_url.get(key, ())
            ]
            known = tuple(sorted(found, key=_age, reverse=True))
            if known:  # what is not there is not remembered: whoever asks may ask for anything
                self._known[key] = known
        return known


def _age(held: Held) -> Any:
    listed = held.listed
    first = _FIRST.get(listed.kind, 0) if listed.type == "CodeSystem" else 0
    own = held.package is core()  # what R4 defines nobody defines anew under its version
    return -first, order(listed.version), own, order(held.package.version), held.package.name
