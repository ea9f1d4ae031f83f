"""$purge of a patient: everything that is theirs goes for good, with every version.

R4 defines no such operation; this one has the name, the level and the effect of R5's
https://hl7.org/fhir/R5/patient-operation-purge.html, and asks for a basis and for a confirmation.
POST Patient/[id]/$purge with Parameters: `basis` (string: why, in plain sight, without a word about
the patient), `confirm` (the id once more), and `dry-run` (boolean: tell what would go, and do
nothing). What others keep of the patient is removed soon after the answer.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from conformance.json import encode
from conformance.outcome import FhirError
from fhir_server.core import Operation, Step
from fhir_server.erasure.holds import held
from fhir_server.erasure.patient import (
    PATIENT,
    Found,
    begin,
    hindered,
    look,
    require_silent,
)
from fhir_server.interaction import Interaction, Result

_LONGEST = 500  # characters of a basis


async def run(step: Step, asked: Interaction) -> Result:
    """200 with Parameters that say what went, or would go. FhirError 400, 404, 409, 422."""
    id, given = asked.id or "", _given(asked)
    touched = ((PATIENT, id, None),)
    found = await look(step.tx, step.core, id)
    if given.get("dry-run"):
        if not found.names:
            raise FhirError("not-found", "There is no such Patient")
        hold = await held(step.tx, id) is not None or await hindered(step.tx, found)
        return Result(200, _told(found, True, hold), touched=touched, described="dry run")
    basis = str(given.get("basis", "")).strip()
    if not basis or len(basis) > _LONGEST:
        text = f"$purge needs a basis: why, in at most {_LONGEST} characters"
        raise FhirError("required", text, "Parameters.parameter", status=400)
    if given.get("confirm") != id:
        text = "$purge needs `confirm`, which is the id of the patient"
        raise FhirError("required", text, "Parameters.parameter", status=400)
    require_silent(basis, id, found)
    await begin(step.tx, step.core.beyond, id, basis, step.grant, found)
    step.core.beyond.begun.set()
    return Result(200, _told(found, False, False), touched=touched)


def _given(asked: Interaction) -> dict[str, Any]:
    """The parameters by name. FhirError 400."""
    sent = asked.resource
    if sent is None or sent.get("resourceType") != "Parameters":
        raise FhirError("required", "$purge takes Parameters in its body", status=400)
    found: dict[str, Any] = {}
    for part in sent.get("parameter", ()):
        name = part.get("name") if isinstance(part, dict) else None
        if name not in ("basis", "confirm", "dry-run"):
            raise FhirError("invalid", "$purge takes basis, confirm and dry-run")
        found[name] = next((value for key, value in part.items() if key.startswith("value")), None)
    return found


def _told(found: Found, dry: bool, hold: bool) -> bytes:
    """How many resources of each type, and how many versions."""
    types = Counter(type for type, _ in found.names)
    parts: list[dict[str, Any]] = [
        {"name": "dry-run", "valueBoolean": dry},
        {"name": "hold", "valueBoolean": hold},
        {"name": "versions", "valueInteger": found.versions},
        *(
            {
                "name": "removed",
                "part": [
                    {"name": "type", "valueCode": type},
                    {"name": "resources", "valueInteger": count},
                ],
            }
            for type, count in sorted(types.items())
        ),
    ]
    return encode({"resourceType": "Parameters", "parameter": parts})


OPERATION = Operation(
    "purge",
    frozenset({"instance"}),
    frozenset({PATIENT}),
    True,
    "http://hl7.org/fhir/OperationDefinition/Patient-purge",
    run,
)
