"""JSON Patch of a resource (https://www.rfc-editor.org/rfc/rfc6902,
https://hl7.org/fhir/R4/http.html#patch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jsonpatch
import jsonpointer

from conformance.outcome import FhirError

MEDIA_TYPE = "application/json-patch+json"


@dataclass(frozen=True, slots=True)
class JsonPatch:
    """A patch by the operations of RFC 6902."""

    operations: list[dict[str, Any]]

    @property
    def tests(self) -> bool:
        """Whether the patch asks what the resource says, and its status tells the answer."""
        return any(each.get("op") == "test" for each in self.operations)

    def applied(self, document: Any) -> Any:
        """The patched document, whatever JSON it is; the one given may be altered. FhirError 400,
        422."""
        try:
            return jsonpatch.apply_patch(document, self.operations, in_place=True)
        except jsonpatch.JsonPatchTestFailed as error:
            raise FhirError("processing", "A test operation of the patch failed") from error
        except jsonpatch.InvalidJsonPatch as error:
            raise FhirError("invalid", _INCOMPLETE) from error
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
            raise FhirError(
                "processing", "An operation of the patch names a place that is not there"
            ) from error
        except (TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
            raise FhirError("invalid", "An operation of the patch is malformed") from error


_INCOMPLETE = "An operation of the patch lacks op, path, from or value, or has a wrong one"


def read(operations: Any, most: int) -> JsonPatch:
    """The patch that a JSON value is. FhirError 400, 413."""
    if not isinstance(operations, list) or not all(isinstance(o, dict) for o in operations):
        raise FhirError("invalid", "A JSON Patch is an array of operations")
    if len(operations) > most:
        raise FhirError("too-costly", f"At most {most} operations in a patch")
    return JsonPatch(operations)
