"""AuditEvents of other systems: appended like our own, and marked as what the caller says. What
they say in words is kept apart, since an event outlives the patient that it may name.

https://hl7.org/fhir/R4/auditevent.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.json import encode
from fhir_server.audit.apart import apart, held
from fhir_server.audit.links import entries_of
from fhir_server.core import Step
from fhir_server.interaction import Resource, Result
from fhir_server.prepare import Prepared
from fhir_server.storage.store import EVENTS, Event
from fhir_server.times import instant, parse_instant

REPORTED = {
    "system": "urn:salus:audit",
    "code": "reported",
    "display": "Reported by the caller, not observed by this server",
}
_EMPTY: tuple[Any, ...] = (None, {}, [])


def _same(value: Any) -> Any:
    return value


def _address(value: Any) -> Any:
    """A reference that names something; one that describes it says what was looked for."""
    return None if "?" in str(value) else value


_CODING: Mapping[str, Any] = {"system": _same, "version": _same, "code": _same}
_CONCEPT: Mapping[str, Any] = {"coding": _CODING}
_REFERENCE: Mapping[str, Any] = {"reference": _address, "type": _same}
# What of an event is references and codes, and by what it passes.
_BARE: Mapping[str, Any] = {
    "type": _CODING,
    "subtype": _CODING,
    "action": _same,
    "period": {"start": _same, "end": _same},
    "recorded": _same,
    "outcome": _same,
    "purposeOfEvent": _CONCEPT,
    "agent": {
        "type": _CONCEPT,
        "role": _CONCEPT,
        "who": _REFERENCE,
        "requestor": _same,
        "network": {"address": _same, "type": _same},
        "purposeOfUse": _CONCEPT,
    },
    "source": {"observer": _REFERENCE, "type": _CODING},
    "entity": {
        "what": _REFERENCE,
        "type": _CODING,
        "role": _CODING,
        "lifecycle": _CODING,
        "securityLabel": _CODING,
    },
}
_MASKED = {
    "extension": [
        {
            "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
            "valueCode": "masked",
        }
    ]
}


async def report(step: Step, prepared: Prepared) -> Result:
    """Append an event as it was sent, with a tag that says whose word it is."""
    sent = prepared.resource
    tags = [*sent.get("meta", {}).get("tag", ()), REPORTED]
    at, core = step.tx.now, step.core
    given = {"versionId": "1", "lastUpdated": instant(at)}
    head = f'{{"resourceType":"{EVENTS}","id":"'.encode()
    whole = _tail({"meta": {**sent.get("meta", {}), **given, "tag": tags}, **_rest(sent)})
    kept, hash = apart(whole)
    bare = bare_of(sent)
    body = b'",%s,%s' % (
        encode({"meta": {**given, "tag": [REPORTED]}})[1:-1],
        held(hash).encode() + b"," + encode(bare)[1:],
    )
    entries = entries_of(bare, core.base_url, core.definitions.types)
    recorded = parse_instant(sent["recorded"])
    id = await step.tx.record(Event(recorded, head, body, entries, kept, prepared.owner))
    return Result(
        201,
        head + id.encode() + whole,
        etag=1,
        updated=at,
        location=f"{EVENTS}/{id}/_history/1",
        touched=((EVENTS, id, None),),
        patients=(prepared.owner,) if prepared.owner else (),
    )


def bare_of(sent: Resource) -> Resource:
    """An event's references and codes."""
    made: Resource = _bare(sent, _BARE)
    source = {"observer": _MASKED, **made.get("source", {})}
    return {"type": _MASKED, **made, "source": source}


def _bare(value: Any, kept: Any) -> Any:
    """A value with what is kept of it; what is empty then is left out."""
    if isinstance(value, list):
        return [made for each in value if (made := _bare(each, kept)) not in _EMPTY]
    if callable(kept):
        return kept(value)
    made = {name: _bare(value[name], kept[name]) for name in kept if name in value}
    return {name: each for name, each in made.items() if each not in _EMPTY}


def _rest(sent: Resource) -> Resource:
    return {n: v for n, v in sent.items() if n not in ("resourceType", "id", "meta")}


def _tail(content: Resource) -> bytes:
    return b'",' + encode(content)[1:]
