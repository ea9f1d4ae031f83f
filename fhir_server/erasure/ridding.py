"""Ridding what others keep of the erased: their resources, old versions, and what events say that
was asked for. What cannot be opened is passed by and counted, and what a legal hold is on stays.

https://gdpr-info.eu/art-17-gdpr/, https://gdpr-info.eu/art-19-gdpr/
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

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
_VERSIONS = 100_000  # of one resource


class Work:
    """Rids the resources of others of what is erased, and counts."""

    def __init__(self, store: Store, core: Core, cut: Cut) -> None:
        self._store, self._core, self._cut = store, core, cut
        self.changed = self.removed = self.redacted = self.unread = 0
        self.left: set[Name] = set()  # as it was, for a legal hold

    async def all(self) -> None:
        """Look at every version there is: references stand in elements that nobody indexes. What is
        written meanwhile is looked at in a further round."""
        since = 0
        while True:
            newest, found = await self._named(since)
            found -= self.left
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
                lambda tx, before=before: tx.survey(None, None, _PAGE, before)  # type: ignore[misc]
            )
            fresh = [each for each in page if each.sequence > since]
            self.unread += sum(isinstance(each, Unread) for each in fresh)
            found |= {(v.type, v.id) for v in fresh if self._touched(v)}
            newest = max([newest, *(each.sequence for each in fresh)])
            if len(page) < _PAGE or len(fresh) < len(page):
                return newest, found
            before = page[-1].sequence
            await asyncio.sleep(0)

    def _touched(self, version: Version | Unread) -> bool:
        if isinstance(version, Unread):
            return False
        return bool(version.body) and self._cut.touches(version.body)

    async def _rid(self, tx: Transaction, name: Name) -> None:
        """Write a version without it, and redact those of before, in one transaction."""
        if await holds.forbidden(tx, name, await holds.owners(tx)):
            self.left.add(name)
            return
        (current,) = await tx.survey(*name, 1) or (None,)
        if isinstance(current, Version) and self._touched(current):
            resource = parse(current.body)
            made = self._cut.without(resource)
            if made is None:
                await self._remove(tx, name, current)
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
        for version in await tx.survey(*name, _VERSIONS):
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
        """Remove the Binaries of the erased that nobody else names."""
        left = {("Binary", id) for id in ids}
        if not left:
            return
        others = await Work(self._store, self._core, Cut(left, (), self._core))._mentioned()
        for name in sorted(left - others):
            await self._store.transaction(lambda tx, name=name: self._file(tx, name), write=True)  # type: ignore[misc]

    async def _file(self, tx: Transaction, name: Name) -> None:
        (current,) = await tx.survey(*name, 1) or (None,)
        if not isinstance(current, Version) or current.owner is not None:
            return
        if await holds.forbidden(tx, name, await holds.owners(tx)):
            self.left.add(name)
            return
        await self._remove(tx, name, current)

    async def _mentioned(self) -> set[Name]:
        """Which of the names current versions of others have."""
        found: set[Name] = set()
        before: int | None = None
        while True:
            page = await self._store.transaction(
                lambda tx, before=before: tx.survey(None, None, _PAGE, before)  # type: ignore[misc]
            )
            for each in page:
                if isinstance(each, Version):
                    found |= self._cut.named_in(each.body) - {(each.type, each.id)}
            if len(page) < _PAGE:
                return found
            before = page[-1].sequence
            await asyncio.sleep(0)
