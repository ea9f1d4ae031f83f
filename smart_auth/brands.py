"""The user-access brand of this server: the organisation that runs it, as apps show it to
patients.

https://hl7.org/fhir/smart-app-launch/brands.html
"""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from smart_auth.authority import SIGN_IN, Site

_PROFILE = "http://hl7.org/fhir/smart-app-launch/StructureDefinition/"
_EXTENSION = "http://hl7.org/fhir/StructureDefinition/"
_FHIR_VERSION = "4.0.1"


def identifier(site: Site) -> dict[str, str]:
    """The identifier of the brand: the organisation's address."""
    return {"system": "urn:ietf:rfc:3986", "value": site.base}


def bundle(site: Site, changed: str) -> dict[str, Any]:
    """The Bundle of the one brand and its one endpoint. `changed`: an instant of FHIR."""
    endpoint = _endpoint(site)
    brand = _brand(site, f"Endpoint/{endpoint['id']}")
    entries = [
        {"fullUrl": f"{site.fhir}/{each['resourceType']}/{each['id']}", "resource": each}
        for each in (brand, endpoint)
    ]
    return {
        "resourceType": "Bundle",
        "id": _id(site, "brands"),
        "meta": {"lastUpdated": changed, "profile": [_PROFILE + "user-access-brands-bundle"]},
        "type": "collection",
        "timestamp": changed,
        "entry": entries,
    }


def _brand(site: Site, endpoint: str) -> dict[str, Any]:
    portal = [
        {"url": "portalName", "valueString": site.name},
        {"url": "portalUrl", "valueUrl": site.at(SIGN_IN)},
        {"url": "portalEndpoint", "valueReference": {"reference": endpoint}},
    ]
    return {
        "resourceType": "Organization",
        "id": _id(site, "brand"),
        "meta": {"profile": [_PROFILE + "user-access-brand"]},
        "extension": [{"url": _EXTENSION + "organization-portal", "extension": portal}],
        "identifier": [identifier(site)],
        "active": True,
        "name": site.name,
        "telecom": [{"system": "url", "value": site.base}],
        "endpoint": [{"reference": endpoint}],
    }


def _endpoint(site: Site) -> dict[str, Any]:
    return {
        "resourceType": "Endpoint",
        "id": _id(site, "endpoint"),
        "meta": {"profile": [_PROFILE + "user-access-endpoint"]},
        "extension": [{"url": _EXTENSION + "endpoint-fhir-version", "valueCode": _FHIR_VERSION}],
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "hl7-fhir-rest",
        },
        "name": f"FHIR API of {site.name}",
        "contact": [{"system": "url", "value": f"{site.fhir}/.well-known/smart-configuration"}],
        "payloadType": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/endpoint-payload-type",
                        "code": "none",
                    }
                ]
            }
        ],
        "address": site.fhir,
    }


def _id(site: Site, what: str) -> str:
    """An id that stays the same over restarts, and is another server's of the same vendor not."""
    return str(uuid5(NAMESPACE_URL, f"{site.fhir}#{what}"))
