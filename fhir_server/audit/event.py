"""The AuditEvent of an interaction, as bytes and narrow keys, shaped as the BALP profiles are.

https://hl7.org/fhir/R4/auditevent.html, https://profiles.ihe.net/ITI/BALP/
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from conformance.json import encode
from fhir_server.interaction import Interaction, Parameters, Result, query_of
from fhir_server.search.place import link_entry
from fhir_server.storage.store import Entry, Event
from fhir_server.times import instant
from smart_auth.grant import Grant

_REST = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_SUBTYPE = "http://hl7.org/fhir/restful-interaction"
_ENTITY = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
_PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"

_SOURCE = (_DICOM, "110153")
_DESTINATION = (_DICOM, "110152")
_APPLICATION = (_DICOM, "110150")
_CUSTODIAN = (_PARTICIPANT, "custodian")


class Kind(NamedTuple):
    """How an interaction is audited: its action and the roles of client and server."""

    action: str
    client: tuple[str, str]
    server: tuple[str, str]


_READ = Kind("R", _DESTINATION, _SOURCE)
_QUERY = Kind("E", _SOURCE, _DESTINATION)
_KINDS = {
    "read": _READ,
    "vread": _READ,
    "history-instance": _READ,
    "history-type": _QUERY,
    "history-system": _QUERY,
    "search-type": _QUERY,
    "search-system": _QUERY,
    "create": Kind("C", _SOURCE, _DESTINATION),
    "update": Kind("U", _SOURCE, _DESTINATION),
    "patch": Kind("U", _SOURCE, _DESTINATION),
    "delete": Kind("D", _APPLICATION, _CUSTODIAN),
}
_HEAD = b'{"resourceType":"AuditEvent","id":"'
_LEAD = '","meta":{"versionId":"1","lastUpdated":"'
NO_INTERACTION = "refused"  # a request that is none, refused before it was routed
SUCCESS, MINOR, SERIOUS = "0", "4", "8"


_Named: TypeAlias = tuple[str, str, int | None, str]  # a resource, its version and its role


class Caller(NamedTuple):
    """Who asked and from where; `site` names this server."""

    grant: Grant
    address: str
    site: str


def events(
    asked: Interaction, caller: Caller, result: Result, at: int, entities: int
) -> list[Event]:
    """What an interaction that succeeded leaves in the audit: one event, and a further one for
    every `entities` versions and patients that it names beyond the first."""
    named: list[_Named] = [(*touched, _OBJECT) for touched in result.touched]
    if result.patients:
        objects = {f"{type}/{id}" for type, id, _ in result.touched}
        for patient in result.patients:
            if patient not in objects:
                type, _, id = patient.partition("/")
                named.append((type, id, None, _PATIENT))
    query = asked.parameters if result.asked is None else result.asked
    if len(named) <= entities:
        return [_event(asked, caller, SUCCESS, None, named, at, query)]
    parts = [named[i : i + entities] for i in range(0, len(named), entities)]
    return [_event(asked, caller, SUCCESS, None, part, at, query) for part in parts]


def failure(asked: Interaction, caller: Caller, status: int, code: str, at: int) -> Event:
    """What a refused or failed interaction leaves: what was asked for, and the issue's code."""
    named: list[_Named] = []
    if asked.type and asked.id:
        named.append((asked.type, asked.id, None, _OBJECT))
    outcome = MINOR if status < 500 else SERIOUS
    return _event(asked, caller, outcome, code, named, at, asked.parameters)


def _tagged(system: str, code: str) -> str:
    return encode({"system": system, "code": code}).decode()


_OBJECT = '"},"type":' + _tagged(_ENTITY, "2") + ',"role":' + _tagged(_ROLE, "4") + "}"
_PATIENT = '"},"type":' + _tagged(_ENTITY, "1") + ',"role":' + _tagged(_ROLE, "1") + "}"
_QUERY_ENTITY = '{"type":' + _tagged(_ENTITY, "2") + ',"role":' + _tagged(_ROLE, "24")


def _event(
    asked: Interaction,
    caller: Caller,
    outcome: str,
    described: str | None,
    named: list[_Named],
    at: int,
    query: Parameters,
) -> Event:
    stamp = instant(at)
    before, after = _frame(asked.code, asked.operation, caller, outcome, described)
    entities: list[str] = []
    keys: dict[tuple[str, str], Entry] = {}
    for type, id, number, role in named:
        version = f"/_history/{number}" if number else ""
        entities.append(f'{{"what":{{"reference":"{type}/{id}{version}{role}')
        keys[type, id] = link_entry("entity", type, id)
    if query or asked.condition:
        entities.append(_query(asked, query))
    end = f',"entity":[{",".join(entities)}]}}' if entities else "}"
    tail = f"{_LEAD}{stamp}{before}{stamp}{after}{end}".encode()
    agent = caller.grant.agent
    if agent is None:
        return Event(at, _HEAD, tail, tuple(keys.values()))
    type, _, id = agent.partition("/")
    return Event(at, _HEAD, tail, (*keys.values(), link_entry("agent", type, id)))


@lru_cache(4096)  # callers and interactions are few; their events are many
def _frame(
    code: str, operation: str | None, caller: Caller, outcome: str, described: str | None
) -> tuple[str, str]:
    """What stands between the times and behind them, up to the entities."""
    before = '"},' + _what(code, operation) + ',"recorded":"'
    after = '","outcome":"' + outcome + '",'
    if described:
        after += '"outcomeDesc":' + encode(described).decode() + ","
    return before, after + _who(code, caller)


def _query(asked: Interaction, query: Parameters) -> str:
    raw = query_of((*query, *(asked.condition or ())))
    text = base64.b64encode(f"{asked.type or ''}?{raw}".encode()).decode()
    return f'{_QUERY_ENTITY},"query":"{text}"}}'


def _what(code: str, operation: str | None) -> str:
    """type, subtype and action."""
    subtype = {"system": _SUBTYPE, "code": code}
    if operation:
        subtype["display"] = f"${operation}"
    made = {
        "type": {"system": _REST, "code": "rest", "display": "RESTful Operation"},
        **({"subtype": [subtype]} if code != NO_INTERACTION else {}),
        "action": _KINDS[code].action if code in _KINDS else "E",
    }
    return encode(made)[1:-1].decode()


def _who(code: str, caller: Caller) -> str:
    """agent and source."""
    kind = _KINDS.get(code, _QUERY)
    client: dict[str, object] = {"type": _role(kind.client)}
    client["who"] = (
        {"reference": caller.grant.agent} if caller.grant.agent else {"display": caller.grant.name}
    )
    client |= {"requestor": True, "network": {"address": caller.address, "type": "2"}}
    server = {
        "type": _role(kind.server),
        "who": {"display": "Salus"},
        "requestor": False,
        "network": {"address": caller.site, "type": "1"},
    }
    made = {"agent": [client, server], "source": {"observer": {"display": caller.site}}}
    return encode(made)[1:-1].decode()


def _role(role: tuple[str, str]) -> dict[str, object]:
    return {"coding": [{"system": role[0], "code": role[1]}]}
