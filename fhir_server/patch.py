"""JSON Patch of a resource (https://www.rfc-editor.org/rfc/rfc6902,
https://hl7.org/fhir/R4/http.html#patch)."""

from __future__ import annotations

from typing import Any

import jsonpatch
import jsonpointer

from conformance.json import parse_any
from conformance.outcome import FhirError
from fhir_server.core import Core
from fhir_server.interaction import Content, Resource

MEDIA_TYPE = "application/json-patch+json"
_FIXED = ("resourceType", "id")


def read_patch(core: Core, content: Content | None) -> list[dict[str, Any]]:
    """The operations of a patch body. FhirError 400, 413, 415."""
    if content is None or content.media_type != MEDIA_TYPE:
        raise FhirError("not-supported", f"A patch is sent as {MEDIA_TYPE}", status=415)
    operations = parse_any(content.data, core.limits.depth)
    if not isinstance(operations, list) or not all(isinstance(o, dict) for o in operations):
        raise FhirError("invalid", "A JSON Patch is an array of operations")
    if len(operations) > core.limits.patch_operations:
        raise FhirError(
            "too-costly", f"At most {core.limits.patch_operations} operations in a patch"
        )
    return operations


def tests(operations: list[dict[str, Any]]) -> bool:
    """Whether a patch asks what the resource says, and its status tells the answer."""
    return any(each.get("op") == "test" for each in operations)


def apply(resource: Resource, operations: list[dict[str, Any]]) -> Resource:
    """The patched resource; the one given may be altered. FhirError 422 when an operation cannot
    be applied, 400 when it is malformed."""
    kept = {name: resource.get(name) for name in _FIXED}
    patched = applied(resource, operations)
    if not isinstance(patched, dict) or any(patched.get(n) != v for n, v in kept.items()):
        raise FhirError("business-rule", "A patch cannot change resourceType or id")
    return patched


def applied(document: Any, operations: list[dict[str, Any]]) -> Any:
    """The patched document, whatever JSON it is. FhirError 400, 422."""
    try:
        return jsonpatch.apply_patch(document, operations, in_place=True)
    except jsonpatch.JsonPatchTestFailed as error:
        raise FhirError("processing", "A test operation of the patch failed") from error
    except jsonpatch.InvalidJsonPatch as error:
        raise FhirError(
            "invalid", "An operation of the patch lacks op, path, from or value, or has a wrong one"
        ) from error
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise FhirError(
            "processing", "An operation of the patch names a place that is not there"
        ) from error
    except (TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
        raise FhirError("invalid", "An operation of the patch is malformed") from error
