"""JSON Patch of a resource (https://www.rfc-editor.org/rfc/rfc6902,
https://hl7.org/fhir/R4/http.html#patch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jsonpatch
import jsonpointer

from conformance.definitions import Definitions
from conformance.outcome import FhirError
from fhir_server.core import Core
from fhir_server.patching.blind import is_certain

MEDIA_TYPE = "application/json-patch+json"


@dataclass(frozen=True, slots=True)
class JsonPatch:
    """A patch by the operations of RFC 6902, of a resource of a type."""

    definitions: Definitions
    type: str
    operations: list[dict[str, Any]]

    @property
    def tests(self) -> bool:
        """Whether what the resource says may decide if some operation succeeds, so that the status
        of the answer tells it."""
        return any(
            each.get("op") != "replace"
            or not is_certain(self.definitions, self.type, str(each.get("path")).removeprefix("/"))
            for each in self.operations
        )

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


def read(core: Core, type: str, operations: Any, most: int) -> JsonPatch:
    """The patch of a resource of a type that a JSON value is. FhirError 400, 413."""
    if not isinstance(operations, list) or not all(isinstance(o, dict) for o in operations):
        raise FhirError("invalid", "A JSON Patch is an array of operations")
    if len(operations) > most:
        raise FhirError("too-costly", f"At most {most} operations in a patch")
    return JsonPatch(core.definitions, type, operations)
