"""Transaction: all entries or none, in the order of the standard, their references resolved.

What a transaction's conditions select is asked before its write transaction, so that everything can
be validated outside it, and asked again inside; when it moved, all is prepared again.
https://hl7.org/fhir/R4/http.html#trules
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

from msgspec.structs import replace

from conformance.outcome import FhirError
from fhir_server import access, once
from fhir_server.audit.event import Caller
from fhir_server.bundle import (
    ORDER,
    Budget,
    Done,
    Performer,
    Request,
    answered,
    breathe,
    items,
    located,
    request_of,
)
from fhir_server.changes import Written, absent, require_written
from fhir_server.conditional import single
from fhir_server.core import Core, Step
from fhir_server.interaction import (
    WRITES,
    Interaction,
    Parameters,
    Result,
    pairs,
)
from fhir_server.references import (
    Targets,
    base_of,
    conditional,
    conditional_references,
    resolved,
)
from fhir_server.storage.store import Transaction

_ATTEMPTS = 3
_TURN = 0.005  # seconds of conditions after which other requests get their turn
_SELECTING = frozenset({"create", "update", "patch"})

Condition = tuple[str, Parameters]
Selected = Mapping[Condition, str | None]  # the id of the one resource that meets it


class _Acted(NamedTuple):
    """An entry and its result."""

    request: Request
    result: Result


class _Moved(Exception):
    """A condition selects something else inside the write transaction than before it."""


async def transaction(server: Performer, asked: Interaction, caller: Caller) -> Result:
    """Perform the entries as one. FhirError of the first entry that is refused."""
    requests = [
        _read(server, asked, caller, place, item)
        for place, item in enumerate(items(server.core, asked))
    ]
    digest = once.digest(asked) if asked.once else None
    before = await server.repeated(asked, caller, digest) if digest else None
    if before is not None:
        return before
    _refuse_twins(requests)
    conditions = dict(_conditions(server.core, requests))
    for _ in range(_ATTEMPTS):
        selected = await _select_before(server, caller, conditions)
        planned = await _plan(server, caller, requests, selected)
        try:
            act = partial(_performed, server, caller, planned, conditions, selected)
            writes = any(server.writes(each.asked) for each in planned)
            return await server.commit(asked, caller, act, writes, digest)
        except _Moved:
            continue
    raise FhirError("conflict", "What this transaction refers to kept changing; send it again")


def _read(server: Performer, asked: Interaction, caller: Caller, place: int, item: Any) -> Request:
    """An entry that is offered and allowed, which is asked before what it selects is looked for."""
    try:
        request = request_of(server.core, asked, place, item)
        server.allow(request.asked, caller)
        found = conditional_references(request.asked.resource)
        for text in found:
            access.check_search(caller.grant, _reference(server.core, text)[0])
        return replace(request, conditional=tuple(found)) if found else request
    except FhirError as error:
        raise located(error, place) from error


def _refuse_twins(requests: Sequence[Request]) -> None:
    """Two entries of one name, or one condition, cannot both be meant."""
    names: set[str] = set()
    conditions: set[tuple[str, str | None, Parameters]] = set()
    for each in requests:
        name, asked = each.full_url, each.asked
        condition = (asked.code, asked.type, asked.condition) if asked.condition else None
        if name in names or condition in conditions:
            raise located(
                FhirError("duplicate", "Two entries have the same identity", status=400),
                each.place,
            )
        names |= {name} if name else set()
        conditions |= {condition} if condition else set()


# --- conditions ----------------------------------------------------------------------------------


def _conditions(core: Core, requests: Sequence[Request]) -> Iterator[tuple[Condition, int]]:
    """Everything that selects, with the place of an entry that asks for it."""
    for each in reversed(requests):
        if each.asked.condition and each.asked.code in _SELECTING and each.asked.type:
            yield (each.asked.type, each.asked.condition), each.place
        for text in each.conditional:
            yield _reference(core, text), each.place


def _reference(core: Core, text: str) -> Condition:
    type, query = conditional(text) or ("", "")
    return type, pairs(query, core.limits.parameters)


async def _select_before(
    server: Performer, caller: Caller, conditions: Mapping[Condition, int]
) -> Selected:
    if not conditions:
        return {}

    async def work(tx: Transaction) -> Selected:
        return await _select(Step(tx, caller.grant, server.core), conditions)

    return await server.store.transaction(work)


async def _select(step: Step, conditions: Mapping[Condition, int]) -> Selected:
    """What the conditions select, in as much time as a write has for its searches: what takes
    longer would be refused there. FhirError."""
    selected: dict[Condition, str | None] = {}
    seconds, turn = 0.0, 0.0  # for all of them, and since others had their turn
    for (type, query), place in conditions.items():
        began = monotonic()
        try:
            found = await single(step, type, query)
        except FhirError as error:
            raise located(error, place) from error
        selected[type, query] = found.id if found else None
        spent = monotonic() - began
        seconds, turn = seconds + spent, turn + spent
        _require_time(step.core, seconds, place)
        if turn > _TURN:
            turn = 0.0
            await asyncio.sleep(0)
    return selected


def _require_time(core: Core, seconds: float, place: int) -> None:
    """FhirError 422 when the conditions took too long."""
    most = core.limits.writing_seconds
    if seconds > most:
        text = (
            f"The conditions of a transaction are looked up within {most:g} seconds; make them "
            "more selective, or send several"
        )
        raise located(FhirError("too-costly", text, status=422), place)


# --- planning ------------------------------------------------------------------------------------


async def _plan(
    server: Performer, caller: Caller, requests: Sequence[Request], selected: Selected
) -> list[Request]:
    """The entries with their ids given, their references resolved, valid and encoded."""
    core = server.core
    named = [_named(core, each, selected) for each in requests]
    names = {
        each.full_url: f"{asked.type}/{asked.id}"
        for each, asked in zip(requests, named, strict=True)
        if each.full_url and asked.id and asked.code != "operation"
    }
    planned = []
    for each, asked in zip(requests, named, strict=True):
        try:
            planned.append(await _planned(server, caller, each, asked, names, selected))
        except FhirError as error:
            raise located(error, each.place) from error
        await breathe(each.place)
    _refuse_same(planned)
    return planned


def _named(core: Core, request: Request, selected: Selected) -> Interaction:
    """The interaction with the id that its resource has or will have. What its condition selects is
    settled here; a conditional create that selects something becomes a read of it."""
    asked = request.asked
    if asked.condition == ():
        return asked  # refused when it is planned
    if asked.condition is None or asked.code not in _SELECTING:
        return asked.settled(id=core.new_id()) if asked.code == "create" else asked
    found = selected[asked.type or "", asked.condition]
    if asked.code == "create":
        return asked.settled(code="read" if found else "create", id=found or core.new_id())
    if asked.code == "patch" and found is None:
        raise located(FhirError("not-found", f"No {asked.type} meets the condition"), request.place)
    body = (asked.resource or {}).get("id")
    if found and asked.code == "update" and body not in (None, found):
        text = "The condition selects a resource with another id than the body has"
        raise located(FhirError("value", text, f"{asked.type}.id"), request.place)
    return asked.settled(id=found or body or core.new_id())


async def _planned(
    server: Performer,
    caller: Caller,
    request: Request,
    asked: Interaction,
    names: Mapping[str, str],
    selected: Selected,
) -> Request:
    if asked.resource is not None and asked.code in WRITES:
        found = _found(server.core, request.conditional, selected)
        base = base_of(request.full_url) if request.full_url else None
        targets = Targets(names, found)
        resource = resolved(asked.resource, targets, base, server.core.definitions)
        if asked.code == "update" and "id" not in resource:
            resource = {**resource, "id": asked.id}
        asked = asked.settled(resource=resource)
    plan = None if _is_found(request.method, asked) else await server.plan(asked, caller)
    return Request(request.place, request.method, request.full_url, asked, plan)


def _found(core: Core, texts: Sequence[str], selected: Selected) -> dict[str, str]:
    """What conditional references name. FhirError 412 when it is nothing."""
    found = {}
    for text in texts:
        type, query = _reference(core, text)
        id = selected[type, query]
        if id is None:
            raise FhirError("not-found", f"A conditional reference selects no {type}", status=412)
        found[text] = f"{type}/{id}"
    return found


def _refuse_same(planned: Sequence[Request]) -> None:
    """Two entries that write the same resource."""
    seen: set[tuple[str | None, str | None]] = set()
    for each in planned:
        key = (each.asked.type, each.asked.id)
        if each.asked.code not in WRITES or each.asked.id is None:
            continue
        if key in seen:
            text = "Two entries write the same resource"
            raise located(FhirError("duplicate", text, status=400), each.place)
        seen.add(key)


# --- performing ----------------------------------------------------------------------------------


async def _performed(
    server: Performer,
    caller: Caller,
    planned: Sequence[Request],
    conditions: Mapping[Condition, int],
    selected: Selected,
    tx: Transaction,
) -> Result:
    """All entries, inside their transaction."""
    step = Step(tx, caller.grant, server.core)
    if await _select(step, conditions) != selected:
        raise _Moved
    budget = Budget(server.core)
    done: dict[int, _Acted] = {}
    written: list[Written] = []
    places: list[int] = []  # of the entries that wrote these
    for each in sorted(planned, key=lambda request: ORDER[request.method]):
        budget.check()
        one = await _acted(server, tx, caller, each, written)
        budget.spend(one.result)
        done[each.place] = one
        places += [each.place] * (len(written) - len(places))
        await breathe(len(done))
    _refuse_overlap(planned, done)
    await _require_written(step, written, places)
    ordered = [Done(*done[place]) for place in sorted(done)]
    return answered(server.core, "transaction-response", ordered)


async def _require_written(step: Step, written: Sequence[Written], places: Sequence[int]) -> None:
    """What the entries wrote must be the caller's, now that all of it is there. FhirError."""
    for each, place in zip(written, places, strict=True):
        try:
            await require_written(step, (each,))
        except FhirError as error:
            raise located(error, place) from error


def _refuse_overlap(planned: Sequence[Request], done: Mapping[int, _Acted]) -> None:
    """A conditional delete that removed what another entry writes."""
    written = {(each.asked.type, each.asked.id) for each in planned if each.asked.id}
    for each in planned:
        if each.asked.code != "delete" or each.asked.condition is None:
            continue
        if any((type, id) in written for type, id, _ in done[each.place].result.touched):
            text = "A conditional delete selects what another entry writes"
            raise located(FhirError("duplicate", text, status=400), each.place)


async def _acted(
    server: Performer,
    tx: Transaction,
    caller: Caller,
    request: Request,
    written: list[Written],
) -> _Acted:
    try:
        if _is_found(request.method, request.asked):
            return _Acted(request, await _existing(tx, request.asked))
        return _Acted(request, await server.act(tx, request.asked, caller, request.plan, written))
    except FhirError as error:
        raise located(error, request.place) from error


def _is_found(method: str, asked: Interaction) -> bool:
    """Whether it is a conditional create whose condition selects a resource."""
    return asked.code == "read" and method == "POST"


async def _existing(tx: Transaction, asked: Interaction) -> Result:
    """The answer to a conditional create of what is there already. The caller has found it by a
    search; that it may read it too is not asked."""
    version = await tx.get(asked.type or "", asked.id or "")
    if version is None or version.deleted:
        raise absent(asked.type)
    return Result(
        200,
        etag=version.number,
        updated=version.updated,
        location=f"{version.type}/{version.id}/_history/{version.number}",
        touched=((version.type, version.id, None),),
        patients=(version.owner,) if version.owner else (),
    )
