"""Patches: JSON Patch and FHIRPath Patch, read from a request and applied to a resource.

https://hl7.org/fhir/R4/http.html#patch
"""

from __future__ import annotations

from typing import Protocol

from conformance.json import parse, parse_any
from conformance.outcome import FhirError
from fhir_server.core import Core
from fhir_server.formats import FHIR_JSON, JSON_TYPES
from fhir_server.interaction import Content, Resource
from fhir_server.patching import fhirpath_patch, json_patch

MEDIA_TYPES = (FHIR_JSON, json_patch.MEDIA_TYPE)
_TAKEN = f"A patch is sent as {' or '.join(MEDIA_TYPES)}"
_ARRAY = f"This body is an array, as a JSON Patch is, and that is sent as {json_patch.MEDIA_TYPE}"
_FIXED = ("resourceType", "id")


class Patch(Protocol):
    """A patch that can be read; `tests`: whether its status may tell what the resource says."""

    @property
    def tests(self) -> bool: ...

    def applied(self, resource: Resource) -> Resource:
        """The patched resource; the one given may be altered. FhirError 422 when an operation
        cannot be applied, 400 when it is malformed."""
        ...


def read_patch(
    core: Core, type: str, content: Content | None, resource: Resource | None = None
) -> Patch:
    """The patch of a resource of a type that a body is, or a resource in a Bundle's entry.
    FhirError 400, 413, 415, 422."""
    most = core.limits.patch_operations
    if content is None and resource is not None and resource.get("resourceType") != "Binary":
        return fhirpath_patch.read(core, type, resource, most)
    if content is not None and content.media_type in JSON_TYPES and not _is_list(content.data):
        sent = parse(content.data, core.limits.depth)
        return fhirpath_patch.read(core, type, sent, most)
    if content is None or content.media_type != json_patch.MEDIA_TYPE:
        array = content is not None and content.media_type in JSON_TYPES
        raise FhirError("not-supported", _ARRAY if array else _TAKEN, status=415)
    return json_patch.read(core, type, parse_any(content.data, core.limits.depth), most)


def _is_list(data: bytes) -> bool:
    """Whether a body is an array, as a JSON Patch is, whatever its media type says."""
    return data.lstrip()[:1] == b"["


def apply(resource: Resource, patch: Patch) -> Resource:
    """The patched resource, which is the same by type and id; the one given may be altered.
    FhirError 400, 422."""
    kept = {name: resource.get(name) for name in _FIXED}
    patched = patch.applied(resource)
    if not isinstance(patched, dict) or any(patched.get(n) != v for n, v in kept.items()):
        raise FhirError("business-rule", "A patch cannot change resourceType or id")
    return patched
