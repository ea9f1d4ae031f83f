"""Requests of nobody known, which a flood could make by the million: each of the first few from an
address in a minute has its AuditEvent, the others are counted, and the count has one.

https://hl7.org/fhir/R4/auditevent.html, https://owasp.org/API-Security/
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, ip_address

from conformance.outcome import FhirError
from fhir_server.audit.event import NO_INTERACTION, Caller, failure
from fhir_server.interaction import Interaction
from fhir_server.storage.store import Event

SINGLE = 20  # requests from one address in a minute that have an event each
_ADDRESSES = 10_000  # that are told apart in a minute
_OTHERS = "many addresses"
_SECONDS = 60.0
_NETWORK = 64  # bits of an IPv6 address: whoever has one of them has all with these in common

_BARE = Interaction(NO_INTERACTION)


class Strangers:
    """Counts them. `record` appends events durably; `clock` gives microseconds since 1970."""

    def __init__(self, record: Callable[..., Awaitable[None]], clock: Callable[[], int]) -> None:
        self._record, self._clock = record, clock
        self._counted: dict[str, tuple[int, Caller]] = {}
        self._rest: asyncio.Task[None] | None = None

    def single(self, caller: Caller) -> bool:
        """Count a request; whether it is among those that have an event of their own."""
        address = network(caller.address)
        if address not in self._counted and len(self._counted) >= _ADDRESSES:
            address = _OTHERS
        count = self._counted.get(address, (0, caller))[0] + 1
        self._counted[address] = (count, caller._replace(address=address, request=""))
        if self._rest is None:
            self._rest = asyncio.create_task(self._minute())
        return count <= SINGLE

    async def close(self) -> None:
        """Record what was counted and not yet told."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        await self._tell()

    async def _minute(self) -> None:
        await asyncio.sleep(_SECONDS)
        self._rest = None
        try:
            await self._tell()
        except FhirError:  # the store takes nothing now
            self._rest = asyncio.create_task(self._minute())

    async def _tell(self) -> None:
        counted, self._counted = self._counted, {}
        events = [
            self._event(caller, count - SINGLE)
            for count, caller in counted.values()
            if count > SINGLE
        ]
        try:
            if events:
                await self._record(*events)
        except BaseException:  # they are told another time
            for address, (count, caller) in counted.items():
                more = self._counted.get(address, (0, caller))[0]
                self._counted[address] = (count + more, caller)
            raise

    def _event(self, caller: Caller, more: int) -> Event:
        return failure(_BARE, caller, 401, f"login: {more} more such requests", self._clock())


def network(address: str) -> str:
    """What counts as one address."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        kept = int(found) >> (128 - _NETWORK) << (128 - _NETWORK)
        return f"{IPv6Address(kept)}/{_NETWORK}"
    return address
