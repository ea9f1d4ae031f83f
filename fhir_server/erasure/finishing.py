"""Finishing erasures: the data keys are destroyed, what others keep is rid of the erased, and the
files of what they were. Each step may be done again, so that a crash between two of them is made
good at the next start, and a copy of the data from before an erasure is rid of it too.

https://gdpr-info.eu/art-17-gdpr/, https://gdpr-info.eu/art-19-gdpr/
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from conformance.json import encode, parse
from conformance.outcome import FhirError
from fhir_server import once
from fhir_server.audit.event import Caller, events
from fhir_server.core import Core
from fhir_server.erasure import holds
from fhir_server.erasure.cut import Cut, Name
from fhir_server.erasure.months import NAMED as MONTHS
from fhir_server.erasure.months import expire
from fhir_server.erasure.patient import PATIENT, SPACE, Erasing, begin, look, waiting
from fhir_server.interaction import Interaction, Result
from fhir_server.log.tombstone import Tombstone
from fhir_server.log.tombstone import parse as tombstone
from fhir_server.prepare import prepare
from fhir_server.storage.store import (
    EVENTS,
    EVERYTHING,
    Gone,
    Page,
    Store,
    StoreError,
    Transaction,
    Version,
)
from smart_auth.grant import Grant

ERASED = "erasure"  # why a key was destroyed, as the keys remember it
EXPIRED = "expiry"
WHOLE = 64 * 1024 * 1024  # bytes of a file that is rebuilt at once; a larger one at the next start
AGAIN = "The keys of this patient were destroyed before this copy of the data was made"
BACKUP_DAYS = 30
_SALT = 16  # bytes before what an event has apart
_PAGE = 100  # versions that are opened while others wait
_REMEMBERED = 1_000  # erasures whose outcome is told again
_TICK_SECONDS = 600.0  # until what could not be finished is tried again
_SELF = Grant.operator("Salus")
_DAY = 86_400


class Destroyed(Protocol):
    @property
    def id(self) -> bytes: ...
    @property
    def why(self) -> str: ...


class Keys(Protocol):
    """The data keys, as far as erasure needs them."""

    def destroy(self, ids: Iterable[bytes], why: str) -> None: ...
    def destroyed(self) -> Iterable[Destroyed]: ...
    def backups_until(self) -> int | None: ...


class Tidied(Store, Protocol):
    """A store that can leave nothing in its files of what was removed."""

    async def tidy(self, most: int | None = None) -> bool: ...


class Done(NamedTuple):
    """What was done for one patient: resources of others that were changed, and removed, versions
    written anew in place, results of requests that were forgotten, resources that still refer to
    what is gone; whether the files were rebuilt and the write-ahead log emptied."""

    changed: int
    removed: int
    redacted: int
    results: int
    dangling: int
    tidy: bool


class Finisher:
    """Finishes what waits: `finish` on demand, `run` in the background, `resume` at the start."""

    def __init__(self, store: Tidied, core: Core, keys: Keys) -> None:
        self._store, self._core, self._keys = store, core, keys
        self._one = asyncio.Lock()
        self._done: dict[tuple[str, int], Done] = {}

    async def run(self) -> None:
        """Until cancelled: finish erasures soon after they began."""
        begun = self._core.beyond.begun
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(begun.wait(), _TICK_SECONDS)
                await asyncio.sleep(0.1)  # the transaction that began it is to be durable
            begun.clear()
            with suppress(FhirError, StoreError):  # tried again at the next tick
                await self.finish_all()

    async def finish_all(self) -> list[Done]:
        """Finish everything that waits."""
        return [await self.finish(each) for each in await self._store.transaction(waiting)]

    async def finish(self, erasing: Erasing) -> Done:
        """Finish one erasure, once; what was done. Unavailable."""
        async with self._one:
            known = self._done.get((erasing.patient, erasing.at))
            if known is None:
                known = await self._finish(erasing)
                if len(self._done) >= _REMEMBERED:
                    self._done.clear()
                self._done[erasing.patient, erasing.at] = known
            return known

    async def _finish(self, erasing: Erasing) -> Done:
        ids = [bytes.fromhex(key) for key in erasing.keys]
        await asyncio.to_thread(self._keys.destroy, ids, ERASED)
        cut = Cut(erasing.names, erasing.identifiers, self._core)
        work = _Work(self._store, self._core, cut)
        await work.all()
        await work.files(erasing.files)
        await work.queries()
        results = await once.forget(self._store, cut.touches)
        dangling = await self._close(erasing)
        tidy = await self._store.tidy(WHOLE)
        return Done(work.changed, work.removed, work.redacted, results, dangling, tidy)

    async def _close(self, erasing: Erasing) -> int:
        async def work(tx: Transaction) -> int:
            await self._core.beyond.forget(tx, [f"{type}/{id}" for type, id in erasing.names])
            left = await tx.veil(erasing.names)
            await tx.take(SPACE, erasing.patient)
            return left

        return await self._store.transaction(work, write=True)

    async def resume(self) -> int:
        """At the start: finish what was interrupted; how many erasures."""
        return len(await self.finish_all())

    def backups_end(self) -> int:
        """When the last copy of the destroyed keys ends, in seconds since 1970. Where no backup of
        the keys is known, somebody may have copied them all the same."""
        known, now = self._keys.backups_until(), self._core.clock() // 1_000_000
        return now + BACKUP_DAYS * _DAY if known is None else max(known, now)


async def redo(store: Store, keys: Keys, core: Core) -> int:
    """Before anything else is read: destroy what notices say is destroyed, and remove every record
    under a key that was destroyed, as a copy of the data from before an erasure has them; how many
    owners' that were. StoreError."""
    known = {each.id for each in keys.destroyed()}
    notices = await store.transaction(lambda tx: tx.notices())
    said = {key for each in notices if (stone := tombstone(each.content)) for key in stone.keys}
    if said - known:
        keys.destroy(said - known, ERASED)
    owners = {
        owner
        for owner, id in await store.transaction(lambda tx: tx.sealers())
        if id in {each.id for each in keys.destroyed() if each.why in (ERASED, EXPIRED)}
    }
    for owner in sorted(owners):
        if owner.startswith(f"{PATIENT}/"):
            await _begin_again(store, core, owner.partition("/")[2])
        elif owner.startswith(MONTHS):
            await expire(store, keys, owner.removeprefix(MONTHS))
    return len(owners)


async def _begin_again(store: Store, core: Core, id: str) -> None:
    async def work(tx: Transaction) -> None:
        await holds.drop(tx, id)
        await begin(tx, core.beyond, id, AGAIN, _SELF, await look(tx, id))

    await store.transaction(work, write=True)


class _Work:
    """Rids the resources of others of what is erased, and counts."""

    def __init__(self, store: Store, core: Core, cut: Cut) -> None:
        self._store, self._core, self._cut = store, core, cut
        self.changed = self.removed = self.redacted = 0

    async def all(self) -> None:
        """Look at every version there is: references stand in elements that nobody indexes. What is
        written meanwhile is looked at in a further round."""
        since = 0
        while True:
            newest, found = await self._named(since)
            for name in sorted(found):
                await self._store.transaction(lambda tx, name=name: self._rid(tx, name), write=True)  # type: ignore[misc]
            if not found:
                return
            since = newest

    async def _named(self, since: int) -> tuple[int, set[Name]]:
        """The resources of which some version beyond a sequence names what is erased."""
        before: int | None = None
        newest, found = since, set[Name]()
        while True:
            page = await self._store.transaction(
                lambda tx, before=before: tx.history(None, None, _PAGE, before)  # type: ignore[misc]
            )
            fresh = [each for each in page if each.sequence > since]
            found |= {(v.type, v.id) for v in fresh if v.body and self._cut.touches(v.body)}
            newest = max([newest, *(each.sequence for each in fresh)])
            if len(page) < _PAGE or len(fresh) < len(page):
                return newest, found
            before = page[-1].sequence
            await asyncio.sleep(0)

    async def _rid(self, tx: Transaction, name: Name) -> None:
        """Write a version without it, and redact those of before, in one transaction."""
        current = await tx.get(*name)
        if current is None:
            return
        if current.body and self._cut.touches(current.body):
            resource = parse(current.body)
            made = self._cut.without(resource)
            if made is None:
                await self._remove(tx, name)
                return
            if made is not resource:
                await self._put(tx, current, made)
        await self._redact(tx, name)

    async def _put(self, tx: Transaction, current: Version, made: dict[str, object]) -> None:
        try:
            prepared = prepare(self._core, made)
        except FhirError:  # it was not valid before either: it is only redacted
            entries = self._core.index.entries(made)
            await tx.reindex(current.type, current.id, entries)
            return
        version = prepared.version(current.id, current.number + 1, tx.now)
        await tx.put(version, prepared.entries, current.number)
        self.changed += 1
        await self._tell(tx, version, "update")

    async def _redact(self, tx: Transaction, name: Name) -> None:
        now: dict[int, bytes] = {}
        for version in await tx.history(*name, 100_000):
            if version.body and self._cut.touches(version.body):
                resource = parse(version.body)
                made = self._cut.redacted(resource)
                if made is not resource:
                    leaf, hash = await tx.redact(*name, version.number, encode(made))
                    now[leaf] = hash
        if now:
            self.redacted += len(now)
            stone = Tombstone.of("redacted", (), now, tx.now, "Something named was erased", now)
            await tx.note(stone.encode())

    async def _remove(self, tx: Transaction, name: Name) -> None:
        current = await tx.get(*name)
        gone = await tx.purge(*name)
        await self._note(tx, gone)
        self.removed += 1
        if current is not None:
            await self._tell(tx, current, "delete")

    async def _note(self, tx: Transaction, gone: Gone) -> None:
        text = "It was about nothing but what was erased"
        await tx.note(Tombstone.of("purged", (), gone.leaves, tx.now, text).encode())

    async def _tell(self, tx: Transaction, version: Version, code: str) -> None:
        """Audit a change that nobody asked for by itself."""
        asked = Interaction(code, version.type, version.id)
        caller = Caller(_SELF, "local", self._core.base_url)
        touched = ((version.type, version.id, version.number),)
        result = Result(200, touched=touched, patients=(version.owner,) if version.owner else ())
        for each in events(asked, caller, result, tx.now, self._core.limits.audit_entities):
            await tx.record(each)

    async def queries(self) -> None:
        """Remove from events what was asked for by an id or an identifier of the erased."""
        after: tuple[str | int | float | None, ...] | None = None
        while True:
            page = Page(_PAGE, after)
            found = await self._store.transaction(
                lambda tx, page=page: tx.find(EVENTS, EVERYTHING, (), page)  # type: ignore[misc]
            )
            told = [
                each.id
                for each in found.versions
                if each.apart and self._cut.asked_for(each.apart[_SALT:].decode("utf-8", "replace"))
            ]
            if told:
                await self._store.transaction(
                    lambda tx, told=told: tx.strip(told),  # type: ignore[misc]
                    write=True,
                )
            after = found.after
            if after is None:
                return
            await asyncio.sleep(0)

    async def files(self, ids: Collection[str]) -> None:
        """Remove the Binaries of the erased that nobody else names."""
        left = {("Binary", id) for id in ids}
        if not left:
            return
        others = await _Work(self._store, self._core, Cut(left, (), self._core))._mentioned()
        for name in sorted(left - others):
            await self._store.transaction(lambda tx, name=name: self._file(tx, name), write=True)  # type: ignore[misc]

    async def _file(self, tx: Transaction, name: Name) -> None:
        current = await tx.get(*name)
        if current is not None and current.owner is None:
            await self._remove(tx, name)

    async def _mentioned(self) -> set[Name]:
        """Which of the names current versions of others have."""
        found: set[Name] = set()
        before: int | None = None
        while True:
            page = await self._store.transaction(
                lambda tx, before=before: tx.history(None, None, _PAGE, before)  # type: ignore[misc]
            )
            for each in page:
                found |= self._cut.named_in(each.body) - {(each.type, each.id)}
            if len(page) < _PAGE:
                return found
            before = page[-1].sequence
            await asyncio.sleep(0)


def day(seconds: int) -> str:
    """A date for people."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
