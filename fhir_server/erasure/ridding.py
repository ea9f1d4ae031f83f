"""Ridding what others keep of the erased: their resources, old versions, and what events say that
was asked for. What cannot be opened is passed by and counted, and what a legal hold is on stays.

https://gdpr-info.eu/art-17-gdpr/, https://gdpr-info.eu/art-19-gdpr/
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

from conformance.json import encode, parse
from conformance.outcome import FhirError
from fhir_server.audit.event import Caller, events
from fhir_server.core import Core
from fhir_server.erasure import holds
from fhir_server.erasure.cut import Cut
from fhir_server.erasure.subjects import Name
from fhir_server.interaction import Interaction, Result
from fhir_server.log.tombstone import Tombstone
from fhir_server.prepare import prepare
from fhir_server.storage.store import Gone, Store, Transaction, Unread, Version
from smart_auth.grant import Grant

SELF = Grant.operator("Salus")
_SALT = 16  # bytes before what an event has apart
_PAGE = 100  # versions that are opened while others wait
VERSIONS = 100_000  # of one resource
# What others refer to by ids that say nothing, and hardly ever: no further look is worth it.
BESIDE = frozenset({"Provenance", "Binary"})


class Work:
    """Rids the resources of others of what is erased, and counts."""

    def __init__(self, store: Store, core: Core, cut: Cut) -> None:
        self._store, self._core, self._cut = store, core, cut
        self.changed = self.removed = self.redacted = self.unread = 0
        self.left: set[Name] = set()  # as it was, for a legal hold
        self._gone: set[Name] = set()  # removed, and looked for by nobody yet

    @property
    def names(self) -> Collection[Name]:
        """What is no more, what was removed on the way included."""
        return self._cut.names

    async def all(self) -> None:
        """Look at every version there is: references stand in elements that nobody indexes. What is
        written meanwhile is looked at in a further round."""
        since = 0
        while True:
            newest, found = await self._named(since)
            found -= self.left
            for name in sorted(found):
                await self._store.transaction(lambda tx, name=name: self._rid(tx, name), write=True)  # type: ignore[misc]
            if self._gone:  # what others say of these is anywhere
                self._cut, newest = self._cut.extended(self._gone), 0
                self._gone, self.unread = set(), 0
            elif not found:
                return
            since = newest

    async def _named(self, since: int) -> tuple[int, set[Name]]:
        """The resources of which some version beyond a sequence names what is erased."""
        newest, found = since, set[Name]()
        async for each in versions(self._store, since):
            newest = max(newest, each.sequence)
            if isinstance(each, Unread):
                self.unread += 1
            elif self._touched(each):
                found.add((each.type, each.id))
        return newest, found

    def _touched(self, version: Version | Unread) -> bool:
        if isinstance(version, Unread):
            return False
        return bool(version.body) and self._cut.touches(version.body)

    async def _rid(self, tx: Transaction, name: Name) -> None:
        """Write a version without it, and redact those of before, in one transaction."""
        if await holds.forbidden(tx, name, await holds.owners(tx)):
            self.left.add(name)
            return
        past = await tx.survey(*name, 2)  # a deletion says nothing of what it was about
        last = next((each for each in past if isinstance(each, Version) and each.body), None)
        if last is not None and self._touched(last):
            resource = parse(last.body)
            made = self._cut.without(resource)
            if made is None:
                await self._remove(tx, name, last)
                return
            if made is not resource and last is past[0]:
                await self._put(tx, last, made)
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
        for version in await tx.survey(*name, VERSIONS):
            if isinstance(version, Version) and self._touched(version):
                resource = parse(version.body)
                made = self._cut.redacted(resource)
                if made is not resource:
                    leaf, hash = await tx.redact(*name, version.number, encode(made))
                    now[leaf] = hash
        if now:
            self.redacted += len(now)
            stone = Tombstone.of("redacted", (), now, tx.now, "Something named was erased", now)
            await tx.note(stone.encode())

    async def _remove(self, tx: Transaction, name: Name, current: Version) -> None:
        gone = await tx.purge(*name)
        await self._note(tx, gone)
        self.removed += 1
        if name[0] not in BESIDE:
            self._gone.add(name)
        await self._tell(tx, current, "delete")

    async def _note(self, tx: Transaction, gone: Gone) -> None:
        text = "It was about nothing but what was erased"
        await tx.note(Tombstone.of("purged", (), gone.leaves, tx.now, text).encode())

    async def _tell(self, tx: Transaction, version: Version, code: str) -> None:
        """Audit a change that nobody asked for by itself."""
        asked = Interaction(code, version.type, version.id)
        caller = Caller(SELF, "local", self._core.base_url)
        touched = ((version.type, version.id, version.number),)
        result = Result(200, touched=touched, patients=(version.owner,) if version.owner else ())
        for each in events(asked, caller, result, tx.now, self._core.limits.audit_entities):
            await tx.record(each)

    async def queries(self) -> None:
        """Remove from events what was asked for by an id, an identifier or a name of the erased."""
        after = 0
        while True:
            page = await self._store.transaction(
                lambda tx, after=after: tx.aparts(after, _PAGE)  # type: ignore[misc]
            )
            self.unread += sum(apart is None for _, apart in page)
            told = [str(n) for n, apart in page if apart and self._asked_for(apart)]
            if told:
                await self._store.transaction(
                    lambda tx, told=told: tx.strip(told),  # type: ignore[misc]
                    write=True,
                )
            if len(page) < _PAGE:
                return
            after = page[-1][0]
            await asyncio.sleep(0)

    def _asked_for(self, apart: bytes) -> bool:
        return self._cut.asked_for(apart[_SALT:].decode("utf-8", "replace"))

    async def files(self, ids: Collection[str]) -> None:
        """Remove the Binaries of the erased that nobody else names, nor ever did."""
        for name in await unmentioned(self._store, self._core, ids):
            await self._store.transaction(lambda tx, name=name: self._file(tx, name), write=True)  # type: ignore[misc]

    async def _file(self, tx: Transaction, name: Name) -> None:
        current = await disposable(tx, name)
        if current is None:
            return
        if await holds.forbidden(tx, name, await holds.owners(tx)):
            self.left.add(name)
            return
        await self._remove(tx, name, current)


async def disposable(tx: Transaction, name: Name) -> Version | None:
    """A Binary that was never anybody's, written under nothing: it is of whoever names it."""
    (current,) = await tx.survey(*name, 1) or (None,)
    if not isinstance(current, Version) or not current.body or await tx.whose(*name):
        return None
    return None if "securityContext" in parse(current.body) else current


async def unmentioned(
    store: Store, core: Core, ids: Collection[str], but: Collection[Name] = ()
) -> list[Name]:
    """Those of these Binaries that no version of anything names, `but` of these; none when some
    version cannot be opened, which may."""
    left = {("Binary", id) for id in ids}
    cut = Cut(left, (), core)
    if not left:
        return []
    async for each in versions(store):
        if isinstance(each, Unread):
            return []
        if (each.type, each.id) not in but:
            left -= cut.named_in(each.body) - {(each.type, each.id)}
    return sorted(left)


async def versions(store: Store, beyond: int = 0) -> AsyncIterator[Version | Unread]:
    """Every version whose sequence is beyond one, the newest first, while others go on."""
    before: int | None = None
    while True:
        page = await store.transaction(
            lambda tx, before=before: tx.survey(None, None, _PAGE, before)  # type: ignore[misc]
        )
        for each in page:
            if each.sequence <= beyond:
                return
            yield each
        if len(page) < _PAGE:
            return
        before = page[-1].sequence
        await asyncio.sleep(0)
