"""How the audit of reads reaches the disk: before the answer leaves, or as the operator decides.

https://profiles.ihe.net/ITI/TF/Volume1/ch-9.html
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Literal

from fhir_server.audit.break_glass import BreakGlass
from fhir_server.storage.store import Event, Store, StoreError, Unavailable

Mode = Literal["durable", "buffered"]

MOST_BUFFERED = 10_000  # events that are on their way; more wait

_log = logging.getLogger("salus.audit")


class Recording:
    """Appends events. `durable`: they are on disk on return. `buffered`: they are on their way, and
    a crash within that moment loses them. With `glass`, what the store cannot take now goes there,
    and from there into the store as soon as it can."""

    def __init__(
        self, store: Store, mode: Mode = "durable", glass: BreakGlass | None = None
    ) -> None:
        self._store, self._mode, self._glass = store, mode, glass
        self._under_way: set[asyncio.Task[None]] = set()
        self._buffered = 0
        self.lost = 0  # events of buffered reads that could not be recorded afterwards

    def record(self, events: Sequence[Event]) -> Awaitable[None]:
        """Unavailable when nothing may leave, since nothing can be recorded."""
        if self._mode == "durable" or self._buffered >= MOST_BUFFERED:
            return self._store.record(events) if self._glass is None else self._now(events)
        return self._buffer(events)

    async def close(self) -> None:
        """Wait for what is on its way."""
        await asyncio.gather(*self._under_way)
        if self._glass is not None:
            await self._glass.close()

    async def _buffer(self, events: Sequence[Event]) -> None:
        self._buffered += len(events)
        task = asyncio.create_task(self._later(events))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _now(self, events: Sequence[Event]) -> None:
        try:
            await self._store.record(events)
        except Unavailable:
            if self._glass is None:
                raise
            await self._glass.append(events)

    async def _later(self, events: Sequence[Event]) -> None:
        try:
            await self._now(events)
        except StoreError as error:
            self.lost += len(events)
            _log.error("The audit of %d answered reads was not recorded: %s", len(events), error)
        finally:
            self._buffered -= len(events)
