"""Retention: what nobody needs any longer goes without being asked for, by type and by age.

The age of a resource is that of its newest version (`lastUpdated`), a deletion included, so that
what is still worked with stays. https://gdpr-info.eu/art-5-gdpr/ (e: storage limitation)
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from conformance.json import encode, parse
from fhir_server import spool
from fhir_server.audit.balp import CUSTODIAN
from fhir_server.audit.event import SUCCESS, role
from fhir_server.erasure import holds
from fhir_server.erasure.patient import LIFECYCLE
from fhir_server.erasure.rules import Rule
from fhir_server.log.tombstone import Tombstone
from fhir_server.storage.store import EVENTS, Aged, Event, Store, Transaction, Version
from fhir_server.times import instant

_DAY = 86_400_000_000  # microseconds
_PAGE = 500
_AT_ONCE = 20  # resources that go in one transaction
_PAUSE_SECONDS = 0.01  # between two of them, for others to write
_BASIS = "The time for which records of this type are kept is over"


class Purged(NamedTuple):
    """How many resources of a type were removed, and how many stay for a legal hold."""

    type: str
    resources: int
    held: int


async def apply(store: Store, rules: Sequence[Rule], now: int) -> list[Purged]:
    """Remove what is over; `now`: microseconds since 1970. Unavailable."""
    return [done for rule in rules if (done := await _apply(store, rule, now)) is not None]


async def _apply(store: Store, rule: Rule, now: int) -> Purged | None:
    before, after, count, held = now - rule.days * _DAY, 0, 0, 0
    while True:
        page = await store.transaction(
            lambda tx, after=after: tx.aged(rule.type, before, _PAGE, after)  # type: ignore[misc]
        )
        for start in range(0, len(page), _AT_ONCE):
            part = page[start : start + _AT_ONCE]
            gone, kept = await store.transaction(
                lambda tx, part=part: _purge(tx, part),  # type: ignore[misc]
                write=True,
            )
            count, held = count + gone, held + kept
            await asyncio.sleep(_PAUSE_SECONDS)
        if len(page) < _PAGE:
            break
        after = page[-1].sequence
    if count == 0:
        return None
    await store.record([_event(rule, count, now)])
    return Purged(rule.type, count, held)


async def _purge(tx: Transaction, part: Sequence[Aged]) -> tuple[int, int]:
    """Remove those that nobody has written since, and say so in the log; how many, and how many
    stay since a version of theirs is on hold."""
    leaves: list[int] = []
    count = held = 0
    owners = await holds.owners(tx)
    for each in part:
        (now,) = await tx.survey(each.type, each.id, 1) or (None,)
        if now is None or now.sequence != each.sequence:
            continue
        if await holds.forbidden(tx, (each.type, each.id), owners):
            held += 1
            continue
        if each.type == "Binary":
            await _forget_pieces(tx, each)
        gone = await tx.purge(each.type, each.id)
        leaves += gone.leaves
        count += 1
    if leaves:
        await tx.note(Tombstone.of("purged", (), leaves, tx.now, _BASIS).encode())
    return count, held


async def _forget_pieces(tx: Transaction, each: Aged) -> None:
    for version in await tx.survey(each.type, each.id, 1_000):
        body = version.body if isinstance(version, Version) else b""
        found = spool.spooled_in(parse(body)) if body else None
        if found is not None and found.name:
            await spool.remove(tx, found.name)


def _event(rule: Rule, count: int, at: int) -> Event:
    """What a run removed of one type."""
    stamp = instant(at)
    resources = "http://hl7.org/fhir/resource-types"
    body = {
        "meta": {"versionId": "1", "lastUpdated": stamp},
        "type": {"system": LIFECYCLE, "code": "destroy"},
        "action": "D",
        "recorded": stamp,
        "outcome": SUCCESS,
        "outcomeDesc": f"{count} removed, older than {rule.days} days",
        "agent": [
            {"type": role(CUSTODIAN), "who": {"display": "Salus retention"}, "requestor": True}
        ],
        "source": {"observer": {"display": "Salus"}},
        "entity": [{"type": {"system": resources, "code": rule.type}, "name": rule.type}],
    }
    head = f'{{"resourceType":"{EVENTS}","id":"'.encode()
    return Event(at, head, b'",' + encode(body)[1:], ())
