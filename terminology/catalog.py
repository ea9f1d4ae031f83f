"""What a canonical url names: in what was sent along, in the built-in providers, in the packages.

https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from conformance.packages import Packages, order
from terminology.cache import Recent
from terminology.canonical import Canonical, canonical, fits
from terminology.codesystem import CodeSystem
from terminology.issues import refusal
from terminology.provider import Provider

Resource: TypeAlias = Mapping[str, Any]
TYPES = ("CodeSystem", "ValueSet", "ConceptMap", "NamingSystem")


@dataclass(frozen=True, slots=True)
class Limits:
    """Counts and depths of one request."""

    expansion: int = 10_000  # codes that are told without paging
    compared: int = 2_000_000  # comparisons that a listing makes
    filtered: int = 500_000  # codes that the filters of a value set look at
    depth: int = 16  # value sets that import each other
    imports: int = 200  # value sets that one draws in
    includes: int = 2_000  # includes, excludes and filters of a value set
    codings: int = 200  # of one CodeableConcept
    overlay: int = 500  # resources sent along
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


class Catalog:
    """Finds definitions; compiles code systems when they are first asked for."""

    def __init__(
        self,
        packages: Packages,
        providers: Sequence[Provider],
        limits: Limits,
        overlay: Overlay | None = None,
        compiled: Recent[tuple[str, str], Provider] | None = None,
    ) -> None:
        self.packages = packages
        self.providers = tuple(providers)
        self.limits = limits
        self.overlay = overlay or Overlay()
        self._shared = compiled or Recent(limits.systems)
        self._own: dict[int, Provider] = {}

    def having(self, resources: Iterable[Resource]) -> Catalog:
        """This catalog with resources that nobody else sees. FhirError when there are too many."""
        overlay = Overlay.of(resources, self.overlay)
        if sum(1 for _ in overlay.each()) > self.limits.overlay:
            text = f"At most {self.limits.overlay} resources may be sent along"
            raise refusal("too-costly", text=text)
        return Catalog(self.packages, self.providers, self.limits, overlay, self._shared)

    def resource(self, type: str, at: Canonical) -> Resource | None:
        """A definition; without a version the newest."""
        found = self.overlay.find(type, at)
        return found if found is not None else self.packages.find(type, str(at))

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
            return CodeSystem(package.resource(listed), mine)
        key = (package.label, f"{listed.url}|{listed.version}")
        return self._shared.get(key, lambda: CodeSystem(package.resource(listed)))

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
        if supplements and (mine := _supplementing(supplements, resource["url"])):
            return CodeSystem(resource, mine)
        found = self._own.get(id(resource))
        if found is None:
            found = self._own[id(resource)] = CodeSystem(resource)
        return found

    def _built_in(self, at: Canonical) -> Provider | None:
        known = (each for each in self.providers if each.url == at.url)
        return next((each for each in known if fits(each.version, at.version)), None)


def _supplementing(supplements: Sequence[Resource], url: str) -> list[Resource]:
    return [each for each in supplements if canonical(str(each.get("supplements", ""))).url == url]
