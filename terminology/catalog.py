"""What a canonical url names: in what was sent along, in the built-in providers, in the packages.

https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from conformance.outcome import FhirError
from conformance.packages import Listed, Package, Packages, order
from terminology.cache import Recent
from terminology.canonical import Canonical, canonical, fits
from terminology.codesystem import CodeSystem
from terminology.issues import refusal
from terminology.provider import Provider
from terminology.shapes import require

Resource: TypeAlias = Mapping[str, Any]
_Place: TypeAlias = tuple[str, int]  # the digest of a package, and a place in it
TYPES = ("CodeSystem", "ValueSet", "ConceptMap", "NamingSystem")


@dataclass(frozen=True, slots=True)
class Limits:
    """Counts and depths of one request."""

    expansion: int = 10_000  # codes that are told without paging
    compared: int = 2_000_000  # comparisons that a listing makes
    filtered: int = 2_000_000  # codes that the filters of a value set look at
    depth: int = 16  # value sets that import each other
    imports: int = 200  # value sets that one draws in
    includes: int = 2_000  # includes, excludes and filters of a value set
    drawn: int = 10_000  # the same with those of its imports
    codings: int = 200  # of one CodeableConcept
    overlay: int = 500  # resources sent along
    mapped: int = 2_000_000  # elements of concept maps that a translation looks at
    properties: int = 20  # that $find-matches is given
    batch: int = 1_000  # validations of one batch
    systems: int = 512  # code systems kept compiled
    sets: int = 2_048  # value sets kept compiled


@dataclass(frozen=True, slots=True)
class Overlay:
    """Resources beside the packages, private to whoever made it: the newest version first."""

    resources: Mapping[tuple[str, str], Sequence[Resource]] = field(default_factory=dict)

    @staticmethod
    def of(resources: Iterable[Resource], before: Overlay | None = None) -> Overlay:
        """Those resources, and those of another overlay that they do not replace."""
        found: dict[tuple[str, str], dict[str, Resource]] = {}
        for each in (*(before.each() if before else ()), *resources):
            if each.get("resourceType") in TYPES and isinstance(each.get("url"), str):
                key = (each["resourceType"], each["url"])
                found.setdefault(key, {})[each.get("version") or ""] = each
        return Overlay(
            {
                key: sorted(
                    versions.values(), key=lambda one: order(one.get("version") or ""), reverse=True
                )
                for key, versions in found.items()
            }
        )

    def find(self, type: str, at: Canonical) -> Resource | None:
        known = self.resources.get((type, at.url), ())
        exact = (each for each in known if each.get("version") == at.version)
        near = (each for each in known if fits(each.get("version"), at.version))
        return next(exact, None) or next(near, None)

    def each(self) -> Iterator[Resource]:
        for known in self.resources.values():
            yield from known


class _Own:
    """A code system with what it is made of, so that nothing else can have their identities."""

    def __init__(self, resource: Resource, supplements: Sequence[Resource]) -> None:
        self.made_of = (resource, *supplements)
        self.provider = CodeSystem(resource, supplements)


class Catalog:
    """Finds definitions; compiles code systems when they are first asked for."""

    def __init__(
        self,
        packages: Packages,
        providers: Sequence[Provider],
        limits: Limits,
        overlay: Overlay | None = None,
        base: Catalog | None = None,
    ) -> None:
        self.packages = packages
        self.providers = tuple(providers)
        self.limits = limits
        self.overlay = overlay or Overlay()
        # What is known of the packages, which every catalog of them has in common.
        self._shared: Recent[_Place, Provider] = base._shared if base else Recent(limits.systems)
        self._sound: set[_Place] = base._sound if base else set()
        self._own: Recent[tuple[int, ...], _Own] = Recent(limits.overlay)

    def having(self, resources: Iterable[Resource]) -> Catalog:
        """This catalog with resources that nobody else sees. FhirError when there are too many."""
        overlay = Overlay.of(resources, self.overlay)
        if sum(1 for _ in overlay.each()) > self.limits.overlay:
            text = f"At most {self.limits.overlay} resources may be sent along"
            raise refusal("too-costly", text=text)
        return Catalog(self.packages, self.providers, self.limits, overlay, self)

    def resource(self, type: str, at: Canonical) -> Resource | None:
        """A definition; without a version the newest."""
        found = self.overlay.find(type, at)
        held = self.packages.held(type, str(at)) if found is None else None
        return found if held is None else self._sound_of(*held)

    def maps(self) -> Iterator[Resource]:
        """Every concept map, those of the overlay first; of packages those that can be read."""
        yield from (each for each in self.overlay.each() if each["resourceType"] == "ConceptMap")
        for package, listed in self.packages.each("ConceptMap"):
            with suppress(FhirError):
                yield self._sound_of(package, listed)

    def _sound_of(self, package: Package, listed: Listed) -> Resource:
        """What a package has. FhirError 422 for what is not in the shape of its definition."""
        resource, key = package.resource(listed), (package.digest, listed.place)
        if key not in self._sound:
            try:
                require(resource)
            except FhirError as error:
                text = f"A definition of the package {package.label} cannot be read: {error}"
                raise FhirError("invalid", text, status=422) from error
            self._sound.add(key)
        return resource

    def system(self, at: Canonical, supplements: Sequence[Resource] = ()) -> Provider | None:
        """A code system; None when it is unknown. A supplement is none."""
        own = self.overlay.find("CodeSystem", at)
        if own is not None and own.get("content") != "supplement":
            return self._overlaid(own, supplements)
        built_in = self._built_in(at)
        if built_in is not None:
            return built_in
        held = self.packages.held("CodeSystem", str(at))
        if held is None or held.listed.kind == "supplement":
            return None
        package, listed = held
        if supplements and (mine := _supplementing(supplements, at.url)):
            return self._compiled(self._sound_of(package, listed), mine)
        key = (package.digest, listed.place)
        return self._shared.get(key, lambda: CodeSystem(self._sound_of(package, listed)))

    def known_versions(self, url: str) -> tuple[str, ...]:
        """Those of a code system, newest first."""
        own = self.overlay.resources.get(("CodeSystem", url), ())
        listed = (one.version for one in self.packages.versions("CodeSystem", url))
        built_in = (one.version or "" for one in self.providers if one.url == url)
        found = dict.fromkeys((*(str(one.get("version", "")) for one in own), *built_in, *listed))
        return tuple(each for each in found if each)

    def supplement(self, text: str) -> Resource:
        """The supplement that a canonical names. FhirError when there is none: what must be used
        is never left out."""
        found = self.resource("CodeSystem", canonical(text))
        if found is None or found.get("content") != "supplement":
            raise refusal("unknown-supplement", supplement=text, status=404)
        return found

    def _overlaid(self, resource: Resource, supplements: Sequence[Resource]) -> Provider:
        return self._compiled(resource, _supplementing(supplements, resource["url"]))

    def _compiled(self, resource: Resource, supplements: Sequence[Resource]) -> Provider:
        """A code system that is of this catalog alone, made once while it is remembered."""
        key = (id(resource), *(id(each) for each in supplements))
        return self._own.get(key, lambda: _Own(resource, supplements)).provider

    def _built_in(self, at: Canonical) -> Provider | None:
        known = (each for each in self.providers if each.url == at.url)
        return next((each for each in known if fits(each.version, at.version)), None)


def _supplementing(supplements: Sequence[Resource], url: str) -> list[Resource]:
    """Those for a code system, each once."""
    found = {
        id(each): each
        for each in supplements
        if canonical(str(each.get("supplements", ""))).url == url
    }
    return list(found.values())
