"""The AuditEvent of what is no interaction: sign-in, tokens, consent, and what is refused of them.
None of them claims a profile: docs/decisions/0021-audit-events.md says which rules they lack.

https://hl7.org/fhir/R4/auditevent.html,
https://dicom.nema.org/medical/dicom/current/output/chtml/part16/sect_CID_403.html
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from conformance.json import encode
from conformance.outcome import FhirError
from fhir_server.audit.balp import APPLICATION, DICOM, OURS, PATIENT_ROLE, PERSON
from fhir_server.audit.event import MINOR, PRIVATE, SUCCESS, agent_entries, network, role, user_of
from fhir_server.audit.links import ENTITY
from fhir_server.search.place import link_entry
from fhir_server.server import Server
from fhir_server.storage.store import EVENTS, Entry, Event
from fhir_server.times import instant
from smart_auth.authority import Happening
from smart_auth.errors import OAuthError

_SECURITY = "http://terminology.hl7.org/CodeSystem/extra-security-role-type"
_PERSON = (_SECURITY, "humanuser")
_AUTHORIZER = (_SECURITY, "authserver")
# What a stranger calls itself is told only when it can be the id of a client.
_is_id = re.compile(r"[A-Za-z0-9._~:/\-]{1,128}").fullmatch

Coding = tuple[str, str]  # code and display

_AUTHENTICATION = ("110114", "User Authentication")
_ALERT = ("110113", "Security Alert")


class Kind(NamedTuple):
    """How a happening is audited: DICOM's event, its subtype where it has one, and the action."""

    event: Coding
    subtype: Coding | None = None
    action: str = "E"


KINDS = {
    "sign-in": Kind(_AUTHENTICATION, ("110122", "Login")),
    "sign-in-refused": Kind(_AUTHENTICATION, ("110122", "Login")),
    "sign-out": Kind(_AUTHENTICATION, ("110123", "Logout")),
    "lockout": Kind(_ALERT),
    "token": Kind(_AUTHENTICATION),
    "token-refused": Kind(_AUTHENTICATION),
    "revoke": Kind(_ALERT, ("110135", "Object Security Attributes Changed"), "D"),
    "consent": Kind(_ALERT, ("110135", "Object Security Attributes Changed"), "C"),
    "launch": Kind(_AUTHENTICATION),
    "keys": Kind(_ALERT, ("110129", "Security Configuration"), "U"),
    "export": Kind(("110106", "Export"), None, "R"),
    "register": Kind(_ALERT, ("110129", "Security Configuration"), "U"),
    "hold": Kind(_ALERT, ("110135", "Object Security Attributes Changed"), "C"),
    "hold-released": Kind(_ALERT, ("110135", "Object Security Attributes Changed"), "D"),
    "expire": Kind(_ALERT, ("110129", "Security Configuration"), "D"),
    "account": Kind(_ALERT, ("110137", "User Security Attributes Changed"), "U"),
    "package": Kind(_ALERT, ("110131", "Software Configuration"), "U"),
    "backup": Kind(("110106", "Export"), None, "R"),
    "restore": Kind(("110107", "Import"), None, "C"),
}
_OTHER = Kind(_ALERT)


def audit_of(server: Server) -> Callable[[Happening], Awaitable[None]]:
    """What appends a happening to the audit; it is durable on return. OAuthError when that cannot
    be, so that nothing happens unseen."""
    site = urlsplit(server.core.base_url).netloc

    async def audit(happening: Happening) -> None:
        try:
            await server.record(event(happening, site, server.core.clock()))
        except FhirError:
            raise OAuthError(
                "temporarily_unavailable", "The audit cannot be written now; try again"
            ) from None

    return audit


def event(happening: Happening, site: str, at: int) -> Event:
    """The event; `at` in microseconds since 1970, `site` names this server."""
    stamp = instant(at)
    kind = KINDS.get(happening.what, _OTHER)
    named = [_coding(DICOM, kind.subtype)] if kind.subtype else []
    body: dict[str, Any] = {
        "meta": {"versionId": "1", "lastUpdated": stamp},
        "type": _coding(DICOM, kind.event),
        "subtype": [*named, {"system": OURS, "code": happening.what}],
        "action": kind.action,
        "recorded": stamp,
        "outcome": SUCCESS if happening.success else MINOR,
        "outcomeDesc": happening.detail,
        "agent": _agents(happening, site),
        "source": {"observer": {"display": site}},
        "entity": _entities(happening),
    }
    content = {name: value for name, value in body.items() if value}
    head = f'{{"resourceType":"{EVENTS}","id":"'.encode()
    return Event(at, head, b'",' + encode(content)[1:], tuple(_keys(happening)))


def _coding(system: str, coding: Coding) -> dict[str, str]:
    return {"system": system, "code": coding[0], "display": coding[1]}


def _agents(happening: Happening, site: str) -> list[dict[str, Any]]:
    """The user, the app and this server, as far as they took part; the first asked for it."""
    client = happening.client if happening.client and _is_id(happening.client) else None
    agents = [
        *([_user(happening)] if happening.who or happening.account else []),
        *([_app(client)] if client else []),
    ]
    if not agents:
        agents.append({"who": {"display": "somebody"}})
    first = {**agents[0], "requestor": True}
    if happening.address:
        first["network"] = network(happening.address)
    server = {"type": role(_AUTHORIZER), "who": {"display": site}, "network": network(site)}
    return [{"requestor": False, **each} for each in (first, *agents[1:], server)]


def _user(happening: Happening) -> dict[str, Any]:
    """Staff by their login too; of patients and those near them it may be a name."""
    who = happening.who
    private = who is not None and who.startswith(PRIVATE)
    login = {"altId": happening.account} if happening.account and not private else {}
    return {"type": role(_PERSON), **user_of(who, happening.account), **login}


def _app(client: str) -> dict[str, Any]:
    return {"type": role(APPLICATION), "who": {"identifier": {"value": client}}}


def _entities(happening: Happening) -> list[dict[str, Any]]:
    if not happening.patient:
        return []
    (person, patient) = (_tagged(*each) for each in (PERSON, PATIENT_ROLE))
    what = {"reference": f"Patient/{happening.patient}"}
    return [{"what": what, "type": person, "role": patient}]


def _tagged(system: str, code: str) -> dict[str, str]:
    return {"system": system, "code": code}


def _keys(happening: Happening) -> list[Entry]:
    keys = []
    if happening.patient:
        keys.append(link_entry(ENTITY, "Patient", happening.patient))
    if happening.who:
        keys += agent_entries(happening.who)
    return keys
