"""Erasure and legal holds of patients, and the end of the audit's months, as the operator asks.

https://gdpr-info.eu/art-17-gdpr/
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from conformance.json import parse
from conformance.outcome import FhirError
from fhir_server.audit.event import Caller
from fhir_server.erasure import holds as legal
from fhir_server.erasure.finishing import Done
from fhir_server.erasure.foreseeing import foresee
from fhir_server.erasure.months import cutoff
from fhir_server.erasure.patient import waiting
from fhir_server.ids import is_id
from fhir_server.interaction import Interaction
from fhir_server.storage.store import TooCostly, Transaction
from salus.ending import Ending
from salus.operator import requests
from salus.operator.clients import OPERATOR
from salus.problem import Problem
from salus.product import Product
from smart_auth.authority import Happening
from smart_auth.grant import Grant

PATIENCE_SECONDS = 40.0  # that an answer waits for what others keep; it goes on without it
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_REMAINS = (
    "Audit events that name the patient, sealed under keys of their own: who saw what must be "
    "answered for until the audit's time is over (`salus settings`, SALUS_AUDIT_YEARS)",
    "Leaves of the log: hashes over random salts that are lost, from which nothing can be learnt",
    "What was handed out before: exports, and what other systems were told; data backups hold the "
    "patient's bodies sealed under keys that are destroyed, and index values until they end",
)
_LEFT = (
    "{} resources in which a legal hold forbids any change: they go on naming the patient, and are "
    "rid of that when the hold is released"
)
_UNREAD = "{} records that are damaged, in which nobody can look (`salus doctor` names them)"
_DANGLING = "References by others that were written meanwhile"
_UNTIDY = (
    "Traces of index values in unused parts of the file's pages, which is rebuilt at the next start"
)


async def erase(product: Product, asked: requests.ErasePatient) -> requests.Erased:
    """Through `$purge`, so that what is audited and refused is the same. Problem."""
    parts: list[dict[str, Any]] = [
        {"name": "confirm", "valueString": asked.id},
        {"name": "dry-run", "valueBoolean": asked.dry},
    ]
    if asked.basis:
        parts.append({"name": "basis", "valueString": asked.basis})
    wanted = Interaction(
        "operation",
        "Patient",
        _checked(asked.id),
        operation="purge",
        resource={"resourceType": "Parameters", "parameter": parts},
    )
    caller = Caller(Grant.operator(OPERATOR), "local", product.settings.base_url)
    try:
        result = await product.server.perform(wanted, caller)
    except FhirError as error:
        raise Problem(error.issues[0].text) from None
    shown = _shown(asked.id, parse(result.body))
    return await (_foreseen(product, shown) if asked.dry else _finished(product.ending, shown))


def _checked(id: str) -> str:
    """Problem for what is no id."""
    if not is_id(id):
        raise Problem("A patient is named by its id: letters, digits, - and ., at most 64")
    return id


def _shown(id: str, told: dict[str, Any]) -> requests.Erased:
    """What the operation says."""
    parts = told["parameter"]
    named = {part["name"]: part for part in parts}
    types = tuple(
        (part["part"][0]["valueCode"], part["part"][1]["valueInteger"])
        for part in parts
        if part["name"] == "removed"
    )
    return requests.Erased(
        id=id,
        dry=named["dry-run"]["valueBoolean"],
        held=named["hold"]["valueBoolean"],
        types=types,
        versions=named["versions"]["valueInteger"],
    )


async def _foreseen(product: Product, shown: requests.Erased) -> requests.Erased:
    """With what others would lose, where there is the time to look at all of it."""
    server = product.server
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            seen = await foresee(server.store, server.core, shown.id)
    except (TimeoutError, TooCostly):
        return shown
    return replace(
        shown,
        foreseen=True,
        cut=tuple(sorted(seen.cut.items())),
        gone=tuple(sorted(seen.gone.items())),
        redacted=seen.redacted,
    )


async def _finished(ending: Ending, shown: requests.Erased) -> requests.Erased:
    """With what others kept, as far as it is done in time."""
    known = await ending.store.transaction(waiting)
    done: Done | None = None
    for erasing in (each for each in known if each.patient == shown.id):
        task = asyncio.create_task(ending.finisher.finish(erasing))
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                done = await asyncio.shield(task)
    final = datetime.fromtimestamp(ending.finisher.backups_end(), UTC).date().isoformat()
    if done is None:
        return replace(shown, finished=False, remains=_REMAINS, final=final)
    more = [*_REMAINS]
    more += [_LEFT.format(done.left)] if done.left else []
    more += [_UNREAD.format(done.unread)] if done.unread else []
    more += [_DANGLING] if done.dangling and not done.left else []
    more += [] if done.tidy else [_UNTIDY]
    return replace(
        shown,
        finished=True,
        changed=done.changed,
        redacted=done.redacted,
        removed=done.removed,
        results=done.results,
        tidy=done.tidy,
        left=done.left,
        unread=done.unread,
        remains=tuple(more),
        final=final,
    )


async def hold(product: Product, asked: requests.HoldPatient) -> requests.Done:
    """Problem for a patient that is not there, and for the end of a hold that is not."""
    id, reason = _checked(asked.id), asked.reason

    async def work(tx: Transaction) -> None:
        if reason is None:
            if not await legal.release(tx, id):
                raise Problem(f"There is no hold on Patient/{id}")
            return
        if await tx.get("Patient", id) is None:
            raise Problem(f"There is no Patient/{id}")
        await legal.hold(tx, id, reason)

    await product.server.store.transaction(work, write=True)
    if reason is None:
        product.server.core.beyond.begun.set()  # an erasure may have waited for that
    what = "hold-released" if reason is None else "hold"
    await product.authority.audit(
        Happening(what, client=OPERATOR, account=OPERATOR, patient=id, detail="legal hold")
    )
    return requests.Done()


async def holds(product: Product, _: requests.ListHolds) -> requests.Holds:
    found = await product.server.store.transaction(legal.all_held)
    return requests.Holds(tuple((id, each.reason, each.at) for id, each in sorted(found.items())))


async def expire(product: Product, asked: requests.ExpireAudit) -> requests.Expired:
    """Problem for what is no month, and for one that is not over."""
    now = product.server.core.clock()
    before = asked.before or cutoff(product.settings.audit_years, now)
    if not _MONTH.fullmatch(before):
        raise Problem("--before is a month, as in 2020-11")
    if before > cutoff(0, now):
        raise Problem("--before is a month that has begun: the running one never ends by it")
    ended = await product.ending.expire(before)
    for each in ended:
        detail = f"audit of {each.month} ended: {each.events} events"
        await product.authority.audit(
            Happening("expire", client=OPERATOR, account=OPERATOR, detail=detail)
        )
    return requests.Expired(tuple(ended))
