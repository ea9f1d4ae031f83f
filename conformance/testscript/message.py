"""What a script works on: fixtures, requests and responses, each by its id.

https://hl7.org/fhir/R4/testscript.html#fixtures
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx

from conformance.json import encode, parse
from conformance.outcome import FhirError
from conformance.xml import from_xml, to_xml

JSON, XML = "application/fhir+json", "application/fhir+xml"
_NO_HEADERS: Mapping[str, str] = httpx.Headers()


class ActionError(Exception):
    """An action cannot be carried out at all: nothing was proven either way. Its text says why."""


class Message(NamedTuple):
    """`resource` is None where the body is none, `unread` then says why. `id` and `version` are
    those that the server gave to what was sent, where it told them in a header only."""

    resource: dict[str, Any] | None = None
    body: bytes = b""
    headers: Mapping[str, str] = _NO_HEADERS
    status: int = 0
    method: str = ""
    url: str = ""
    unread: str = "there is no body"

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    def known(self) -> dict[str, Any]:
        """The resource; ActionError where there is none."""
        if self.resource is None:
            raise ActionError(f"It is no resource: {self.unread}")
        return self.resource


def of_resource(resource: dict[str, Any]) -> Message:
    return Message(resource, encode(resource))


def is_xml(media_type: str) -> bool:
    return media_type.partition(";")[0].strip().endswith("xml")


def is_json(media_type: str) -> bool:
    return media_type.partition(";")[0].strip().endswith("json")


def read_resource(body: bytes, media_type: str) -> tuple[dict[str, Any] | None, str]:
    """The resource of a body, JSON or XML by its media type, and why there is none."""
    if not body:
        return None, "there is no body"
    try:
        if is_xml(media_type):
            return from_xml(body), ""
        if is_json(media_type):
            return parse(body), ""
    except FhirError as error:
        return None, str(error)
    return None, f"its content type is {media_type[:80] or 'not told'}"


def written(resource: dict[str, Any], media_type: str) -> bytes:
    """The body of a resource in a media type. ActionError for one that is neither JSON nor XML."""
    if is_json(media_type):
        return encode(resource)
    if is_xml(media_type):
        try:
            return to_xml(resource)
        except FhirError as error:
            raise ActionError(f"The fixture has no XML: {error}") from None
    raise ActionError(f"A resource cannot be written as {media_type[:80]}")
