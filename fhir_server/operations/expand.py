"""$expand: the codes of a value set.

https://hl7.org/fhir/R4/valueset-operation-expand.html
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
        lambda terminology, given, of: terminology.expand(given, of),
        apart=True,
    )


OPERATION = Operation(
    "expand",
    frozenset({"type", "instance"}),
    frozenset({"ValueSet"}),
    False,
    "http://hl7.org/fhir/OperationDefinition/ValueSet-expand",
    run,
    own=True,
    prepare=prepare,
)
