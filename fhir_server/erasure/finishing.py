"""Finishing erasures: the data keys are destroyed, what others keep is rid of the erased, and the
files of what they were. Each step may be done again, so that a crash between two of them is made
good at the next start, and a copy of the data from before an erasure is rid of it too.

https://gdpr-info.eu/art-17-gdpr/, https://gdpr-info.eu/art-19-gdpr/
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from fhir_server import once
from fhir_server.core import Core
from fhir_server.erasure import holds
from fhir_server.erasure.cut import Cut
from fhir_server.erasure.months import NAMED as MONTHS
from fhir_server.erasure.months import expire
from fhir_server.erasure.patient import PATIENT, SPACE, Erasing, look, remove, waiting
from fhir_server.erasure.ridding import SELF, Work
from fhir_server.erasure.subjects import Name, sole
from fhir_server.log.merkle import HASH, WIDTH, salted_leaf
from fhir_server.log.tombstone import parse as tombstone
from fhir_server.storage.store import (
    Store,
    Transaction,
)

ERASED = "erasure"  # why a key was destroyed, as the keys remember it
EXPIRED = "expiry"
WHOLE = 64 * 1024 * 1024  # bytes of a file that is rebuilt at once; a larger one at the next start
AGAIN = "The keys of this patient were destroyed before this copy of the data was made"
BACKUP_DAYS = 30
_REMEMBERED = 1_000  # erasures whose outcome is told again
_TICK_SECONDS = 600.0  # until what could not be finished is tried again
_DAY = 86_400
_ENDING = frozenset({"erased", "expired"})
_log = logging.getLogger("salus.erasure")


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
    what is gone; whether the files were rebuilt and the write-ahead log emptied; how many versions
    and parts of events could not be looked at since they cannot be opened; resources that are as
    they were because of a legal hold."""

    changed: int
    removed: int
    redacted: int
    results: int
    dangling: int
    tidy: bool
    unread: int = 0
    left: int = 0

    def after(self, before: Done | None) -> Done:
        """All that was done, where an earlier time had to leave something as it was."""
        if before is None:
            return self
        return self._replace(
            changed=before.changed + self.changed,
            removed=before.removed + self.removed,
            redacted=before.redacted + self.redacted,
            results=before.results + self.results,
        )


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
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_SECONDS):
                        await begun.wait()
                begun.clear()
                await self.finish_all()
            except Exception as error:  # the next tick tries again
                tell("erasure", error)

    async def finish_all(self) -> list[Done]:
        """Finish everything that waits, but for what a legal hold still keeps."""
        await self._store.transaction(_nothing, write=True)  # what began it is durable after that
        self._core.beyond.durable()
        found = await self._store.transaction(_workable)
        done, failed = list[Done](), list[Exception]()
        for each in found:
            try:
                done.append(await self.finish(each))
            except Exception as error:  # the others need not wait for this one
                failed.append(error)
        if failed:
            raise failed[0]
        return done

    async def finish(self, erasing: Erasing) -> Done:
        """Finish one erasure, once; what was done. Unavailable."""
        async with self._one:
            known = self._done.get((erasing.patient, erasing.at))
            if known is None or known.left:
                known = (await self._finish(erasing)).after(known)
                if len(self._done) >= _REMEMBERED:
                    self._done.clear()
                self._done[erasing.patient, erasing.at] = known
            return known

    async def _finish(self, erasing: Erasing) -> Done:
        self._core.beyond.durable()
        ids = [bytes.fromhex(key) for key in erasing.keys]
        await asyncio.to_thread(self._keys.destroy, ids, ERASED)
        identifiers = await self._store.transaction(
            lambda tx: sole(tx, self._core, erasing.identifiers, erasing.patient)
        )
        cut = Cut(erasing.names, identifiers, self._core, erasing.words)
        work = Work(self._store, self._core, cut)
        await work.all()
        await work.files(erasing.files)
        await work.queries()
        results = await once.forget(self._store, cut.touches)
        left = sorted(work.left)
        dangling = await self._close(erasing, left, work.names)
        tidy = await self._store.tidy(WHOLE)
        if work.unread:
            _log.warning("An erasure is done but for %d records that are damaged", work.unread)
        return Done(
            work.changed,
            work.removed,
            work.redacted,
            results,
            dangling,
            tidy,
            work.unread,
            len(left),
        )

    async def _close(self, erasing: Erasing, left: list[Name], names: Collection[Name]) -> int:
        async def work(tx: Transaction) -> int:
            await self._core.beyond.forget(tx, [f"{type}/{id}" for type, id in names])
            dangling = await tx.veil(names)
            if left:
                rest = msgspec.structs.replace(erasing, left=left)
                await tx.keep(SPACE, erasing.patient, msgspec.json.encode(rest))
            else:
                await tx.take(SPACE, erasing.patient)
            return dangling

        dangling = await self._store.transaction(work, write=True)
        self._core.beyond.durable()
        return dangling

    async def resume(self) -> int:
        """At the start: finish what was interrupted; how many erasures."""
        return len(await self.finish_all())

    def backups_end(self) -> int:
        """When the last copy of the destroyed keys ends, in seconds since 1970. Where no backup of
        the keys is known, somebody may have copied them all the same."""
        known, now = self._keys.backups_until(), self._core.clock() // 1_000_000
        return now + BACKUP_DAYS * _DAY if known is None else max(known, now)


async def _nothing(_: Transaction) -> None:
    """A write that waits for those before it."""


async def _workable(tx: Transaction) -> list[Erasing]:
    """The erasures at which something can be done: those that wait for a legal hold can not as long
    as it forbids all that they wait for."""
    found, owners = await waiting(tx), frozenset[str]()
    if any(each.left for each in found):
        owners = await holds.owners(tx)

    async def kept(each: Erasing) -> bool:
        return bool(each.left) and all(
            [await holds.forbidden(tx, name, owners) for name in each.left]
        )

    return [each for each in found if not await kept(each)]


def tell(what: str, error: Exception) -> None:
    """Log what went wrong in the background, by its places in the code only, since its text could
    hold patient data."""
    places = [
        f"{Path(each.filename).name}:{each.lineno}"
        for each in traceback.extract_tb(error.__traceback__)
    ]
    kind = type(error).__name__
    _log.error("%s: %s at %s; it is tried again later", what, kind, ", ".join(places))


async def redo(store: Store, keys: Keys, core: Core) -> int:
    """Before anything else is read: destroy what notices say is destroyed, and remove every record
    under a key that was destroyed, as a copy of the data from before an erasure has them; how many
    owners' that were. StoreError."""
    known = {each.id for each in keys.destroyed()}
    if said := await store.transaction(_said) - known:
        keys.destroy(said, ERASED)
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


async def _said(tx: Transaction) -> set[bytes]:
    """The keys that notices say are destroyed. A row that is not what the log has is no notice, and
    one that names keys under which something is sealed says what is not so: they are not obeyed."""
    said = set[bytes]()
    for each in await tx.notices():
        stone = tombstone(each.content)
        if stone is None or not stone.keys or stone.kind not in _ENDING:
            continue
        number, place = divmod(each.leaf, WIDTH)
        hashes = await tx.tile(0, number)
        if hashes[place * HASH : place * HASH + HASH] == salted_leaf(b"", each.content):
            said.update(stone.keys)
        else:
            _log.error("Notice %d is not in the log: run `salus audit verify`", each.leaf)
    if living := said.intersection([id for _, id in await tx.sealers()]):
        text = "Notices name %d data keys that are in use: run `salus audit verify`"
        _log.error(text, len(living))
    return said - living


async def _begin_again(store: Store, core: Core, id: str) -> None:
    async def work(tx: Transaction) -> None:
        await holds.drop(tx, id)
        await remove(tx, core.beyond, id, AGAIN, SELF, await look(tx, core, id))

    await store.transaction(work, write=True)


def day(seconds: int) -> str:
    """A date for people."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
