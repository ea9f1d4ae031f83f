"""$lookup: what a code system says of a code.

https://hl7.org/fhir/R4/codesystem-operation-lookup.html
"""

from __future__ import annotations

from fhir_server.core import Operation, Step
from fhir_server.interaction import Interaction, Result
from fhir_server.operations.coded import answered, prepare
from terminology.asked import Asked


async def run(step: Step, asked: Interaction, wanted: Asked) -> Result:
    """200 with what is answered. FhirError 400, 404, 413, 422."""
    return await answered(
        step,
        asked,
        wanted,
        lambda terminology, given, _: terminology.lookup(given),
    )


OPERATION = Operation(
    "lookup",
    frozenset({"type"}),
    frozenset({"CodeSystem"}),
    False,
    "http://hl7.org/fhir/OperationDefinition/CodeSystem-lookup",
    run,
    own=True,
    prepare=prepare,
)
