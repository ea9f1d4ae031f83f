"""Audit events end by month: all that were recorded in one go together, and then its key.

https://gdpr-info.eu/art-5-gdpr/ (e: storage limitation), 45 CFR 164.316(b)(2)(i): six years
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from fhir_server.log.tombstone import Tombstone
from fhir_server.storage.store import Store
from fhir_server.times import now

NAMED = "audit/"  # begins the owner of a month's events
UNDATED = "before"  # a month of its own
_WHY = "expiry"
_BASIS = "The time for which audit events are kept is over"


class Keys(Protocol):
    def destroy(self, ids: Iterable[bytes], why: str) -> None: ...


class Ended(NamedTuple):
    """A month, and how many events it had."""

    month: str
    events: int


async def months(store: Store) -> list[str]:
    """The months of which there are events, "2026-11", the oldest first; "before" are those that
    an older version recorded."""
    sealers = await store.transaction(lambda tx: tx.sealers())
    found = {owner.removeprefix(NAMED) for owner, _ in sealers if owner.startswith(NAMED)}
    return sorted(found, key=lambda month: (month != UNDATED, month))


async def expire_before(store: Store, keys: Keys, before: str) -> list[Ended]:
    """End every month before one, which is never the running one. Unavailable."""
    running = datetime.fromtimestamp(now() // 1_000_000, UTC).strftime("%Y-%m")
    known = await months(store)
    over = [each for each in known if each < min(before, running)]
    if over and UNDATED in known:  # what was recorded before there were months is older still
        over.insert(0, UNDATED)
    return [await expire(store, keys, each) for each in over]


async def expire(store: Store, keys: Keys, month: str) -> Ended:
    """End a month: its events go in small transactions, each with its notice, then the key."""

    def notice(leaves: Sequence[int], ids: Sequence[bytes]) -> bytes:
        return Tombstone.of("expired", ids, leaves, now(), _BASIS).encode()

    gone = await store.expire(month, notice)
    await asyncio.to_thread(keys.destroy, gone.keys, _WHY)
    return Ended(month, len(gone.leaves))


def cutoff(years: int, at: int) -> str:
    """The month before which events are over; `at`: microseconds since 1970."""
    day = datetime.fromtimestamp(at // 1_000_000, UTC)
    return f"{day.year - years}-{day.month:02}"
