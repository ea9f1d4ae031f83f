"""$batch-validate-code: many questions of $validate-code in one, answered in their order.

https://hl7.org/fhir/valueset-operation-batch-validate-code.html

Each `validation` is a resource: the Parameters of one $validate-code. What stands beside them
(tx-resource, displayLanguage and the like) holds for all.
"""

from __future__ import annotations

from fhir_server.core import Operation, Step
from fhir_server.interaction import Interaction, Result
from fhir_server.operations.coded import answered, prepare
from terminology.asked import Asked


async def run(step: Step, asked: Interaction, wanted: Asked) -> Result:
    """200 with an answer, or an OperationOutcome, for each. FhirError 400, 413."""
    return await answered(
        step, asked, wanted, lambda one, given, _: one.batch_validate(given), apart=True
    )


OPERATION = Operation(
    "batch-validate-code",
    frozenset({"system", "type"}),
    frozenset({"CodeSystem", "ValueSet"}),
    False,
    "http://hl7.org/fhir/OperationDefinition/ValueSet-batch-validate-code",
    run,
    own=True,
    prepare=prepare,
)
