"""AuditEvents of other systems: appended like our own, and marked as what the caller says.

https://hl7.org/fhir/R4/auditevent.html
"""

from __future__ import annotations

from typing import Any

from conformance.json import encode
from fhir_server.core import Step
from fhir_server.interaction import Result
from fhir_server.prepare import Prepared
from fhir_server.storage.store import EVENTS, Event
from fhir_server.times import instant, parse_instant

REPORTED = {
    "system": "urn:salus:audit",
    "code": "reported",
    "display": "Reported by the caller, not observed by this server",
}
KEYS = frozenset({"agent", "entity"})  # the params of an event that the store indexes


async def report(step: Step, prepared: Prepared) -> Result:
    """Append an event as it was sent, with a tag that says whose word it is."""
    meta = dict(prepared.resource.get("meta", {}))
    tags = [*meta.get("tag", ()), REPORTED]
    at = step.tx.now
    stamped = {**meta, "versionId": "1", "lastUpdated": instant(at), "tag": tags}
    head, tail = _halves(prepared.resource, stamped)
    entries = tuple(e for e in prepared.entries if e.shape == "link" and e.param in KEYS)
    recorded = parse_instant(prepared.resource["recorded"])
    id = await step.tx.record(Event(recorded, head, tail, entries))
    return Result(
        201,
        head + id.encode() + tail,
        etag=1,
        updated=at,
        location=f"{EVENTS}/{id}/_history/1",
        touched=((EVENTS, id, None),),
        patients=(prepared.owner,) if prepared.owner else (),
    )


def _halves(resource: dict[str, Any], meta: dict[str, Any]) -> tuple[bytes, bytes]:
    rest = {n: v for n, v in resource.items() if n not in ("resourceType", "id", "meta")}
    head = f'{{"resourceType":"{EVENTS}","id":"'.encode()
    return head, b'",' + encode({"meta": meta, **rest})[1:]
