"""The plain meaning of the storage waist: a store in memory that scans everything, for tests and as
the oracle that every engine is held against.

https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cmp_to_key, partial
from typing import NamedTuple, TypeAlias, TypeVar, cast

from msgspec import structs

from fhir_server.log.merkle import WIDTH, complete_root, salted_leaf
from fhir_server.storage.leaves import SALT
from fhir_server.storage.store import (
    ANY,
    EVENT_TIME,
    EVENTS,
    Aged,
    Conflict,
    Entry,
    Event,
    Expired,
    Found,
    Gone,
    Kept,
    Logged,
    Notice,
    Page,
    Query,
    ReferredBy,
    RefersTo,
    Sort,
    Transaction,
    Unread,
    Version,
    deletion,
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

    versions: dict[Key, tuple[Version, ...]] = field(default_factory=dict)
    entries: dict[Key, tuple[Entry, ...]] = field(default_factory=dict)
    created: dict[Key, int] = field(default_factory=dict)
    events: list[Event | None] = field(default_factory=list)  # None: expired
    months: list[str] = field(default_factory=list)  # of each event, when it was recorded
    records: dict[Key, Kept] = field(default_factory=dict)
    owners: dict[Key, str | None] = field(default_factory=dict)  # of records
    leaves: list[bytes] = field(default_factory=list)
    salts: dict[int, bytes] = field(default_factory=dict)  # by leaf
    logged: list[int] = field(default_factory=list)  # the leaf of each event
    notices: list[Notice] = field(default_factory=list)
    erased: set[str] = field(default_factory=set)
    sequence: int = 0
    creations: int = 0

    def copy(self) -> _State:
        return _State(**{name: copy(value) for name, value in vars(self).items()})

    def append(self, content: bytes, salted: bool = True) -> int:
        """A leaf; its index."""
        salt = secrets.token_bytes(SALT) if salted else b""
        self.leaves.append(salted_leaf(salt, content))
        self.salts[len(self.leaves) - 1] = salt
        return len(self.leaves) - 1

    def record(self, event: Event, now: int) -> str:
        self.events.append(event)
        self.months.append(datetime.fromtimestamp(now // 1_000_000, UTC).strftime("%Y-%m"))
        id = str(len(self.events))
        self.logged.append(self.append(event.head + id.encode() + event.tail))
        return id


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
        async with self._turn:
            self._state = self._state.copy()
            for event in events:
                self._state.record(event, self._clock())

    async def expire(self, month: str, notice: Expired) -> Gone:
        async with self._turn:
            state = self._state.copy()
            gone = [n for n, of in enumerate(state.months) if of == month and state.events[n]]
            leaves = tuple(state.logged[n] for n in gone)
            for n in gone:
                state.events[n] = None
            if gone:
                content = notice(leaves, ())
                state.notices.append(Notice(state.append(content, salted=False), content))
            self._state = state
        return Gone((), leaves)

    async def close(self) -> None:
        pass

    def entries(self, version: Version) -> tuple[Entry, ...]:
        """All entries of a live resource, or of an event."""
        return _MemoryTransaction(self._state, 0).entries((version.type, version.id))


class _MemoryTransaction:
    def __init__(self, state: _State, now: int) -> None:
        self._state = state
        self.now = now

    async def get(self, type: str, id: str, number: int | None = None) -> Version | None:
        versions = self._versions(type, id)
        asked = versions[-1:] if number is None else (v for v in versions if v.number == number)
        return next(iter(asked), None)

    async def put(
        self, version: Version, entries: Sequence[Entry], expect: int | None = None
    ) -> Version:
        key = (version.type, version.id)
        versions = self._versions(*key)
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
        leaf = self._state.append(_content(version))
        stamped = structs.replace(version, sequence=self._state.sequence, leaf=leaf)
        self._state.versions[key] = (*versions, stamped)
        self._state.entries[key] = () if version.deleted else tuple(entries)
        return stamped

    async def reindex(self, type: str, id: str, entries: Sequence[Entry]) -> None:
        if self._live((type, id)):
            self._state.entries[type, id] = tuple(entries)

    async def erase(self, owner: str) -> Gone:
        state = self._state
        state.erased.add(owner)
        leaves, names = [], []
        for key, versions in [*state.versions.items()]:
            gone = versions[-1].owner == owner
            leaves += [each.leaf for each in versions if gone or each.owner == owner]
            state.versions[key] = tuple(each for each in versions if each.owner != owner)
            if gone:
                names.append(key)
                del state.versions[key], state.entries[key]
        for record in [record for record, of in state.owners.items() if of == owner]:
            del state.records[record], state.owners[record]
        self._strip({*names, cast(Key, tuple(owner.split("/", 1)))})
        return Gone(tuple(sorted(names)), tuple(sorted(leaves)))

    async def erased(self, owners: Iterable[str]) -> bool:
        return not self._state.erased.isdisjoint(owners)

    async def purge(self, type: str, id: str) -> Gone:
        versions = self._state.versions.pop((type, id), ())
        self._state.entries.pop((type, id), None)
        self._strip({(type, id)})
        return Gone(((type, id),) if versions else (), tuple(each.leaf for each in versions))

    def _strip(self, names: set[Key]) -> None:
        """Events that name these lose what they have apart."""
        for number, event in enumerate(self._state.events):
            if event is None:
                continue
            named = {(each.system, each.code) for each in event.entries if each.shape == "link"}
            if event.apart is not None and named & names:
                self._state.events[number] = event._replace(apart=None)

    async def redact(self, type: str, id: str, number: int, body: bytes) -> tuple[int, bytes]:
        versions = self._versions(type, id)
        places = [n for n, each in enumerate(versions) if each.number == number]
        if not places:
            raise LookupError(f"{type}/{id}/_history/{number}")
        (place,) = places
        made = structs.replace(versions[place], body=body)
        self._state.versions[type, id] = (*versions[:place], made, *versions[place + 1 :])
        salt = self._state.salts[made.leaf] = secrets.token_bytes(SALT)
        return made.leaf, salted_leaf(salt, body)

    async def veil(self, names: Iterable[Key]) -> int:
        absent = {name for name in names if name not in self._state.versions}
        targets = {
            (entry.system, entry.code)
            for entries in self._state.entries.values()
            for entry in entries
            if entry.shape == "link"
        }
        return len(absent & targets)

    async def strip(self, ids: Iterable[str]) -> None:
        for id in ids:
            event = self._state.events[int(id) - 1]
            if event is not None:
                self._state.events[int(id) - 1] = event._replace(apart=None)

    async def owned(self, owner: str) -> list[Key]:
        every = self._state.versions.items()
        return sorted(key for key, versions in every if versions[-1].owner == owner)

    async def aged(self, type: str, before: int, limit: int, after: int = 0) -> list[Aged]:
        newest = [each[-1] for key, each in self._state.versions.items() if key[0] == type]
        found = [v for v in newest if v.updated < before and v.sequence > after]
        found.sort(key=lambda version: version.sequence)
        return [Aged(v.type, v.id, v.owner, v.sequence) for v in found[:limit]]

    async def survey(
        self, type: str | None, id: str | None, limit: int, before: int | None = None
    ) -> list[Version | Unread]:
        return [*await self.history(type, id, limit, before)]

    async def numbered(self, sequences: Sequence[int], bodies: bool = True) -> list[Version]:
        every = {v.sequence: v for versions in self._state.versions.values() for v in versions}
        found = [every[each] for each in sequences if each in every]
        return found if bodies else [_bare(each) for each in found]

    async def whose(self, type: str, id: str) -> frozenset[str]:
        return frozenset(each.owner for each in self._versions(type, id) if each.owner)

    async def aparts(self, after: int, limit: int) -> list[tuple[int, bytes | None]]:
        recorded = enumerate(self._state.events, start=1)
        found = [(n, e.apart) for n, e in recorded if n > after and e and e.apart is not None]
        return [*found[:limit]]

    async def sealers(self) -> list[tuple[str, bytes]]:
        return []

    async def history(
        self,
        type: str | None,
        id: str | None,
        limit: int,
        before: int | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> list[Version]:
        every = (version for versions in self._state.versions.values() for version in versions)
        of_these = (v for v in every if type in (None, v.type) and id in (None, v.id))
        found = sorted(of_these, key=lambda version: -version.sequence)
        return [
            version
            for version in found
            if (since is None or version.updated >= since)
            and (until is None or version.updated <= until)
            and (before is None or version.sequence < before)
        ][:limit]

    async def walk(self, after: int = 0, type: str | None = None) -> AsyncIterator[Version]:
        every = self._state.versions.items()
        current = [versions[-1] for key, versions in every if type in (None, key[0])]
        for version in sorted(current, key=lambda version: version.sequence):
            if version.sequence > after and not version.deleted:
                yield version

    async def find(self, type: str, query: Query, sort: Sequence[Sort], page: Page) -> Found:
        state = self._state
        first = (1, state.sequence, len(state.events) if type == EVENTS else state.creations)
        phase, top, last, *place = page.after or first
        ranks = [self._rank(key, sort) for key in self._all(type, query)]
        ranks.sort(key=cmp_to_key(partial(_compare, sort)))
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
        if not page.bodies and type != EVENTS:
            versions = tuple(_bare(version) for version in versions)
        if not shown or len(shown) == len(steady) + len(changed):
            return Found(versions, None)
        place = [*shown[-1].values, shown[-1].number]
        over = len(shown) > len(steady)
        return Found(versions, (2, top, last, place[-1]) if over else (1, top, last, *place))

    async def count(self, type: str, query: Query, bound: int | None = None) -> int:
        return len(list(self._all(type, query))[:bound])

    def _all(self, type: str, query: Query) -> Iterator[Key]:
        recorded = enumerate(self._state.events, start=1)
        events = ((EVENTS, str(n)) for n, event in recorded if event is not None)
        keys = (key for key in (*self._state.versions, *events) if key[0] == type)
        return (key for key in keys if self._live(key) and self._holds(key, query))

    def _holds(self, key: Key, query: Query) -> bool:
        def follow(hop: RefersTo | ReferredBy) -> bool:
            others = self._all(hop.type, hop.query)
            if isinstance(hop, RefersTo):
                return any(other in self._targets(key, hop.param) for other in others)
            return any(key in self._targets(other, hop.param) for other in others)

        return satisfies(query, self.entries(key), follow)

    def _targets(self, key: Key, param: str) -> list[tuple[str | None, str | None]]:
        links = (entry for entry in self.entries(key) if entry.shape == "link")
        return [(entry.system, entry.code) for entry in links if entry.param == param]

    def entries(self, key: Key) -> tuple[Entry, ...]:
        version = self._current(key)
        if key[0] != EVENTS:
            return self._state.entries[key] + own_entries(version)
        event = cast(Event, self._state.events[int(key[1]) - 1])
        time = Entry("range", EVENT_TIME, low=event.at, high=event.at)
        return (*event.entries, time, *own_entries(version))

    def _rank(self, key: Key, sort: Sequence[Sort]) -> _Rank:
        number = int(key[1]) if key[0] == EVENTS else self._state.created[key]
        values = sort_values(self.entries(key), sort)
        return _Rank(values, number, self._current(key).sequence, key)

    def _versions(self, type: str, id: str) -> tuple[Version, ...]:
        if type != EVENTS:
            return self._state.versions.get((type, id), ())
        recorded = enumerate(self._state.events, start=1)
        numbered = {str(n): (n, event) for n, event in recorded if event is not None}
        if id not in numbered:
            return ()
        n, event = numbered[id]
        body = event.head + id.encode() + event.tail
        leaf = self._state.logged[n - 1]
        return (Version(EVENTS, id, 1, event.at, body, sequence=n, leaf=leaf, apart=event.apart),)

    def _current(self, key: Key) -> Version:
        return self._versions(*key)[-1]

    def _live(self, key: Key) -> bool:
        versions = self._versions(*key)
        return bool(versions) and not versions[-1].deleted

    async def record(self, event: Event) -> str:
        return self._state.record(event, self.now)

    async def logged(self, type: str, id: str, number: int | None = None) -> Logged | None:
        version = await self.get(type, id, number)
        if version is None:
            return None
        return Logged(version.leaf, self._state.salts[version.leaf], _content(version))

    async def size(self) -> int:
        return len(self._state.leaves)

    async def tile(self, level: int, number: int) -> bytes:
        hashes = self._state.leaves
        for _ in range(level):
            full = range(0, len(hashes) // WIDTH * WIDTH, WIDTH)
            hashes = [complete_root(b"".join(hashes[at : at + WIDTH])) for at in full]
        return b"".join(hashes[number * WIDTH : (number + 1) * WIDTH])

    async def note(self, content: bytes) -> int:
        leaf = self._state.append(content, salted=False)
        self._state.notices.append(Notice(leaf, content))
        return leaf

    async def notices(self, after: int = -1) -> list[Notice]:
        return [each for each in self._state.notices if each.leaf > after]

    async def keep(
        self,
        space: str,
        key: str,
        value: bytes,
        expect: int = ANY,
        until: int | None = None,
        owner: str | None = None,
    ) -> int:
        there = await self.kept(space, key)
        revision = there.revision if there else 0
        if expect not in (ANY, revision):
            raise Conflict(space, key, revision)
        self._state.records[space, key] = Kept(key, value, revision + 1, until)
        self._state.owners[space, key] = owner
        return revision + 1

    async def kept(self, space: str, key: str) -> Kept | None:
        there = self._state.records.get((space, key))
        return there if there and (there.until is None or there.until > self.now) else None

    async def take(self, space: str, key: str) -> Kept | None:
        there = await self.kept(space, key)
        self._state.records.pop((space, key), None)
        self._state.owners.pop((space, key), None)
        return there

    async def range(self, space: str, low: str, high: str, limit: int = 1000) -> list[Kept]:
        names = sorted(key for of, key in self._state.records if of == space and low <= key < high)
        found = [there for name in names if (there := await self.kept(space, name))]
        return found[:limit]

    async def clear(self, space: str, low: str, high: str) -> int:
        gone = await self.range(space, low, high, len(self._state.records))
        for each in gone:
            del self._state.records[space, each.key], self._state.owners[space, each.key]
        return len(gone)


def _bare(version: Version) -> Version:
    return structs.replace(version, body=b"", leaf=-1)


def _content(version: Version) -> bytes:
    """What a version's leaf digests."""
    if version.deleted:
        return deletion(version.type, version.id, version.number, version.updated)
    return version.body


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
