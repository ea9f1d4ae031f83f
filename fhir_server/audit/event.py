"""The AuditEvent of an interaction, as bytes and narrow keys, shaped as the BALP profiles are. Its
body holds references and codes, no name and no value that was asked for.

https://hl7.org/fhir/R4/auditevent.html, https://profiles.ihe.net/ITI/BALP/
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, NamedTuple, TypeAlias

from conformance.json import encode
from fhir_server.audit import balp
from fhir_server.audit.apart import apart, masked, names
from fhir_server.audit.balp import Coding, Kind, claim, is_query, kind_of, profiles
from fhir_server.audit.links import AGENT, ENTITY
from fhir_server.ids import is_id
from fhir_server.interaction import Interaction, Parameters, Result, query_of
from fhir_server.search.place import link_entry
from fhir_server.storage.store import Entry, Event
from fhir_server.times import instant
from smart_auth.grant import Grant

_HEAD = b'{"resourceType":"AuditEvent","id":"'
_LEAD = '","meta":{"versionId":"1","lastUpdated":"'
NO_INTERACTION = "refused"  # a request that is none, refused before it was routed
SUCCESS, MINOR, SERIOUS = "0", "4", "8"
TOKEN_END = 12  # characters of an access token that an event names it by, of 43
# Whose logins may be names of patients; their resource says who they are.
PRIVATE = ("Patient/", "RelatedPerson/", "Person/")

_Touched: TypeAlias = tuple[str, str, int | None]  # type and id of a resource, and its version


class Caller(NamedTuple):
    """Who asked and from where; `site` names this server, `request` is the request's X-Request-Id,
    `token` the end of the access token, too short to be of use."""

    grant: Grant
    address: str
    site: str
    request: str = ""
    token: str = ""


_AGENTS = frozenset(
    {"Device", "Organization", "Patient", "Practitioner", "PractitionerRole", "RelatedPerson"}
)


def events(
    asked: Interaction, caller: Caller, result: Result, at: int, entities: int
) -> list[Event]:
    """What an interaction that succeeded leaves in the audit: one event, and a further one for
    every `entities` versions and patients that it names beyond the first."""
    kind = kind_of(asked.code)
    claimed = claim(kind, asked, result)
    touched, patients = result.touched, result.patients
    owner = patients[0] if len(patients) == 1 else None
    if claimed == balp.NONE and patients:  # a Bundle's patients are told once, as objects
        objects = {f"{type}/{id}" for type, id, _ in touched}
        patients = tuple([each for each in patients if each not in objects])
    query = asked.parameters if result.asked is None else result.asked
    ended = _SUCCEEDED[claimed]
    if result.described is not None:
        ended = ended._replace(described=result.described)
    if len(touched) + len(patients) <= entities:
        return [_event(asked, caller, ended, touched, patients, at, query, owner)]
    named: list[_Touched | str] = [*touched, *patients]
    parts = [named[i : i + entities] for i in range(0, len(named), entities)]
    return [
        _event(
            asked,
            caller,
            ended,
            [each for each in part if not isinstance(each, str)],
            [each for each in part if isinstance(each, str)],
            at,
            query,
            owner,
        )
        for part in parts
    ]


def failure(asked: Interaction, caller: Caller, status: int, code: str, at: int) -> Event:
    """What a refused or failed interaction leaves: what was asked for, and the issue's code."""
    named = ((asked.type, asked.id, None),) if asked.type and asked.id else ()
    ended = _End(MINOR if status < 500 else SERIOUS, code, balp.NONE)
    # What names a patient that nobody looked at is no reason to make keys for it.
    return _event(asked, caller, ended, named, (), at, asked.parameters, None)


class _End(NamedTuple):
    """How an interaction ended: outcome, issue code, and how much the event claims."""

    outcome: str
    described: str | None
    claimed: int


_SUCCEEDED = tuple(_End(SUCCESS, None, each) for each in (balp.NONE, balp.PLAIN, balp.PATIENT))


def _tagged(coding: Coding) -> str:
    return encode({"system": coding[0], "code": coding[1]}).decode()


def _roles(type: Coding, role: Coding) -> str:
    return f'"type":{_tagged(type)},"role":{_tagged(role)}'


_OBJECT = f'"}},{_roles(balp.THING, balp.RESOURCE_ROLE)}}}'
_PATIENT = f'"}},{_roles(balp.PERSON, balp.PATIENT_ROLE)}}}'
_REQUEST = f'{{"type":{_tagged(balp.REQUEST_ID)},"what":{{"identifier":{{"value":"'


@lru_cache(256)
def _thing(code: str, type: str) -> str:
    """The type and role of a resource that an interaction has touched."""
    if is_query(kind_of(code)):
        return f'"}},{_roles((balp.TYPES, type), balp.RESOURCE_ROLE)}}}'
    return _OBJECT


def _event(
    asked: Interaction,
    caller: Caller,
    ended: _End,
    touched: Sequence[_Touched],
    patients: Sequence[str],
    at: int,
    query: Parameters,
    owner: str | None,
) -> Event:
    stamp = instant(at)
    code = asked.code
    grant, address, site, request, token = caller
    before, after = _frame(code, asked.operation, grant, address, site, token, ended)
    entities: list[str] = []
    keys: dict[str, Entry] = {}
    for type, id, number in touched:
        name = f"{type}/{id}"
        version = f"/_history/{number}" if number else ""
        entities.append(f'{{"what":{{"reference":"{name}{version}{_thing(code, type)}')
        keys[name] = link_entry(ENTITY, type, id)
    for name in patients:
        entities.append(f'{{"what":{{"reference":"{name}{_PATIENT}')
        if name not in keys:
            type, _, id = name.partition("/")
            keys[name] = link_entry(ENTITY, type, id)
    kept = None
    if query or asked.condition or code.startswith("search-"):
        entity, kept = _query(asked, query)
        entities.append(entity)
    if request:
        entities.append(f'{_REQUEST}{request}"}}}}}}')
    end = f',"entity":[{",".join(entities)}]}}' if entities else "}"
    tail = f"{_LEAD}{stamp}{before}{stamp}{after}{end}".encode()
    entries = [*keys.values()]
    if grant.agent is not None:
        entries += agent_entries(grant.agent)
    if kept is None:
        return _new(Event, (at, _HEAD, tail, tuple(entries), None, None))
    return _new(Event, (at, _HEAD, tail, tuple(entries), kept, owner))


_new = tuple.__new__  # what Event(...) does, at half its price


@lru_cache(4096)  # callers and interactions are few; their events are many
def _frame(
    code: str,
    operation: str | None,
    grant: Grant,
    address: str,
    site: str,
    token: str,
    ended: _End,
) -> tuple[str, str]:
    """What stands between the times and behind them, up to the entities."""
    kind = kind_of(code)
    known = is_user(grant)
    claimed = profiles(kind, ended.claimed, bool(token) and known and ended.outcome == SUCCESS)
    before = '"' + (f',"profile":{encode(claimed).decode()}' if claimed else "")
    before += "}," + _what(kind, code, operation) + ',"recorded":"'
    after = f'","outcome":"{ended.outcome}",'
    if ended.described:
        after += '"outcomeDesc":' + encode(ended.described).decode() + ","
    made = {
        "agent": _agents(kind, grant, address, site, token),
        "source": {"observer": {"display": site}},
    }
    return before, after + encode(made)[1:-1].decode()


def _query(asked: Interaction, query: Parameters) -> tuple[str, bytes | None]:
    """The entity of what was asked for, in which its names are told, and what is kept apart."""
    path = _path(asked)
    every = (*query, *(asked.condition or ()))
    roles = _query_roles(asked.code)
    if not every:
        plain = base64.b64encode((path or "?").encode()).decode()
        return f'{{{roles},"description":"{path or "?"}","query":"{plain}"}}', None
    told = names(tuple([name for name, _ in every]))
    kept, hash = apart(f"{path}?{query_of(every)}".encode())
    return f'{{{roles},"description":"{path}?{told}",{masked(hash)}}}', kept


@lru_cache(64)
def _query_roles(code: str) -> str:
    """The type and role of what an interaction asked for."""
    kind = kind_of(code)
    standard = is_query(kind) or kind.profile is None
    return _roles(balp.THING if standard else balp.OWN_QUERY, balp.QUERY_ROLE)


def _path(asked: Interaction) -> str:
    """Where a request goes, below the base: types and ids."""
    if asked.compartment is not None:
        return "/".join((*asked.compartment, asked.type or "*"))
    if asked.id is None and asked.operation is None and not asked.code.startswith("history"):
        return asked.type or ""
    last = f"${_operation(asked.operation)}" if asked.operation else None
    if asked.code.startswith("history"):
        last = "_history"
    return "/".join(each for each in (asked.type, asked.id, last) if each)


def _operation(name: str) -> str:
    """The name of an operation; what is asked for and is none may be anything."""
    return name if is_id(name) else "*"


def _what(kind: Kind, code: str, operation: str | None) -> str:
    """type, subtype and action."""
    subtype = {"system": balp.INTERACTION, "code": code}
    if operation:
        subtype["display"] = f"${_operation(operation)}"
    made = {
        "type": {"system": balp.REST, "code": "rest"},
        **(
            {"subtype": [subtype, *_ALSO.get(operation or "", ())]}
            if code != NO_INTERACTION
            else {}
        ),
        "action": kind.action,
    }
    return encode(made)[1:-1].decode()


# What an operation is besides: the file of a bulk export leaves the system.
_ALSO = {"bulk-file": ({"system": balp.DICOM, "code": "110106"},)}


def _agents(kind: Kind, grant: Grant, address: str, site: str, token: str) -> list[dict[str, Any]]:
    """The user, where there is one, the client and this server; the first asked for it."""
    known = is_user(grant)
    policy = {"policy": [token]} if token else {}
    client = {
        "type": role(kind.client),
        "who": _client(grant),
        "requestor": not known,
        **({} if known else policy),
        "network": network(address),
    }
    server = {
        "type": role(kind.server),
        "who": {"display": site},
        "requestor": False,
        "network": network(site),
    }
    if not known:
        return [client, server]
    types = (kind.user, balp.OAUTH) if token else (kind.user,)
    user = {"type": role(*types), **user_of(grant.agent, grant.account), "requestor": True}
    return [{**user, **policy}, client, server]


def is_user(grant: Grant) -> bool:
    """Whether somebody is known who asked by means of a client."""
    return grant.agent is not None or grant.account is not None


def user_of(who: str | None, account: str | None) -> dict[str, Any]:
    """The user by its own resource, else by its login, which is staff's. An agent of R4 is no
    Person, so one that is is named, not referred to."""
    if who is not None and agent_entries(who):
        return {"who": {"reference": who}}
    return {"who": {"identifier": {"value": who or account}}}


@lru_cache(4096)
def agent_entries(who: str) -> tuple[Entry, ...]:
    """The key by which the events of a user are found."""
    type, _, id = who.partition("/")
    return (link_entry(AGENT, type, id),) if type in _AGENTS else ()


def _client(grant: Grant) -> dict[str, Any]:
    """The client by its id; what has none is a part of this server, or nobody known."""
    if grant.client:
        return {"identifier": {"value": grant.client}}
    return {"display": "Salus" if grant.name == grant.agent else grant.name}


def network(address: str) -> dict[str, str]:
    """An address by its kind: of IP (2), or a machine's name (1)."""
    try:
        ip_address(address.partition("/")[0])
    except ValueError:
        return {"address": address, "type": "1"}
    return {"address": address, "type": "2"}


def role(*codings: Coding) -> dict[str, Any]:
    """Codes as a CodeableConcept."""
    return {"coding": [{"system": system, "code": code} for system, code in codings]}
