"""The plain meaning of the storage waist: a store in memory that scans everything, for tests and as
the oracle that every engine is held against.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cmp_to_key, partial
from typing import NamedTuple, TypeAlias, TypeVar, cast

from msgspec import structs

from fhir_server.storage.store import (
    ANY,
    EVENT_TIME,
    EVENTS,
    Conflict,
    Entry,
    Event,
    Found,
    Kept,
    Page,
    Query,
    ReferredBy,
    RefersTo,
    Sort,
    Transaction,
    Version,
    own_entries,
    satisfies,
)

T = TypeVar("T")
Key: TypeAlias = tuple[str, str]
Value: TypeAlias = str | int | float | None

# Which field of an entry a sort of each shape looks at; a link sorts by "type/id".
_SORTED_BY: dict[str, Callable[[Entry], Value]] = {
    "range": lambda entry: entry.low,
    "text": lambda entry: entry.text,
    "token": lambda entry: entry.code,
    "link": lambda entry: f"{entry.system}/{entry.code}",
}


@dataclass
class _State:
    """Everything stored. A write transaction works on a copy, which replaces it in the end."""

    versions: dict[Key, list[Version]] = field(default_factory=dict)
    entries: dict[Key, tuple[Entry, ...]] = field(default_factory=dict)
    created: dict[Key, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    records: dict[Key, Kept] = field(default_factory=dict)
    sequence: int = 0
    creations: int = 0

    def copy(self) -> _State:
        return replace(
            self,
            versions={key: list(versions) for key, versions in self.versions.items()},
            entries=dict(self.entries),
            created=dict(self.created),
            events=list(self.events),
            records=dict(self.records),
        )


class _Rank(NamedTuple):
    """The place of a resource in a search: its sort values, then its number in the order of
    creation; with its sequence and key."""

    values: tuple[Value, ...]
    number: int
    sequence: int = 0
    key: Key = ("", "")


class MemoryStore:
    """A Store that forgets everything when the process ends."""

    def __init__(self, clock: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._state = _State()
        self._turn = asyncio.Lock()
        self._clock = clock
        self._latest = 0

    async def transaction(
        self, work: Callable[[Transaction], Awaitable[T]], write: bool = False
    ) -> T:
        if not write:
            return await work(_MemoryTransaction(self._state, self._clock()))
        async with self._turn:
            self._latest = max(self._latest, self._clock())
            state = self._state.copy()
            result = await work(_MemoryTransaction(state, self._latest))
            self._state = state
            return result

    async def record(self, events: Sequence[Event]) -> None:
        async def append(tx: Transaction) -> None:
            for event in events:
                await tx.record(event)

        await self.transaction(append, write=True)

    async def close(self) -> None:
        pass

    def entries(self, version: Version) -> tuple[Entry, ...]:
        """All entries of a live resource, or of an event."""
        return _MemoryTransaction(self._state, 0).entries((version.type, version.id))


class _MemoryTransaction:
    def __init__(self, state: _State, now: int) -> None:
        self._state = state
        self.now = now

    # --- resources -------------------------------------------------------------------------------

    async def get(self, type: str, id: str, number: int | None = None) -> Version | None:
        versions = self._versions(type, id)
        if number is None:
            return versions[-1] if versions else None
        return next((each for each in versions if each.number == number), None)

    async def put(
        self, version: Version, entries: Sequence[Entry], expect: int | None = None
    ) -> Version:
        key = (version.type, version.id)
        versions = self._state.versions.setdefault(key, [])
        current = versions[-1].number if versions else 0
        if current != (version.number - 1 if expect is None else expect):
            raise Conflict(*key, current)
        if version.type == EVENTS:
            raise ValueError("events are recorded, not put")
        if version.number != current + 1 or version.updated != self.now:
            raise ValueError(f"version {version.number} cannot follow {current}")
        if key not in self._state.created:
            self._state.creations += 1
            self._state.created[key] = self._state.creations
        self._state.sequence += 1
        stamped = structs.replace(version, sequence=self._state.sequence)
        versions.append(stamped)
        self._state.entries[key] = () if version.deleted else tuple(entries)
        return stamped

    async def reindex(self, type: str, id: str, entries: Sequence[Entry]) -> None:
        if self._live((type, id)):
            self._state.entries[type, id] = tuple(entries)

    async def erase(self, owner: str) -> int:
        touched = 0
        for key, versions in list(self._state.versions.items()):
            whole = versions[-1].owner == owner
            kept = [] if whole else [each for each in versions if each.owner != owner]
            touched += len(kept) < len(versions)
            self._state.versions[key] = kept
            if not kept:
                del self._state.versions[key]
                self._state.entries.pop(key, None)
        return touched

    async def history(
        self,
        type: str | None,
        id: str | None,
        limit: int,
        before: int | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> list[Version]:
        found = [
            version
            for (of, name), versions in self._state.versions.items()
            if type in (None, of) and id in (None, name)
            for version in versions
            if (before is None or version.sequence < before)
            and (since is None or version.updated >= since)
            and (until is None or version.updated <= until)
        ]
        return sorted(found, key=lambda version: -version.sequence)[:limit]

    async def walk(self, after: int = 0) -> AsyncIterator[Version]:
        live = [versions[-1] for key, versions in self._state.versions.items() if self._live(key)]
        for version in sorted(live, key=lambda version: version.sequence):
            if version.sequence > after:
                yield version

    # --- search ----------------------------------------------------------------------------------

    async def find(self, type: str, query: Query, sort: Sequence[Sort], page: Page) -> Found:
        state = self._state
        first = (1, state.sequence, len(state.events) if type == EVENTS else state.creations)
        phase, top, last, *place = page.after or first
        ranks = sorted(
            (self._rank(key, sort) for key in self._all(type, query)),
            key=cmp_to_key(partial(_compare, sort)),
        )
        known = [rank for rank in ranks if rank.number <= cast(int, last)]
        steady = [rank for rank in known if type == EVENTS or rank.sequence <= cast(int, top)]
        changed = sorted((rank for rank in known if rank not in steady), key=lambda r: r.number)
        if phase == 2:
            steady, changed = [], [rank for rank in changed if rank.number > cast(int, place[0])]
        elif place:
            reached = _Rank(tuple(place[:-1]), cast(int, place[-1]))
            steady = [rank for rank in steady if _compare(sort, rank, reached) > 0]
        shown = [*steady, *changed][: page.limit]
        versions = tuple(self._current(rank.key) for rank in shown)
        if not shown or len(shown) == len(steady) + len(changed):
            return Found(versions, None)
        if len(shown) <= len(steady):
            return Found(versions, (1, top, last, *shown[-1].values, shown[-1].number))
        return Found(versions, (2, top, last, shown[-1].number))

    async def count(self, type: str, query: Query, bound: int | None = None) -> int:
        number = sum(1 for _ in self._all(type, query))
        return number if bound is None else min(number, bound)

    def _all(self, type: str, query: Query) -> Iterator[Key]:
        if type == EVENTS:
            keys = [(EVENTS, str(n + 1)) for n in range(len(self._state.events))]
        else:
            keys = [key for key in self._state.versions if key[0] == type and self._live(key)]
        return (key for key in keys if self._holds(key, query))

    def _holds(self, key: Key, query: Query) -> bool:
        def follow(hop: RefersTo | ReferredBy) -> bool:
            if isinstance(hop, RefersTo):
                targets = [
                    (entry.system or "", entry.code or "")
                    for entry in self.entries(key)
                    if entry.shape == "link" and entry.param == hop.param
                ]
                return any(
                    target[0] == hop.type and self._live(target) and self._holds(target, hop.query)
                    for target in targets
                )
            return any(
                (entry.shape, entry.param, entry.system, entry.code) == ("link", hop.param, *key)
                for source in self._all(hop.type, hop.query)
                for entry in self.entries(source)
            )

        return satisfies(query, self.entries(key), follow)

    def entries(self, key: Key) -> tuple[Entry, ...]:
        version = self._current(key)
        if key[0] != EVENTS:
            return self._state.entries[key] + own_entries(version)
        event = self._state.events[int(key[1]) - 1]
        time = Entry("range", EVENT_TIME, low=event.at, high=event.at)
        return (*event.entries, time, *own_entries(version))

    def _rank(self, key: Key, sort: Sequence[Sort]) -> _Rank:
        number = int(key[1]) if key[0] == EVENTS else self._state.created[key]
        values = sort_values(self.entries(key), sort)
        return _Rank(values, number, self._current(key).sequence, key)

    def _versions(self, type: str, id: str) -> list[Version]:
        if type != EVENTS:
            return self._state.versions.get((type, id), [])
        for number, event in enumerate(self._state.events, start=1):
            if id == str(number):
                body = event.head + id.encode() + event.tail
                return [Version(EVENTS, id, 1, event.at, body, sequence=number)]
        return []

    def _current(self, key: Key) -> Version:
        return self._versions(*key)[-1]

    def _live(self, key: Key) -> bool:
        versions = self._versions(*key)
        return bool(versions) and not versions[-1].deleted

    # --- events and kept records -----------------------------------------------------------------

    async def record(self, event: Event) -> str:
        self._state.events.append(event)
        return str(len(self._state.events))

    async def keep(
        self, space: str, key: str, value: bytes, expect: int = ANY, until: int | None = None
    ) -> int:
        there = await self.kept(space, key)
        revision = there.revision if there else 0
        if expect not in (ANY, revision):
            raise Conflict(space, key, revision)
        self._state.records[space, key] = Kept(key, value, revision + 1, until)
        return revision + 1

    async def kept(self, space: str, key: str) -> Kept | None:
        there = self._state.records.get((space, key))
        return there if there and (there.until is None or there.until > self.now) else None

    async def take(self, space: str, key: str) -> Kept | None:
        there = await self.kept(space, key)
        self._state.records.pop((space, key), None)
        return there

    async def range(self, space: str, low: str, high: str, limit: int = 1000) -> list[Kept]:
        names = sorted(key for of, key in self._state.records if of == space and low <= key < high)
        found = [there for name in names if (there := await self.kept(space, name))]
        return found[:limit]

    async def clear(self, space: str, low: str, high: str) -> int:
        gone = await self.range(space, low, high, len(self._state.records))
        for each in gone:
            del self._state.records[space, each.key]
        return len(gone)


def sort_values(entries: Sequence[Entry], sort: Sequence[Sort]) -> tuple[Value, ...]:
    """What a resource is sorted by: the least or the greatest value for each sort, or None."""
    values: list[Value] = []
    for each in sort:
        value = _SORTED_BY[each.shape]
        of_sort = (e for e in entries if e.shape == each.shape and e.param in each.params)
        found = [value(entry) for entry in of_sort if value(entry) is not None]
        choose = max if each.descending else min
        values.append(choose(found) if found else None)  # type: ignore[type-var]
    return tuple(values)


def _compare(sort: Sequence[Sort], a: _Rank, b: _Rank) -> int:
    """The order of two resources by their sort values and then by creation: a missing value comes
    last in both directions; equal ones are told apart in the direction of the first sort."""
    for each, x, y in zip(sort, a.values, b.values, strict=True):
        if x != y and (x is None or y is None):
            return 1 if x is None else -1
        if x != y:
            return 1 if (x > y) is not each.descending else -1  # type: ignore[operator]
    descending = bool(sort) and sort[0].descending
    return (a.number > b.number) - (a.number < b.number) if not descending else b.number - a.number
