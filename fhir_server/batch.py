"""Batch: every entry stands or falls alone (https://hl7.org/fhir/R4/http.html#transaction)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from conformance.outcome import FhirError
from fhir_server.audit.event import Caller
from fhir_server.bundle import (
    Budget,
    Done,
    Performer,
    Request,
    breathe,
    items,
    located,
    request_of,
    response,
    union,
)
from fhir_server.interaction import Content, Interaction, Result
from fhir_server.once import digest
from fhir_server.search.results import bundle
from fhir_server.storage.store import TooCostly, Transaction

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


async def batch(server: Performer, asked: Interaction, caller: Caller) -> Result:
    """Perform the entries in groups: what writes in one transaction with one audit event, what
    reads by itself, so that it holds up nobody."""
    sent = items(server.core, asked)
    size = server.core.limits.audit_entities
    budget = Budget(server.core)
    parts: list[bytes] = []
    if asked.once:  # so that what was sent is told by its digest, taken once for all groups
        asked = replace(asked, resource=None, content=Content("", digest(asked)))
    for start in range(0, max(1, len(sent)), size):
        # A header cannot hold this character, so no key of a client's is the key of a group.
        once = f"{asked.once}\0{start}" if asked.once else None
        group = list(enumerate(sent[start : start + size], start))
        parts += await _group(server, replace(asked, once=once), caller, group, budget)
    return Result(200, bundle("batch-response", parts))


async def _group(
    server: Performer,
    asked: Interaction,
    caller: Caller,
    group: Sequence[tuple[int, Any]],
    budget: Budget,
) -> list[bytes]:
    """The entries of the response, in order."""
    planned: list[Request | FhirError] = []
    for place, item in group:
        planned.append(await _planned(server, asked, caller, place, item))
        await breathe(place)
    writing = [e for e in planned if isinstance(e, Request) and server.writes(e.asked)]
    act = partial(_write, server, caller, writing, budget, budget.left)
    try:
        done = await server.commit(asked, caller, act, bool(writing))
    except TooCostly:
        answers = await _refused(server, caller, writing)
    else:
        answers = _decode(done.body)
    wrote = dict(zip((each.place for each in writing), answers, strict=True))
    return [
        wrote[place] if place in wrote else await _read(server, caller, each, budget)
        for (place, _), each in zip(group, planned, strict=True)
    ]


async def _planned(
    server: Performer, asked: Interaction, caller: Caller, place: int, item: Any
) -> Request | FhirError:
    try:
        request = request_of(server.core, asked, place, item)
    except FhirError as error:
        return located(error, place)
    try:
        return replace(request, plan=await server.plan(request.asked, caller))
    except FhirError as error:
        return replace(request, plan=located(error, place))


async def _write(
    server: Performer,
    caller: Caller,
    writing: Sequence[Request],
    budget: Budget,
    left: int,
    tx: Transaction,
) -> Result:
    """A handler refuses before it writes, so a refused entry leaves nothing behind."""
    budget.left = left  # the store may run this again
    done: list[Done] = []
    for each in writing:
        try:
            _raise(each.plan)
            budget.check()
            result = await server.act(tx, each.asked, caller, each.plan)
            done.append(Done(each, budget.count(result)))
        except FhirError as error:
            done.append(Done(each, located(error, each.place)))
        await breathe(len(done))
    return union(_encode([response(server.core, each) for each in done]), done)


async def _refused(server: Performer, caller: Caller, writing: Sequence[Request]) -> list[bytes]:
    """The answers to the entries of a transaction whose searches took too long together."""
    text = (
        "The conditions of these entries take longer than this server allows: nothing of them was "
        "done; make them more selective, or send fewer at once"
    )
    error = FhirError("too-costly", text, status=422)
    done = [
        Done(each, each.plan if isinstance(each.plan, FhirError) else located(error, each.place))
        for each in writing
    ]
    await server.audit(caller, union(b"", done).parts)
    return [response(server.core, each) for each in done]


async def _read(
    server: Performer, caller: Caller, request: Request | FhirError, budget: Budget
) -> bytes:
    if isinstance(request, FhirError):
        done = Done(None, request)
    else:
        try:
            _raise(request.plan)
            budget.check()
            act = partial(_act, server, request, caller)
            done = Done(request, budget.spend(await server.store.transaction(act)))
        except FhirError as error:
            done = Done(request, located(error, request.place))
        except TooCostly:
            text = "The search takes longer than this server allows"
            done = Done(request, located(FhirError("too-costly", text), request.place))
    part = union(b"", [done]).parts
    await server.audit(caller, part)
    return response(server.core, done)


async def _act(server: Performer, request: Request, caller: Caller, tx: Transaction) -> Result:
    return await server.act(tx, request.asked, caller, request.plan)


def _raise(plan: Any) -> None:
    if isinstance(plan, FhirError):
        raise plan
