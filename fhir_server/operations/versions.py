"""$versions: which versions of FHIR this server speaks.

https://hl7.org/fhir/R4/capabilitystatement-operation-versions.html
"""

from __future__ import annotations

from conformance.json import encode
from fhir_server.core import Operation, Step
from fhir_server.interaction import Interaction, Result

_VERSION = "4.0"


async def run(step: Step, asked: Interaction) -> Result:
    """200 with Parameters."""
    named = [{"name": name, "valueCode": _VERSION} for name in ("version", "default")]
    return Result(200, encode({"resourceType": "Parameters", "parameter": named}))


OPERATION = Operation(
    "versions",
    frozenset({"system"}),
    frozenset(),
    False,
    "http://hl7.org/fhir/OperationDefinition/CapabilityStatement-versions",
    run,
    own=True,
)
