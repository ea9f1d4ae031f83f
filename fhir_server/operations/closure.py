"""$closure: keeps a table of the codes that a client met, and tells how they subsume each other.

https://hl7.org/fhir/R4/conceptmap-operation-closure.html

A table is its caller's alone, has at most 1,000 concepts and is forgotten a day after its last use.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256

import msgspec

from conformance.json import encode
from conformance.outcome import FhirError
from fhir_server.apart import hurried
from fhir_server.core import Operation, Step
from fhir_server.interaction import Interaction, Result
from fhir_server.operations.coded import named, prepare
from fhir_server.terminologies import reaching
from smart_auth.grant import Grant
from terminology.asked import Asked
from terminology.closure import Table

_SPACE = "closure"
_DAY = 24 * 3600 * 1_000_000  # microseconds
_TABLES = 50  # of one caller
_LONGEST = 200  # characters of a name

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Table).decode


async def run(step: Step, asked: Interaction, wanted: Asked) -> Result:
    """200 with a ConceptMap. FhirError 400, 404, 413, 422."""
    if asked.resource is None:
        text = "$closure changes a table: POST it with Parameters"
        raise FhirError("required", text, status=400)
    name = wanted.required("name")
    if len(name) > _LONGEST:
        raise FhirError("too-long", f"The name of a table has at most {_LONGEST} characters")
    whose = _whose(step.grant)
    key = f"{whose}/{_digest(name)}"
    kept = await step.tx.kept(_SPACE, key)
    table = None if kept is None else _decode(kept.value)
    if kept is None:
        await _require_room(step, whose)
    systems = [each.system for each in table.entries] if table is not None else []
    reached = await reaching(step, [*named(wanted), *systems], hurry=True)
    answer = partial(reached.terminology.closure, wanted, table)
    made, after = await hurried(answer)
    await step.tx.keep(_SPACE, key, _encode(after), until=step.core.clock() + _DAY)
    return Result(200, encode(made), touched=reached.touched)


async def _require_room(step: Step, whose: str) -> None:
    """FhirError when the caller has too many tables."""
    tables = await step.tx.range(_SPACE, f"{whose}/", f"{whose}0", _TABLES)
    if len(tables) >= _TABLES:
        text = f"A client has at most {_TABLES} closure tables; they end a day after their last use"
        raise FhirError("too-costly", text, status=422)


def _whose(grant: Grant) -> str:
    """Whose tables they are: those of a user of an app, or of an app itself."""
    return _digest("\0".join((grant.client, grant.account or "", grant.agent or grant.name)))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]


OPERATION = Operation(
    "closure",
    frozenset({"system"}),
    frozenset(),
    True,
    "http://hl7.org/fhir/OperationDefinition/ConceptMap-closure",
    run,
    own=True,
    prepare=prepare,
)
