"""TerminologyCapabilities: which code systems are here, and what can be asked of them.

https://hl7.org/fhir/R4/terminologycapabilities.html
"""

from __future__ import annotations

from typing import Any

from terminology.catalog import Catalog

# What $expand takes, each told by its name.
EXPANSION_PARAMETERS = (
    "activeOnly",
    "check-system-version",
    "count",
    "designation",
    "displayLanguage",
    "exclude-system",
    "excludeNested",
    "excludeNotForUI",
    "filter",
    "force-system-version",
    "includeDefinition",
    "includeDesignations",
    "offset",
    "property",
    "system-version",
    "tx-resource",
    "url",
    "useSupplement",
    "valueSet",
    "valueSetVersion",
)


def capabilities(catalog: Catalog) -> dict[str, Any]:
    """Everything but who publishes it and when."""
    return {
        "resourceType": "TerminologyCapabilities",
        "status": "active",
        "kind": "instance",
        "codeSystem": [
            _system(url, versions) for url, versions in sorted(_systems(catalog).items())
        ],
        "expansion": {
            "hierarchical": True,
            "paging": True,
            "incomplete": False,
            "parameter": [{"name": name} for name in EXPANSION_PARAMETERS],
            "textFilter": "Each word begins a word of the code, the display or a designation",
        },
        "codeSearch": "all",
        "validateCode": {"translations": True},
        "translation": {"needsMap": False},
        "closure": {"translation": False},
    }


def _systems(catalog: Catalog) -> dict[str, tuple[str, ...]]:
    """The versions of every code system, newest first."""
    urls = {each.url for each in catalog.providers}
    for _, listed in catalog.packages.each("CodeSystem"):
        if listed.url and listed.kind != "supplement":
            urls.add(listed.url)
    for each in catalog.overlay.each():
        if each["resourceType"] == "CodeSystem" and each.get("content") != "supplement":
            urls.add(each["url"])
    return {url: catalog.known_versions(url) for url in urls}


def _system(url: str, versions: tuple[str, ...]) -> dict[str, Any]:
    listed = [{"code": each, "isDefault": at == 0} for at, each in enumerate(versions)]
    return {"uri": url, "version": listed} if listed else {"uri": url}
