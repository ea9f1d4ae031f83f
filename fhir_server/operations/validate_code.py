"""$validate-code: whether a code is in a value set, or in a code system.

https://hl7.org/fhir/R4/valueset-operation-validate-code.html,
https://hl7.org/fhir/R4/codesystem-operation-validate-code.html
"""

from __future__ import annotations

from fhir_server.core import Operation, Step
from fhir_server.interaction import Interaction, Result
from fhir_server.operations.coded import answered, prepare
from terminology.asked import Asked
from terminology.service import Terminology

_CODE_SYSTEM = "http://hl7.org/fhir/OperationDefinition/CodeSystem-validate-code"
_VALUE_SET = "http://hl7.org/fhir/OperationDefinition/ValueSet-validate-code"


async def run(step: Step, asked: Interaction, wanted: Asked) -> Result:
    """200 with the result and the reasons. FhirError 400, 404, 422."""
    if asked.type == "CodeSystem":
        return await answered(step, asked, wanted, Terminology.validate_in_system)
    return await answered(step, asked, wanted, Terminology.validate_code)


OPERATION = Operation(
    "validate-code",
    frozenset({"type", "instance"}),
    frozenset({"CodeSystem", "ValueSet"}),
    False,
    _VALUE_SET,
    run,
    own=True,
    prepare=prepare,
    definitions={"CodeSystem": _CODE_SYSTEM},
)
