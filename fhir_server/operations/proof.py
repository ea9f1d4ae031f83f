"""$proof: that a version of a resource, or an AuditEvent, is in the log as it is, with all that it
takes to check it without this server.

https://www.rfc-editor.org/rfc/rfc9162#section-2.1.3, https://c2sp.org/tlog-proof
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from typing import Any

from conformance.json import encode, parse
from conformance.outcome import FhirError
from fhir_server import access, sight
from fhir_server.audit.publishing import Newest, newest
from fhir_server.changes import absent
from fhir_server.core import Later, Operation, Step
from fhir_server.interaction import Interaction, Result
from fhir_server.log.merkle import inclusion, salted_leaf, verify_inclusion
from fhir_server.log.receipt import Receipt
from fhir_server.log.tombstone import parse as tombstone
from fhir_server.storage.store import Logged, Version

_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


async def run(step: Step, asked: Interaction) -> Result:
    """200 with Parameters: the leaf, how it was made, its way to the root, and who signed that.
    FhirError 404 and 410, 503 while the log is not signed; Later until it is signed again."""
    version = await _version(step, asked)
    logged = await _logged(step, version)
    signed = await newest(step.tx)
    if signed is None or signed.checkpoint.size <= logged.leaf:
        raise Later(logged.leaf)
    proof = await inclusion(logged.leaf, signed.checkpoint.size, step.tx.tile)
    await _hold(step, logged, signed, proof)
    return Result(
        200,
        encode({"resourceType": "Parameters", "parameter": _told(logged, signed, proof)}),
        touched=((version.type, version.id, version.number),),
        patients=(version.owner,) if version.owner else (),
    )


def _number(asked: Interaction) -> int | None:
    """The version that the URL, or Parameters, ask for. FhirError."""
    given = [(name, value) for name, value in asked.parameters if not name.startswith("_")]
    sent = asked.resource or {"resourceType": "Parameters"}
    if sent.get("resourceType") != "Parameters":
        raise FhirError("invalid", "$proof takes Parameters")
    for part in sent.get("parameter", ()):
        value = part.get("valueString", part.get("valueInteger", part.get("valueId")))
        given.append((str(part.get("name")), str(value)))
    if any(name != "version" for name, _ in given) or len(given) > 1:
        raise FhirError("invalid", "$proof takes one parameter, version")
    if not given:
        return None
    if not _NUMBER.fullmatch(given[0][1]):
        raise FhirError("value", "version is the number of a version")
    return int(given[0][1])


async def _version(step: Step, asked: Interaction) -> Version:
    """The version, deleted ones included, if the caller may read it. FhirError 403, 404."""
    type, id, number = asked.type or "", asked.id or "", _number(asked)
    if number is None:
        found = await sight.current(step, type, id, "r")
    else:
        found = await sight.version(step, type, id, number, "r")
    if found is None:
        raise absent(type)
    if type in access.CONCEALED and found.body and await sight.hides(step, parse(found.body)):
        raise FhirError("forbidden", "You may read a part of it, and its proof shows the whole")
    return found


async def _logged(step: Step, version: Version) -> Logged:
    """FhirError 410 when it was erased."""
    logged = await step.tx.logged(version.type, version.id, version.number)
    if logged is None:
        text = f"This {version.type} was erased; its leaf is all that the log has of it"
        raise FhirError("deleted", text)
    return logged


async def _hold(step: Step, logged: Logged, signed: Newest, proof: list[bytes]) -> None:
    """What is handed out is true: else something was removed from it since, or the store is
    damaged. FhirError 410, 500."""
    state = signed.checkpoint
    hash = salted_leaf(logged.salt, logged.content)
    if verify_inclusion(hash, logged.leaf, state.size, proof, state.root):
        return
    if (notice := await _redaction(step, logged.leaf, hash)) is not None:
        text = (
            f"Something that this version named was erased, and removed from it: its leaf, "
            f"{logged.leaf}, is of what it was before, as the notice at leaf {notice} says"
        )
        raise FhirError("deleted", text)
    text = "The log does not have this as it is stored; the operator must run an audit verify"
    raise FhirError("exception", text, status=500)


async def _redaction(step: Step, leaf: int, hash: bytes) -> int | None:
    """The newest notice that a record was written anew, when it is as that says."""
    for notice in reversed(await step.tx.notices(leaf)):
        stone = tombstone(notice.content)
        if stone is not None and leaf in stone.now:
            return notice.leaf if stone.now[leaf] == hash else None
    return None


def _told(logged: Logged, signed: Newest, proof: list[bytes]) -> list[dict[str, Any]]:
    """The parameters of the answer."""
    receipt = Receipt(logged.leaf, logged.salt, logged.content, tuple(proof), signed.note)
    entry = sha256(logged.salt + logged.content).digest()
    return [
        {"name": "leaf", "valueDecimal": logged.leaf},
        {"name": "size", "valueDecimal": signed.checkpoint.size},
        _binary("salt", logged.salt),
        _binary("content", logged.content),
        _binary("entry", entry),
        *(_binary("inclusion", each) for each in proof),
        {"name": "checkpoint", "valueString": signed.note.encode().decode()},
        {"name": "receipt", "valueString": receipt.encode().decode()},
    ]


def _binary(name: str, data: bytes) -> dict[str, Any]:
    return {"name": name, "valueBase64Binary": b64encode(data).decode()}


OPERATION = Operation(
    "proof",
    frozenset({"instance"}),
    frozenset(),
    False,
    "urn:salus:OperationDefinition:proof",
    run,
    "r",
)
