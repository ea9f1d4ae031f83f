"""Who looked at whom: the audit for administrators, with the state of the log that seals it.

https://hl7.org/fhir/R4/auditevent.html, https://www.ecfr.gov/current/title-45/section-164.312
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fastapi import APIRouter
from starlette.responses import Response

from salus.console.looked import Unread, chosen, exported, read_filter, receipt
from salus.console.page import Visit, go, render, signed_page
from salus.console.telling import Told
from salus.console.trail import Filter, Gone, Trail, whole
from salus.directory import escaped
from smart_auth import accounts, clients
from smart_auth.errors import OAuthError
from smart_auth.sessions import Signed

ACCESS = "/admin/access"
ENTRY, EXPORT = f"{ACCESS}/{{id}}", f"{ACCESS}.ndjson"
_LOGIN = "login:"  # with which somebody is named who has no resource
_FIELDS = ("patient", "who", "app", "kind", "end", "from", "to")
_PATIENTS = 50  # that a search for patients shows
_NAME = 100  # characters of what is searched
_FEW = 10  # resources of an entry that are shown at once

router = APIRouter(include_in_schema=False)


class Kind(NamedTuple):
    """What can be asked for: in words, and by the codes of the interactions and happenings."""

    words: str
    codes: str


KINDS: Mapping[str, Kind] = {
    "looked": Kind(
        "Looked at or searched",
        "read,vread,history-instance,history-type,history-system,search-type,search-system",
    ),
    "added": Kind("Added", "create"),
    "changed": Kind("Changed", "update,patch"),
    "removed": Kind("Removed", "delete"),
    "stored": Kind("Stored several at once", "batch,transaction"),
    "operation": Kind("Operations, such as $everything", "operation"),
    "downloaded": Kind("Downloaded such a list", "export"),
    "signed": Kind("Signed in or out", "sign-in,sign-in-refused,sign-out,lockout"),
    "apps": Kind("Let apps in, or kept them out", "consent,launch,token,token-refused,revoke"),
    "settled": Kind("Changed accounts and apps", "account,register"),
    "run": Kind(
        "Legal holds, keys, backups, alarms",
        "hold,hold-released,expire,keys,backup,restore,log-alarm",
    ),
}
# What took part, by the code of its role; of others the code itself is shown.
_ROLES: Mapping[str, str] = {
    "110150": "application",
    "110152": "destination",
    "110153": "source",
    "AUT": "author",
    "IRCP": "person",
    "UserOauthAgent": "",
    "authserver": "this server",
    "humanuser": "person",
}
ENDS: Mapping[str, tuple[str, str]] = {
    "well": ("It was done", "0"),
    "not": ("Refused, or it did not work", "4,8,12"),
}


class Row(NamedTuple):
    """An entry with whence it was asked."""

    told: Told
    address: str


async def _list(visit: Visit, signed: Signed) -> Response:
    """What was done, newest first. Names that are searched never stand in an address."""
    trail = whole(visit, signed)
    if visit.request.method == "POST" and visit.sent.get("action") == "find":
        return await _find(visit, trail)
    if visit.request.method == "POST":
        return go(visit, ACCESS, **chosen(visit, _FIELDS))
    try:
        asked = _filter(visit)
    except Unread as wrong:
        return await _shown(visit, trail, 400, wrong=str(wrong))
    try:
        found = await trail.page(asked, visit.sent.get("page", ""))
    except Gone:
        return go(visit, ACCESS, **chosen(visit, _FIELDS))
    both = zip(found.told, found.events, strict=True)
    rows = [Row(words, address(event)) for words, event in both]
    return await _shown(visit, trail, rows=rows, older=found.older)


async def _find(visit: Visit, trail: Trail) -> Response:
    """Patients of a name or number, to choose one of."""
    text = visit.sent.get("name", "")[:_NAME].strip()
    return await _shown(visit, trail, text=text, found=await trail.find(text, _PATIENTS))


async def _shown(visit: Visit, trail: Trail, status: int = 200, **values: Any) -> Response:
    authority, sent = visit.authority, chosen(visit, _FIELDS)
    patient = sent.get("patient", "")
    names = await trail.patients([patient]) if patient and status == 200 else {}
    usual: dict[str, Any] = {
        "wrong": "",
        "text": "",
        "found": None,
        "rows": None,
        "older": "",
    }
    people = await accounts.all_accounts(authority)
    apps = await clients.all_clients(authority)
    return render(
        visit,
        "audit",
        status,
        zone=str(trail.viewer.zone),
        sent=sent,
        later="page" in visit.sent,
        patient=names.get(patient, "") or patient,
        log=await trail.sealed(),
        people=sorted(
            (each.who or f"{_LOGIN}{each.name}", each.display or each.name) for each in people
        ),
        apps=[(each.id, each.name) for each in apps],
        kinds=[(name, kind.words) for name, kind in KINDS.items()],
        ends=[(name, words) for name, (words, _) in ENDS.items()],
        most=_PATIENTS,
        **{**usual, **values},
    )


def _filter(visit: Visit) -> Filter:
    """Unread."""
    sent, more = visit.sent, list[tuple[str, str]]()
    if sent.get("kind") in KINDS:
        more.append(("subtype", KINDS[sent["kind"]].codes))
    if sent.get("end") in ENDS:
        more.append(("outcome", ENDS[sent["end"]][1]))
    if "app" in sent:
        more.append(("agent:identifier", escaped(sent["app"])))
    if sent.get("who", "").startswith(_LOGIN):
        more.append(("agent:identifier", escaped(sent["who"].removeprefix(_LOGIN))))
        sent = {name: value for name, value in sent.items() if name != "who"}
    return read_filter(sent)._replace(more=tuple(more))


# --- one entry -----------------------------------------------------------------------------------


async def _entry(visit: Visit, signed: Signed) -> Response:
    """One entry with all that the audit holds of it; what was asked for only when that is asked."""
    trail = whole(visit, signed)
    id = visit.request.path_params["id"]
    found = await trail.entry(id)
    proof = await trail.proof(id)
    action = visit.sent.get("action", "") if visit.request.method == "POST" else ""
    if action == "receipt" and proof.receipt:
        return receipt(proof.receipt, id)
    (event,), (words,) = found.events, found.told
    return render(
        visit,
        "audit-entry",
        entry=words,
        proof=proof.state,
        key=trail.key,
        zone=str(trail.viewer.zone),
        facts=list(_facts(event)),
        resources=list(_resources(event)),
        asked=_queries(event) if action == "query" else None,
        queries=bool(_queries(event)),
        few=_FEW,
    )


def _facts(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What stands in an event besides its words, by name."""
    kinds = [event.get("type", {}), *event.get("subtype", ())]
    yield "What it is, by its codes", ", ".join(filter(None, map(_code, kinds)))
    said = event.get("outcomeDesc", "")
    code = event.get("outcome", "0")
    yield ("More of it", said) if code == "0" else ("Outcome, by its codes", f"{code} {said}")
    for each in event.get("agent", ()):
        who = each.get("who", {})
        named = who.get("reference") or who.get("identifier", {}).get("value")
        codes = map(_code, each.get("type", {}).get("coding", ()))
        role = ", ".join(filter(None, (_ROLES.get(code, code) for code in codes)))
        at = each.get("network", {}).get("address")
        parts = [
            named or who.get("display", ""),
            each.get("altId", ""),
            f"at {at}" if at else "",
            f"token …{each['policy'][0]}" if each.get("policy") else "",
        ]
        yield "Took part" + (f" ({role})" if role else ""), ", ".join(filter(None, parts))
    for each in event.get("entity", ()):
        if number := each.get("what", {}).get("identifier", {}).get("value"):
            yield "Number of the request", number


def _code(coding: Mapping[str, Any]) -> str:
    return str(coding.get("display") or coding.get("code") or "")


def _resources(event: Mapping[str, Any]) -> Iterator[str]:
    for each in event.get("entity", ()):
        if reference := each.get("what", {}).get("reference"):
            yield reference


def _queries(event: Mapping[str, Any]) -> list[str]:
    """What was asked for, as it was sent; of what cannot be opened any more the names."""
    found = []
    for each in event.get("entity", ()):
        if "query" in each:
            found.append(b64decode(each["query"]).decode(errors="replace"))
        elif "_query" in each:
            found.append(each.get("description", ""))
    return found


def address(event: Mapping[str, Any]) -> str:
    """Whence it was asked."""
    server = event.get("source", {}).get("observer", {}).get("display")
    found = [each.get("network", {}).get("address", "") for each in event.get("agent", ())]
    return next((each for each in found if each and each != server), "")


async def _export(visit: Visit, signed: Signed) -> Response:
    trail = whole(visit, signed)
    try:
        asked = _filter(visit)
    except Unread as wrong:
        raise OAuthError("invalid_request", str(wrong)) from None
    return await exported(visit, signed, trail, asked)


for _show, _path in ((_list, ACCESS), (_export, EXPORT), (_entry, ENTRY)):
    router.api_route(_path, methods=["GET", "POST"])(signed_page(_show, ACCESS))
