"""$find-matches: the codes that have given properties.

https://hl7.org/fhir/R4/codesystem-operation-find-matches.html
"""

from __future__ import annotations

from fhir_server.core import Operation, Step
from fhir_server.interaction import Interaction, Result
from fhir_server.operations.coded import Resource, answered, prepare
from terminology.asked import Asked
from terminology.service import Terminology


async def run(step: Step, asked: Interaction, wanted: Asked) -> Result:
    """200 with the matches. FhirError 400, 404, 413, 422."""
    return await answered(step, asked, wanted, _found, apart=True)


def _found(terminology: Terminology, given: Asked, of: Resource | None) -> dict[str, object]:
    if of is not None:
        terminology, given = terminology.having([of]), given.also(system=str(of.get("url")))
    return terminology.find_matches(given)


OPERATION = Operation(
    "find-matches",
    frozenset({"type", "instance"}),
    frozenset({"CodeSystem"}),
    False,
    "http://hl7.org/fhir/OperationDefinition/CodeSystem-find-matches",
    run,
    own=True,
    prepare=prepare,
)
