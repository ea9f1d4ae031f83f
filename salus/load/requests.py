"""From a line to what is asked of the server: a Bundle as it is, anything else as a create or an
update.

https://hl7.org/fhir/R4/bundle.html
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from conformance.json import encode, parse
from conformance.outcome import FhirError
from salus.load.sources import Line

# Bundles that are sent as they are; whose entries are stored; that are resources in themselves.
SENT = frozenset({"transaction", "batch"})
UNPACKED = frozenset({"collection", "searchset"})
KEPT = frozenset({"document", "message"})
CHUNK = 1_000  # entries of a batch that is made of a larger collection


class Refused(Exception):
    """A line that holds nothing that can be sent; the text says why."""


class Request(NamedTuple):
    """One request. `path` is relative to the FHIR base. `ordered`: what follows may refer to it,
    until the first Patient is seen. `methods` are those of a Bundle's entries."""

    method: str
    path: str
    body: bytes
    once: str
    ordered: bool
    patient: bool
    methods: tuple[str, ...] | None = None


class _Resource(msgspec.Struct):
    resourceType: str | None = None


class _How(msgspec.Struct):
    method: str | None = None


class _Entry(msgspec.Struct):
    resource: _Resource | None = None
    request: _How | None = None


class _Bundle(msgspec.Struct):
    type: str | None = None
    entry: list[_Entry] = []


class _Document(msgspec.Struct):
    resourceType: str | None = None
    id: Any = None
    content: msgspec.Raw = msgspec.Raw()


_document = msgspec.json.Decoder(_Document).decode
_bundle = msgspec.json.Decoder(_Bundle).decode
_string = msgspec.json.Decoder(str).decode


def requests(line: Line) -> list[Request]:
    """What a line asks, in order. Refused when it holds no resource."""
    try:
        found = _document(line.data)
        if found.resourceType is None and bytes(found.content):
            return requests(line._replace(data=content(line.data)))
        if found.resourceType == "Bundle":
            return _of_bundle(line, _bundle(line.data))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"not the JSON of a resource: {error}") from None
    if not found.resourceType:
        raise Refused("not a resource: it has no resourceType")
    return [_of_resource(line, found.resourceType, found.id)]


def content(data: bytes) -> bytes:
    """What failed, where the data is a line of a .failed.ndjson file, otherwise the data."""
    try:
        found = _document(data)
        if found.resourceType is not None or not bytes(found.content):
            return data
        held = bytes(found.content)
        # what was no JSON is kept as a string
        return content(_string(held).encode() if held.startswith(b'"') else held)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return data


def _of_resource(line: Line, type: str, id: Any) -> Request:
    """A resource with an id keeps it: references to it stay true."""
    path = f"{type}/{id}" if isinstance(id, str) and id else type
    method = "POST" if path == type else "PUT"
    return Request(method, path, line.data, line.key, False, type == "Patient")


def _of_bundle(line: Line, bundle: _Bundle) -> list[Request]:
    types = {entry.resource.resourceType for entry in bundle.entry if entry.resource}
    patient = "Patient" in types
    if bundle.type in SENT:
        methods = tuple((each.request and each.request.method) or "" for each in bundle.entry)
        return [Request("POST", "", line.data, line.key, True, patient, methods)]
    if bundle.type in KEPT:
        return [_of_resource(line, "Bundle", _document(line.data).id)]
    if bundle.type not in UNPACKED:
        raise Refused(f"a Bundle of type {bundle.type} holds nothing to store")
    return _unpacked(line, patient)


def _unpacked(line: Line, patient: bool) -> list[Request]:
    """Entries that refer to each other by urn:uuid need one transaction; others are a batch, so
    that one refused resource holds up no other."""
    try:
        found = parse(line.data).get("entry", [])
    except FhirError as error:
        raise Refused(str(error)) from None
    entries = [made for each in found if (made := _entry(each))]
    linked = any(str(each.get("fullUrl", "")).startswith("urn:") for each in entries)
    kind, size = ("transaction", len(entries)) if linked else ("batch", CHUNK)
    return [
        _made(line, kind, start, entries[start : start + size], patient)
        for start in range(0, len(entries), size)
    ]


def _made(line: Line, kind: str, start: int, part: list[dict[str, Any]], patient: bool) -> Request:
    body = encode({"resourceType": "Bundle", "type": kind, "entry": part})
    methods = tuple(each["request"]["method"] for each in part)
    once = f"{line.key}:{start}" if start else line.key
    return Request("POST", "", body, once, True, patient, methods)


def _entry(entry: Any) -> dict[str, Any] | None:
    resource = entry.get("resource")
    if not resource or entry.get("search", {}).get("mode") == "outcome":
        return None
    type, id, url = resource.get("resourceType"), resource.get("id"), entry.get("fullUrl")
    asked = {"method": "PUT", "url": f"{type}/{id}"} if id else {"method": "POST", "url": type}
    kept = {"fullUrl": url} if url else {}
    return {**kept, "resource": resource, "request": asked}
