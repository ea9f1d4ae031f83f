"""Who looked at my record: for patients and those who act for them, in words, with receipts.

https://hl7.org/fhir/R4/auditevent.html, https://eur-lex.europa.eu/eli/reg/2016/679/oj (article 15)
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from datetime import date
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from fhir_server.ids import is_id
from salus.console.page import Visit, download, go, render, signed_page
from salus.console.telling import days, people_of
from salus.console.trail import Filter, Gone, Trail, own
from smart_auth.authority import Happening
from smart_auth.errors import OAuthError
from smart_auth.sessions import Signed

ACCESS = "/account/access"
ENTRY, EXPORT = f"{ACCESS}/{{id}}", f"{ACCESS}.ndjson"
_NDJSON = "application/fhir+ndjson"
_FIELDS = ("from", "to", "who", "patient")
_RESOURCE = re.compile(r"[A-Z][A-Za-z]{1,40}/[A-Za-z0-9.\-]{1,64}", re.ASCII)
_UNKNOWN = "Choose a person from the list"
_NO_DAY = "A day is written like 2026-11-22"

router = APIRouter(include_in_schema=False)


class Unread(Exception):
    """A filter that cannot be read; its text says why."""


async def _list(visit: Visit, signed: Signed) -> Response:
    """What was done, newest first. What the form asks for stands in the address of the answer, so
    that it can be loaded again; there are ids and days in it and nothing else."""
    trail = await own(visit, signed)
    if visit.request.method == "POST":
        return go(visit, ACCESS, **chosen(visit, _FIELDS))
    try:
        asked = await _asked(visit, trail)
    except Unread as wrong:
        return _shown(visit, trail, str(wrong))
    try:
        found = await trail.page(asked, visit.sent.get("page", ""))
    except Gone:
        return go(visit, ACCESS, **chosen(visit, _FIELDS))
    people = people_of(found.told)
    if asked.who and asked.who not in people:
        people[asked.who] = await _name(trail, asked.who)
    return _shown(visit, trail, people=people, days=days(found.told), older=found.older)


async def _asked(visit: Visit, trail: Trail) -> Filter:
    """Unread."""
    asked = read_filter(visit.sent)
    if not await trail.may_ask_of(asked.who):
        raise Unread(_UNKNOWN)
    return asked


def _shown(visit: Visit, trail: Trail, wrong: str = "", **values: Any) -> Response:
    here = chosen(visit, _FIELDS)
    return render(
        visit,
        "looked",
        400 if wrong else 200,
        wrong=wrong,
        zone=str(trail.viewer.zone),
        patients=trail.viewer.patients,
        sent=here,
        own=trail.viewer.who in [f"Patient/{id}" for id in trail.viewer.patients],
        later="page" in visit.sent,
        **{"people": {}, "days": [], "older": "", **values},
    )


async def _name(trail: Trail, who: str) -> str:
    """Somebody of whom the page shows nothing, as they are called elsewhere."""
    found = await trail.page(Filter(who=who))
    return next((each.who for each in found.told if each.whom == who), "Somebody else")


async def _entry(visit: Visit, signed: Signed) -> Response:
    """One entry, whether it can be proven, and its receipt for who asks for that."""
    trail = await own(visit, signed)
    id = visit.request.path_params["id"]
    (entry,) = (await trail.entry(id)).told
    proof = await trail.proof(id)
    if visit.request.method == "POST" and proof.receipt:
        return receipt(proof.receipt, id)
    return render(
        visit,
        "looked-entry",
        entry=entry,
        proof=proof.state,
        key=trail.key,
        zone=str(trail.viewer.zone),
    )


async def _export(visit: Visit, signed: Signed) -> Response:
    trail = await own(visit, signed)
    try:
        asked = await _asked(visit, trail)
    except Unread as wrong:
        raise OAuthError("invalid_request", str(wrong)) from None
    return await exported(visit, signed, trail, asked)


# --- what the administrators' pages do alike -----------------------------------------------------


def chosen(visit: Visit, fields: tuple[str, ...]) -> dict[str, str]:
    """The fields of the filter that are filled in."""
    return {name: visit.sent[name] for name in fields if visit.sent.get(name)}


def read_filter(sent: Mapping[str, str]) -> Filter:
    """What of the list is asked for. Unread."""
    since, until = _day(sent.get("from", "")), _day(sent.get("to", ""))
    if since and until and until < since:
        raise Unread("The first day comes after the last")
    who, patient = sent.get("who", ""), sent.get("patient", "")
    if (who and not _RESOURCE.fullmatch(who)) or (patient and not is_id(patient)):
        raise Unread(_UNKNOWN)
    return Filter(since, until, who, patient)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise Unread(_NO_DAY) from None


def receipt(text: str, id: str) -> Response:
    """A receipt as a file."""
    return download(text.encode(), f"receipt-{id}.txt", "text/plain; charset=utf-8")


async def exported(visit: Visit, signed: Signed, trail: Trail, asked: Filter) -> Response:
    """What is shown, as a file; that somebody took it is audited before it goes."""
    lines = trail.lines(asked)
    first = await anext(lines, b"")
    account = signed.account
    told = Happening(
        "export",
        account=account.name,
        who=account.who,
        patient=asked.patient or _only(trail),
        address=visit.visitor.address,
    )
    await visit.authority.audit(told)

    async def all_lines() -> AsyncIterator[bytes]:
        yield first
        async for each in lines:
            yield each

    return download(all_lines(), "who-looked.ndjson", _NDJSON)


def _only(trail: Trail) -> str | None:
    """The one patient whose record it is."""
    ids = tuple(trail.viewer.patients)
    return ids[0] if len(ids) == 1 else None


for _show, _path in ((_list, ACCESS), (_export, EXPORT), (_entry, ENTRY)):
    router.api_route(_path, methods=["GET", "POST"])(signed_page(_show, ACCESS))
