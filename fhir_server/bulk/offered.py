"""The operations of bulk data, and how the CapabilityStatement tells of them.

https://hl7.org/fhir/uv/bulkdata/CapabilityStatement-bulk-data.html
"""

from __future__ import annotations

from conformance.capability import Offered
from fhir_server.bulk.download import FILE
from fhir_server.bulk.export import EXPORT
from fhir_server.bulk.imports import IMPORT
from fhir_server.bulk.status import DELETE, STATUS
from fhir_server.core import Operation

_GUIDE = "http://hl7.org/fhir/uv/bulkdata"
INSTANTIATES = f"{_GUIDE}/CapabilityStatement/bulk-data"
BULK: tuple[Operation, ...] = (EXPORT, IMPORT, STATUS, FILE, DELETE)

# The guide defines an operation for each level.
EXPORTS = (
    Offered("export", f"{_GUIDE}/OperationDefinition/export", frozenset(), frozenset({"system"})),
    Offered(
        "export",
        f"{_GUIDE}/OperationDefinition/patient-export",
        frozenset({"Patient"}),
        frozenset({"type"}),
    ),
    Offered(
        "export",
        f"{_GUIDE}/OperationDefinition/group-export",
        frozenset({"Group"}),
        frozenset({"instance"}),
    ),
)
