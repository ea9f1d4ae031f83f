"""Batch: every entry stands or falls alone (https://hl7.org/fhir/R4/http.html#transaction)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from conformance.outcome import FhirError
from fhir_server.audit.event import Caller
from fhir_server.bundle import (
    Done,
    Performer,
    Request,
    answered,
    breathe,
    items,
    located,
    request_of,
)
from fhir_server.interaction import Interaction, Result
from fhir_server.search.results import bundle
from fhir_server.storage.store import Transaction

_TYPE = "batch-response"


async def batch(server: Performer, asked: Interaction, caller: Caller) -> Result:
    """Perform the entries in groups; those of one group share a transaction and an audit event."""
    sent = items(server.core, asked)
    size = server.core.limits.audit_entities
    bodies: list[bytes] = []
    for start in range(0, max(1, len(sent)), size):
        once = f"{asked.once}/{start}" if asked.once else None
        group = list(enumerate(sent[start : start + size], start))
        result = await _group(server, replace(asked, once=once), caller, group)
        bodies.append(_entries(result.body))
    return Result(200, bundle(_TYPE, [each for each in bodies if each]))


def _entries(body: bytes) -> bytes:
    """The entries inside a response Bundle's bytes."""
    empty = bundle(_TYPE, [])
    return body[len(empty) - 1 + len(b',"entry":[') : -2] if len(body) > len(empty) else b""


async def _group(
    server: Performer, asked: Interaction, caller: Caller, group: Sequence[tuple[int, Any]]
) -> Result:
    planned: list[Request | FhirError] = []
    for place, item in group:
        planned.append(_planned(server, asked, caller, place, item))
        await breathe(place)

    async def act(tx: Transaction) -> Result:
        done = []
        for place, each in enumerate(planned):
            done.append(await _acted(server, tx, caller, each))
            await breathe(place)
        return answered(server.core, _TYPE, done)

    changes = any(isinstance(each, Request) and server.writes(each.asked) for each in planned)
    return await server.commit(asked, caller, act, changes)


def _planned(
    server: Performer, asked: Interaction, caller: Caller, place: int, item: Any
) -> Request | FhirError:
    try:
        request = request_of(server.core, asked, place, item)
        return replace(request, plan=server.prepared(request.asked, caller))
    except FhirError as error:
        return located(error, place)


async def _acted(
    server: Performer, tx: Transaction, caller: Caller, request: Request | FhirError
) -> Done:
    """A handler refuses before it writes, so a refused entry leaves nothing behind."""
    if isinstance(request, FhirError):
        return Done(None, request)
    try:
        return Done(request, await server.act(tx, request.asked, caller, request.plan))
    except FhirError as error:
        return Done(request, located(error, request.place))
