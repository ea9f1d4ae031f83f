"""One function for each interaction on resources: read, vread, create, update, patch, delete.

A handler runs inside a transaction and may run again, so its only effect is on the transaction.
https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from conformance.json import encode, parse
from conformance.outcome import FhirError, Issue, outcome
from fhir_server import access, patch, spool
from fhir_server.audit.reported import report
from fhir_server.conditional import not_modified, require_match, select, single
from fhir_server.core import Step
from fhir_server.formats import Shape, shaped
from fhir_server.history import history
from fhir_server.interaction import Interaction, Result
from fhir_server.prepare import Prepared, prepare
from fhir_server.search.results import search
from fhir_server.storage.store import EVENTS, Version

_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
Handler = Callable[[Step, Interaction, Any], Awaitable[Result]]


async def read(step: Step, asked: Interaction, _: None) -> Result:
    """https://hl7.org/fhir/R4/http.html#read"""
    version = await _shown(step, asked, await step.tx.get(asked.type or "", asked.id or ""))
    return _answer(step, asked, version)


async def vread(step: Step, asked: Interaction, _: None) -> Result:
    """https://hl7.org/fhir/R4/http.html#vread"""
    number = asked.version or ""
    if not _NUMBER.fullmatch(number):
        raise _absent(asked, f" with version {number[:20]}")
    version = await step.tx.get(asked.type or "", asked.id or "", int(number))
    return _answer(step, asked, await _shown(step, asked, version))


async def create(step: Step, asked: Interaction, prepared: Prepared) -> Result:
    """https://hl7.org/fhir/R4/http.html#create"""
    if asked.type == EVENTS:
        return await report(step, prepared)
    if asked.condition is not None:
        found = await single(step, prepared.type, asked.condition)
        if found is not None:
            return _written(asked, found, 200, prepared.warnings)
    return await _put(step, asked, prepared, asked.id or step.core.new_id(), None)


async def update(step: Step, asked: Interaction, prepared: Prepared) -> Result:
    """https://hl7.org/fhir/R4/http.html#update"""
    id = asked.id or await _selected_id(step, asked, prepared)
    current = await step.tx.get(prepared.type, id)
    require_match(asked, current)
    return await _put(step, asked, prepared, id, current)


async def patched(step: Step, asked: Interaction, operations: Any) -> Result:
    """https://hl7.org/fhir/R4/http.html#patch"""
    if asked.condition is not None:
        current = await single(step, asked.type or "", asked.condition)
    else:
        current = await step.tx.get(asked.type or "", asked.id or "")
    current = await _shown(step, asked, current)
    require_match(asked, current)
    resource = patch.apply(parse(current.body), operations)
    return await _put(step, asked, prepare(step.core, resource), current.id, current)


async def delete(step: Step, asked: Interaction, _: None) -> Result:
    """https://hl7.org/fhir/R4/http.html#delete"""
    if asked.condition is not None:
        return await _delete_selected(step, asked)
    current = await step.tx.get(asked.type or "", asked.id or "")
    require_match(asked, current)
    if current is None or current.deleted:
        return Result(204, touched=((asked.type or "", asked.id or "", None),))
    return await _deleted(step, current)


async def capabilities(step: Step, asked: Interaction, _: None) -> Result:
    """https://hl7.org/fhir/R4/http.html#capabilities"""
    return Result(200, step.core.capability)


async def operation(step: Step, asked: Interaction, _: Any) -> Result:
    """https://hl7.org/fhir/R4/operations.html"""
    return await step.core.operations[asked.operation or ""].run(step, asked)


HANDLERS: dict[str, Handler] = {
    "read": read,
    "vread": vread,
    "create": create,
    "update": update,
    "patch": patched,
    "delete": delete,
    "history-instance": history,
    "history-type": history,
    "history-system": history,
    "search-type": search,
    "search-system": search,
    "capabilities": capabilities,
    "operation": operation,
}


# --- answers -------------------------------------------------------------------------------------


async def _shown(step: Step, asked: Interaction, version: Version | None) -> Version:
    """The version, if it is there for this caller. FhirError 404, 410."""
    if version is None or not await access.shows(step, version):
        raise _absent(asked)
    if version.deleted:
        raise FhirError("deleted", f"This {version.type} was deleted")
    return version


def _absent(asked: Interaction, which: str = "") -> FhirError:
    return FhirError("not-found", f"There is no such {asked.type}{which}")


def _answer(step: Step, asked: Interaction, version: Version) -> Result:
    touched = ((version.type, version.id, version.number if asked.code == "vread" else None),)
    patients = (version.owner,) if version.owner else ()
    if not_modified(asked, version):
        return Result(
            304, etag=version.number, updated=version.updated, touched=touched, patients=patients
        )
    body = version.body
    if asked.parameters:
        shape = Shape.of(asked.parameters, asked.code)
        body = encode(shaped(parse(body), shape, step.core.definitions))
    return Result(
        200,
        body,
        etag=version.number,
        updated=version.updated,
        touched=touched,
        patients=patients,
    )


def _written(
    asked: Interaction, version: Version, status: int, warnings: tuple[Issue, ...]
) -> Result:
    """What Prefer asks of a write: the resource, nothing, or an OperationOutcome."""
    body = version.body
    if asked.prefer.returns == "minimal":
        body = b""
    elif asked.prefer.returns == "OperationOutcome":
        done = Issue("information", "informational", f"Stored as version {version.number}")
        body = encode(outcome((done, *warnings)))
    return Result(
        status,
        body,
        etag=version.number,
        updated=version.updated,
        location=f"{version.type}/{version.id}/_history/{version.number}",
        touched=((version.type, version.id, version.number),),
        patients=(version.owner,) if version.owner else (),
    )


# --- writes --------------------------------------------------------------------------------------


async def _put(
    step: Step, asked: Interaction, prepared: Prepared, id: str, current: Version | None
) -> Result:
    number = current.number + 1 if current else 1
    version = prepared.version(id, number, step.tx.now)
    await access.check_written(step, current)
    if prepared.type == "Binary":
        await spool.claim(step.tx, prepared.resource)
    stored = await step.tx.put(version, prepared.entries, number - 1)
    if step.written is not None:
        step.written.append(prepared)
    elif step.core.references == "check":
        await check_references(step, prepared)
    created = current is None or current.deleted
    return _written(asked, stored, 201 if created else 200, prepared.warnings)


async def _selected_id(step: Step, asked: Interaction, prepared: Prepared) -> str:
    """The id that a conditional update writes to."""
    given = prepared.id
    found = await single(step, prepared.type, asked.condition or ())
    if found is not None:
        if given is not None and given != found.id:
            raise FhirError(
                "value",
                "The condition selects a resource with another id than the body has",
                f"{prepared.type}.id",
            )
        return found.id
    if given is None:
        return step.core.new_id()
    if await step.tx.get(prepared.type, given) is not None:
        raise FhirError(
            "conflict",
            "The condition selects nothing, and the body's id belongs to another resource",
            f"{prepared.type}.id",
        )
    return given


async def _delete_selected(step: Step, asked: Interaction) -> Result:
    most = step.core.limits.conditional
    found = await select(step, asked.type or "", asked.condition or (), most + 1)
    if len(found) > most:
        raise FhirError(
            "multiple-matches",
            f"The condition selects more than the {most} resources that one delete may remove",
        )
    for each in found:
        require_match(asked, each)
    results = [await _deleted(step, each) for each in found]
    return Result(
        204,
        touched=tuple(t for each in results for t in each.touched),
        patients=tuple(dict.fromkeys(p for each in results for p in each.patients)),
    )


async def _deleted(step: Step, current: Version) -> Result:
    gone = Version(
        current.type,
        current.id,
        current.number + 1,
        step.tx.now,
        b"",
        current.owner,
        deleted=True,
    )
    await access.check_written(step, current)
    stored = await step.tx.put(gone, (), current.number)
    return Result(
        204,
        etag=stored.number,
        touched=((stored.type, stored.id, stored.number),),
        patients=(stored.owner,) if stored.owner else (),
    )


async def check_references(step: Step, prepared: Prepared) -> None:
    """FhirError 422 when a literal reference of this server resolves to nothing."""
    core = step.core
    for text in prepared.references(core):
        type, _, id = text.partition("/")
        target = await step.tx.get(type, id)
        if target is None or target.deleted:
            raise FhirError(
                "not-found", f"A reference to a {type} resolves to nothing here", status=422
            )
