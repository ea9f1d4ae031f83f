"""Which version of a code system a request means: forced, in the value set, by default, newest.

https://hl7.org/fhir/R4/valueset-operation-expand.html
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from terminology.canonical import Canonical, canonical, fits
from terminology.catalog import Catalog, Resource
from terminology.issues import refusal
from terminology.provider import Provider


class VersionRules(NamedTuple):
    """Versions by the url of the code system, as pairs, so that it can be a key."""

    force: tuple[tuple[str, str], ...] = ()
    default: tuple[tuple[str, str], ...] = ()
    check: tuple[tuple[str, str], ...] = ()

    def wanted(self, url: str, named: str | None) -> str | None:
        """The version to use where a value set names one, or none."""
        return _of(self.force, url) or named or _of(self.default, url)

    def verify(self, provider: Provider) -> None:
        """FhirError when the version in use is not the one that must be."""
        asked = _of(self.check, provider.url)
        if asked is not None and not fits(provider.version, asked):
            raise refusal(
                "version-check", version=provider.version, system=provider.url, asked=asked
            )


class Context(NamedTuple):
    """What definitions are read with: where they are found, the rules, the supplements in use."""

    catalog: Catalog
    rules: VersionRules = VersionRules()
    supplements: tuple[Resource, ...] = ()

    def system(self, url: str, version: str | None) -> Provider | None:
        """The code system of an include, if any of its codes are here. FhirError when its version
        is not allowed."""
        at = canonical(url, version)
        wanted = self.rules.wanted(at.url, at.version)
        found = self.catalog.system(Canonical(at.url, wanted), self.supplements)
        if found is None or found.content == "not-present":
            return None
        self.rules.verify(found)
        return found


def pairs(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """`system|version` each. FhirError for a canonical without a version."""
    found = [canonical(each) for each in texts]
    if any(not each.version for each in found):
        raise refusal("broken-set", text="A version parameter is written system|version")
    return tuple((each.url, each.version or "") for each in found)


def _of(rules: tuple[tuple[str, str], ...], url: str) -> str | None:
    return next((version for system, version in rules if system == url), None)
