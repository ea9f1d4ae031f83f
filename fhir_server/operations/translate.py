"""$translate: the codes that a concept map gives for a code.

https://hl7.org/fhir/R4/conceptmap-operation-translate.html
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
        lambda terminology, given, of: terminology.translate(given, of),
        apart=True,
    )


OPERATION = Operation(
    "translate",
    frozenset({"type", "instance"}),
    frozenset({"ConceptMap"}),
    False,
    "http://hl7.org/fhir/OperationDefinition/ConceptMap-translate",
    run,
    own=True,
    prepare=prepare,
)
