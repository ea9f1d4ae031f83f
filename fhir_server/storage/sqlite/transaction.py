"""One transaction on one connection of the SQLite engine.

https://www.sqlite.org/lang_transaction.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from fhir_server.storage.sqlite import erasure, events, log, records, resources, search, survey
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
    Unread,
    Version,
)


class Moved(Exception):
    """What was read from memory may not be what the database holds by now: read again."""


class SqliteTransaction:
    """What the work of a transaction sees. `erasing` is called before numbers are freed; a
    transaction without it only reads, and begins in the database with the first question that
    memory cannot answer. Moved when a commit came in between."""

    __slots__ = ("_erasing", "_lazy", "_patience", "_reach", "_seen", "now")

    def __init__(
        self,
        reach: Reach,
        now: int,
        patience: Patience,
        erasing: Callable[[], None] | None = None,
    ) -> None:
        self._reach = reach
        self._patience = patience
        self._erasing = erasing
        self._lazy = erasing is None
        self._seen = -1  # `moved` when something was read
        self.now = now

    def begin(self) -> None:
        """Look at one state of the database from here on."""
        self._look()
        self._lazy = False
        self._reach.conn.execute("BEGIN")

    def _look(self) -> None:
        moved = self._reach.shared.current.moved
        if self._seen not in (-1, moved):
            raise Moved
        self._seen = moved

    def _at(self) -> Reach:
        if self._lazy:
            self.begin()
        return self._reach

    def _whole(self) -> Reach:
        """With the rows and events that wait, for whoever may look at them."""
        shared = self._reach.shared
        if self._erasing is not None and (shared.waiting or shared.deferred):
            events.settle(self._reach, self.now)
        return self._at()

    async def get(self, type: str, id: str, number: int | None = None) -> Version | None:
        if type == EVENTS:
            return events.get(self._whole(), id, number)
        if number is not None:
            return resources.get(self._at(), type, id, number)
        if self._erasing is not None:  # what it, or another of its batch, wrote is not in memory
            known = self._reach.shared.current.get((type, id))
            return known or resources.get(self._reach, type, id)
        if self._lazy:
            self._look()
            known = self._reach.shared.current.get((type, id))
            if known is not None:
                return known
        return resources.get_current(self._at(), type, id, self._seen)

    async def find(self, type: str, query: Query, sort: Sequence[Sort], page: Page) -> Found:
        reach = self._whole()
        found = await self._patience.run(lambda: search.find(reach, type, query, tuple(sort), page))
        if reach.fresh:  # here, since a long search ran beside whoever writes
            fresh, reach.fresh = reach.fresh, []
            reach.shared.current.add_page(fresh, self._seen)
        return found

    async def count(self, type: str, query: Query, bound: int | None = None) -> int:
        reach = self._whole()
        return await self._patience.run(lambda: search.count(reach, type, query, bound))

    async def history(
        self,
        type: str | None,
        id: str | None,
        limit: int,
        before: int | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> list[Version]:
        return resources.history(self._whole(), type, id, limit, before, since, until)

    async def put(
        self, version: Version, entries: Sequence[Entry], expect: int | None = None
    ) -> Version:
        self._check_writes()
        return resources.put(self._at(), self.now, version, entries, expect)

    async def reindex(self, type: str, id: str, entries: Sequence[Entry]) -> None:
        self._check_writes()
        resources.reindex(self._at(), type, id, entries)

    async def agrees(self, type: str, id: str, entries: Sequence[Entry]) -> bool:
        """Whether a live resource is indexed by exactly these entries."""
        return resources.agrees(self._whole(), type, id, entries)

    async def erase(self, owner: str) -> Gone:
        self._frees()
        return erasure.erase(self._whole(), owner)

    async def erased(self, owners: Iterable[str]) -> bool:
        return erasure.erased(self._at(), owners)

    async def purge(self, type: str, id: str) -> Gone:
        self._frees()
        return erasure.purge(self._whole(), type, id)

    async def redact(self, type: str, id: str, number: int, body: bytes) -> tuple[int, bytes]:
        self._check_writes()
        return erasure.redact(self._whole(), type, id, number, body)

    async def veil(self, names: Iterable[tuple[str, str]]) -> int:
        self._frees()
        return erasure.veil(self._whole(), names)

    async def strip(self, ids: Iterable[str]) -> None:
        self._check_writes()
        erasure.strip(self._reach, ids)

    async def owned(self, owner: str) -> list[tuple[str, str]]:
        return erasure.owned(self._whole(), owner)

    async def aged(self, type: str, before: int, limit: int, after: int = 0) -> list[Aged]:
        return erasure.aged(self._whole(), type, before, limit, after)

    async def survey(
        self, type: str | None, id: str | None, limit: int, before: int | None = None
    ) -> list[Version | Unread]:
        return survey.survey(self._whole(), type, id, limit, before)

    async def numbered(self, sequences: Sequence[int], bodies: bool = True) -> list[Version]:
        return survey.numbered(self._whole(), sequences, bodies)

    async def whose(self, type: str, id: str) -> frozenset[str]:
        return survey.whose(self._whole(), type, id)

    async def aparts(self, after: int, limit: int) -> list[tuple[int, bytes | None]]:
        return survey.aparts(self._whole(), after, limit)

    async def sealers(self) -> list[tuple[str, bytes]]:
        return erasure.sealers(self._whole())

    async def walk(self, after: int = 0, type: str | None = None) -> AsyncIterator[Version]:
        while versions := resources.walk(self._whole(), after, type):
            for version in versions:
                yield version
            after = versions[-1].sequence
            await asyncio.sleep(0)

    async def record(self, event: Event) -> str:
        self._check_writes()
        return events.defer(self._reach.shared, event)

    async def logged(self, type: str, id: str, number: int | None = None) -> Logged | None:
        if type == EVENTS:
            return events.logged(self._whole(), id, number)
        return resources.logged(self._whole(), type, id, number)

    async def size(self) -> int:
        return log.size(self._whole(), self._erasing is not None)

    async def tile(self, level: int, number: int) -> bytes:
        return log.tile(self._whole(), level, number, self._erasing is not None)

    async def note(self, content: bytes) -> int:
        self._check_writes()
        return log.note(self._whole(), content)

    async def notices(self, after: int = -1) -> list[Notice]:
        return log.notices(self._whole(), after)

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
        return records.keep(self._at(), self.now, space, key, value, expect, until, owner)

    async def kept(self, space: str, key: str) -> Kept | None:
        return records.kept(self._at(), self.now, space, key)

    async def take(self, space: str, key: str) -> Kept | None:
        self._check_writes()
        return records.take(self._at(), self.now, space, key)

    async def range(self, space: str, low: str, high: str, limit: int = 1000) -> list[Kept]:
        return records.between(self._at(), self.now, space, low, high, limit)

    async def clear(self, space: str, low: str, high: str) -> int:
        self._check_writes()
        return records.clear(self._at(), self.now, space, low, high)

    def _frees(self) -> None:
        self._check_writes()
        if self._erasing:
            self._erasing()

    def _check_writes(self) -> None:
        if self._erasing is None:
            raise RuntimeError("this transaction only reads: ask for one that writes")
