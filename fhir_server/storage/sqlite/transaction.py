"""One transaction on one connection of the SQLite engine.

https://www.sqlite.org/lang_transaction.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from fhir_server.storage.sqlite import erasure, events, log, records, resources, search
from fhir_server.storage.sqlite.readers import Patience
from fhir_server.storage.sqlite.state import Reach
from fhir_server.storage.store import (
    ANY,
    EVENTS,
    Aged,
    Entry,
    Event,
    Found,
    Gone,
    Kept,
    Logged,
    Notice,
    Page,
    Query,
    Sort,
    Version,
)


class SqliteTransaction:
    """What the work of a transaction sees. `erasing` is called before numbers are freed; a
    transaction without it only reads."""

    __slots__ = ("_erasing", "_patience", "_reach", "now")

    def __init__(
        self, reach: Reach, now: int, patience: Patience, erasing: Callable[[], None] | None
    ) -> None:
        self._reach = reach
        self._patience = patience
        self._erasing = erasing
        self.now = now

    async def get(self, type: str, id: str, number: int | None = None) -> Version | None:
        if type == EVENTS:
            return events.get(self._reach, id, number)
        return resources.get(self._reach, type, id, number)

    async def find(self, type: str, query: Query, sort: Sequence[Sort], page: Page) -> Found:
        return await self._patience.run(
            lambda: search.find(self._reach, type, query, tuple(sort), page)
        )

    async def count(self, type: str, query: Query, bound: int | None = None) -> int:
        return await self._patience.run(lambda: search.count(self._reach, type, query, bound))

    async def history(
        self,
        type: str | None,
        id: str | None,
        limit: int,
        before: int | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> list[Version]:
        return resources.history(self._reach, type, id, limit, before, since, until)

    async def put(
        self, version: Version, entries: Sequence[Entry], expect: int | None = None
    ) -> Version:
        self._check_writes()
        return resources.put(self._reach, self.now, version, entries, expect)

    async def reindex(self, type: str, id: str, entries: Sequence[Entry]) -> None:
        self._check_writes()
        resources.reindex(self._reach, type, id, entries)

    async def agrees(self, type: str, id: str, entries: Sequence[Entry]) -> bool:
        """Whether a live resource is indexed by exactly these entries."""
        return resources.agrees(self._reach, type, id, entries)

    async def erase(self, owner: str) -> Gone:
        self._frees()
        return erasure.erase(self._reach, owner)

    async def purge(self, type: str, id: str) -> Gone:
        self._frees()
        return erasure.purge(self._reach, type, id)

    async def redact(self, type: str, id: str, number: int, body: bytes) -> tuple[int, bytes]:
        self._check_writes()
        return erasure.redact(self._reach, type, id, number, body)

    async def veil(self, names: Iterable[tuple[str, str]]) -> int:
        self._frees()
        return erasure.veil(self._reach, names)

    async def owned(self, owner: str) -> list[tuple[str, str]]:
        return erasure.owned(self._reach, owner)

    async def aged(self, type: str, before: int, limit: int, after: int = 0) -> list[Aged]:
        return erasure.aged(self._reach, type, before, limit, after)

    async def sealers(self) -> list[tuple[str, bytes]]:
        return erasure.sealers(self._reach)

    async def walk(self, after: int = 0) -> AsyncIterator[Version]:
        while versions := resources.walk(self._reach, after):
            for version in versions:
                yield version
            after = versions[-1].sequence
            await asyncio.sleep(0)

    async def record(self, event: Event) -> str:
        self._check_writes()
        return events.record(self._reach, self.now, (event,))[0]

    async def logged(self, type: str, id: str, number: int | None = None) -> Logged | None:
        if type == EVENTS:
            return events.logged(self._reach, id, number)
        return resources.logged(self._reach, type, id, number)

    async def size(self) -> int:
        return log.size(self._reach, self._erasing is not None)

    async def tile(self, level: int, number: int) -> bytes:
        return log.tile(self._reach, level, number, self._erasing is not None)

    async def note(self, content: bytes) -> int:
        self._check_writes()
        return log.note(self._reach, content)

    async def notices(self, after: int = -1) -> list[Notice]:
        return log.notices(self._reach, after)

    async def keep(
        self,
        space: str,
        key: str,
        value: bytes,
        expect: int = ANY,
        until: int | None = None,
        owner: str | None = None,
    ) -> int:
        self._check_writes()
        return records.keep(self._reach, self.now, space, key, value, expect, until, owner)

    async def kept(self, space: str, key: str) -> Kept | None:
        return records.kept(self._reach, self.now, space, key)

    async def take(self, space: str, key: str) -> Kept | None:
        self._check_writes()
        return records.take(self._reach, self.now, space, key)

    async def range(self, space: str, low: str, high: str, limit: int = 1000) -> list[Kept]:
        return records.between(self._reach, self.now, space, low, high, limit)

    async def clear(self, space: str, low: str, high: str) -> int:
        self._check_writes()
        return records.clear(self._reach, self.now, space, low, high)

    def _frees(self) -> None:
        self._check_writes()
        if self._erasing:
            self._erasing()

    def _check_writes(self) -> None:
        if self._erasing is None:
            raise RuntimeError("this transaction only reads: ask for one that writes")
