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


def _systems(catalog: Catalog) -> dict[str, dict[str, None]]:
    """The versions of every code system, newest first."""
    found: dict[str, dict[str, None]] = {}
    for provider in catalog.providers:
        found.setdefault(provider.url, {})[provider.version or ""] = None
    for _, listed in catalog.packages.each("CodeSystem"):
        if listed.url and listed.kind != "supplement" and listed.url not in found:
            known = catalog.packages.versions("CodeSystem", listed.url)
            found[listed.url] = dict.fromkeys(one.version for one in known)
    for each in catalog.overlay.each():
        if each["resourceType"] == "CodeSystem" and each.get("content") != "supplement":
            own = found.get(each["url"], {})
            found[each["url"]] = {str(each.get("version", "")): None, **own}
    return found


def _system(url: str, versions: dict[str, None]) -> dict[str, Any]:
    listed = [
        {"code": version, "isDefault": at == 0} for at, version in enumerate(versions) if version
    ]
    return {"uri": url, "version": listed} if listed else {"uri": url}
