"""One function for each interaction on resources: read, vread, create, update, patch, delete.

A handler runs inside a transaction and may run again, so its only effect is on the transaction.
https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from conformance.json import encode, parse
from conformance.outcome import FhirError, Issue, outcome
from fhir_server import changes, patching, sight, spool
from fhir_server.audit.reported import report
from fhir_server.changes import Written, absent
from fhir_server.conditional import not_modified, require_match, select, single
from fhir_server.core import Step
from fhir_server.erasure.gone import require_living
from fhir_server.formats import Shape, shaped
from fhir_server.history import history
from fhir_server.indexing import posted
from fhir_server.indexing.sources import TYPE as SEARCH_PARAMETER
from fhir_server.interaction import Interaction, Result
from fhir_server.packages import published
from fhir_server.prepare import Prepared, prepare
from fhir_server.search.results import search
from fhir_server.storage.store import EVENTS, Entry, Version
from fhir_server.terminologies import statement as terminology_statement

_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
Handler = Callable[[Step, Interaction, Any], Awaitable[Result]]


async def read(step: Step, asked: Interaction, _: None) -> Result:
    """https://hl7.org/fhir/R4/http.html#read"""
    version = await sight.current(step, asked.type or "", asked.id or "", "r")
    if version is None:
        version = published.read(step, asked.type or "", asked.id or "")
    return await _answer(step, asked, _there(asked, version))


async def vread(step: Step, asked: Interaction, _: None) -> Result:
    """https://hl7.org/fhir/R4/http.html#vread"""
    number = asked.version or ""
    if not _NUMBER.fullmatch(number):
        raise absent(asked.type, f" with version {number[:20]}")
    version = await sight.version(step, asked.type or "", asked.id or "", int(number), "r")
    return await _answer(step, asked, _there(asked, version))


async def create(step: Step, asked: Interaction, prepared: Prepared) -> Result:
    """https://hl7.org/fhir/R4/http.html#create"""
    if asked.type == EVENTS:
        return await report(step, prepared)
    if asked.condition is not None:
        found = await single(step, prepared.type, asked.condition)
        if found is not None:
            return await _written(step, asked, found, 200, prepared.warnings)
    return await _put(step, asked, prepared, asked.id or step.core.new_id(), None, "c")


async def update(step: Step, asked: Interaction, prepared: Prepared) -> Result:
    """https://hl7.org/fhir/R4/http.html#update"""
    id = asked.id or await _selected_id(step, asked, prepared)
    current = await changes.replaced(step, prepared.type, id, "u")
    if current is not None and current.deleted:
        _require_update_as_create(step, prepared.type)
    require_match(asked, current)
    return await _put(step, asked, prepared, id, current, "u")


async def patched(step: Step, asked: Interaction, patch: patching.Patch) -> Result:
    """https://hl7.org/fhir/R4/http.html#patch"""
    if asked.condition is not None:
        current = await single(step, asked.type or "", asked.condition, "u")
    else:
        current = await changes.replaced(step, asked.type or "", asked.id or "", "u")
    current = _there(asked, current)
    if (patch.tests or step.core.writing.enforces) and not await _is_readable(step, current):
        raise absent(asked.type)
    require_match(asked, current)
    resource = parse(current.body)
    spool.require_inline(resource)
    resource = patching.apply(resource, patch)
    return await _put(step, asked, prepare(step.core, resource), current.id, current, "u")


async def delete(step: Step, asked: Interaction, _: None) -> Result:
    """https://hl7.org/fhir/R4/http.html#delete"""
    if asked.condition is not None:
        return await _delete_selected(step, asked)
    current = await changes.replaced(step, asked.type or "", asked.id or "", "d")
    require_match(asked, current)
    if current is None or current.deleted:
        return Result(204, touched=((asked.type or "", asked.id or "", None),))
    return await _deleted(step, current)


_STATEMENTS = frozenset({"full", "normative", "terminology"})


async def capabilities(step: Step, asked: Interaction, _: None) -> Result:
    """https://hl7.org/fhir/R4/http.html#capabilities"""
    modes = {value for name, value in asked.parameters if name == "mode"}
    if not modes <= _STATEMENTS:
        raise FhirError("value", "mode is full, normative or terminology", status=400)
    if "terminology" in modes:
        return Result(200, terminology_statement(step.core))
    return Result(200, step.core.capability(step.core.guides.current))


async def operation(step: Step, asked: Interaction, plan: Any) -> Result:
    """https://hl7.org/fhir/R4/operations.html"""
    known = step.core.operations[asked.operation or ""]
    prepared = () if known.prepare is None else (plan,)
    return await known.run(step, asked, *prepared)


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


def _there(asked: Interaction, version: Version | None) -> Version:
    """The version, if it is there for this caller. FhirError 404, 410."""
    if version is None:
        raise absent(asked.type)
    if version.deleted:
        raise FhirError("deleted", f"This {version.type} was deleted")
    return version


async def _answer(step: Step, asked: Interaction, version: Version) -> Result:
    touched = ((version.type, version.id, version.number if asked.code == "vread" else None),)
    patients = (version.owner,) if version.owner else ()
    if not_modified(asked, version):
        return Result(
            304, etag=version.number, updated=version.updated, touched=touched, patients=patients
        )
    body = version.body
    if version.type != "Binary":  # whose data is joined to it where it leaves
        body = (await sight.reveal_one(step, version)).body
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


async def _written(
    step: Step, asked: Interaction, version: Version, status: int, warnings: tuple[Issue, ...]
) -> Result:
    """What Prefer asks of a write: the resource, nothing, or an OperationOutcome."""
    body = (await sight.reveal_one(step, version)).body
    if asked.prefer.returns == "minimal" or not await _may_return(step, asked, version):
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


async def _may_return(step: Step, asked: Interaction, version: Version) -> bool:
    """Whether a write answers with the resource: a patch tells what its sender did not send, so it
    must be readable as well."""
    return asked.code != "patch" or await _is_readable(step, version)


async def _is_readable(step: Step, version: Version) -> bool:
    """Whether the caller may read a current version."""
    if changes.writes_all(step, version.type, "r"):
        return True
    return await sight.current(step, version.type, version.id, "r") is not None


# --- writes --------------------------------------------------------------------------------------


async def _put(
    step: Step,
    asked: Interaction,
    prepared: Prepared,
    id: str,
    current: Version | None,
    letter: str,
) -> Result:
    number = current.number + 1 if current else 1
    version = prepared.version(id, number, step.tx.now)
    written = Written(prepared, version, letter)
    if step.written is None:
        await changes.require_written(step, (written,))
    else:
        step.written.append(written)
    entries: Sequence[Entry] = prepared.entries
    if prepared.edition is not step.core.index.edition:  # what is indexed changed meanwhile
        entries = step.core.index.entries(prepared.resource)
    await require_living(step.tx, version, entries)
    if prepared.type == "Binary":
        await spool.claim(step.tx, prepared.resource)
    elif prepared.type == SEARCH_PARAMETER:
        await posted.watch(step, id, current, prepared.resource)
    stored = await step.tx.put(version, entries, number - 1)
    created = current is None or current.deleted
    return await _written(step, asked, stored, 201 if created else 200, prepared.warnings)


def _require_update_as_create(step: Step, type: str) -> None:
    """FhirError 404 for a caller who may not choose ids: it must not learn which ones are taken."""
    if not changes.writes_all(step, type, "u"):
        raise absent(type)


async def _selected_id(step: Step, asked: Interaction, prepared: Prepared) -> str:
    """The id that a conditional update writes to."""
    given = prepared.id
    found = await single(step, prepared.type, asked.condition or (), "u")
    if found is not None:
        if given is not None and given != found.id:
            raise FhirError(
                "value",
                "The condition selects a resource with another id than the body has",
                f"{prepared.type}.id",
            )
        return found.id
    _require_update_as_create(step, prepared.type)
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
    found = await select(step, asked.type or "", asked.condition or (), "d", most + 1)
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
    if current.type == SEARCH_PARAMETER:
        await posted.watch(step, current.id, current, None)
    gone = Version(
        current.type,
        current.id,
        current.number + 1,
        step.tx.now,
        b"",
        current.owner,
        deleted=True,
    )
    stored = await step.tx.put(gone, (), current.number)
    return Result(
        204,
        etag=stored.number,
        touched=((stored.type, stored.id, stored.number),),
        patients=(stored.owner,) if stored.owner else (),
    )
