"""`salus restore`: a data folder from a backup, without what was erased since, indexed and proven.

https://www.rfc-editor.org/rfc/rfc9162#section-2.1, https://gdpr-info.eu/art-17-gdpr/
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from conformance import definitions
from conformance.json import parse
from fhir_server.audit.links import entries_of
from fhir_server.audit.proven import Report
from fhir_server.audit.verify import verify
from fhir_server.erasure.finishing import ERASED, EXPIRED, Finisher, redo
from fhir_server.erasure.patient import PATIENT
from fhir_server.log.tombstone import Kind, Tombstone
from fhir_server.search.index import Index
from fhir_server.storage import archive
from fhir_server.storage.archive import Unreadable
from fhir_server.storage.sqlite import SqliteStore, log
from fhir_server.storage.sqlite.copying import Copy, Row
from fhir_server.storage.sqlite.proving import Reading
from fhir_server.storage.sqlite.restoring import Held, Removed, Restoring
from fhir_server.storage.sqlite.schema import VERSION
from fhir_server.storage.store import Entry, StoreError, Unavailable
from fhir_server.storage.vault import Vault
from salus.app import _core
from salus.backup import manifest
from salus.backup.continuing import continued, signed
from salus.backup.erased import Newer, newer, obeyed, spans, tombstones
from salus.backup.folder import making
from salus.backup.keyring import Keyring, keyring
from salus.backup.manifest import MAGIC, Manifest
from salus.happenings import event
from salus.operator.backups import RESTORE, told
from salus.problem import Problem
from salus.program import called
from salus.settings import Settings

T = TypeVar("T")
# What is done, how far it is, and the end of it.
Progress = Callable[[str, int, int], object]

GROWTH = 4  # times the size of a backup that its folder may take while it is made
SPARE = 64 << 20  # bytes besides, for the write-ahead log
_COMMIT_ROWS = 20_000
# Why a key was destroyed that a notice of some kind names, as the keys remember it.
_WHY: dict[Kind, str] = {
    "erased": ERASED,
    "expired": EXPIRED,
    "purged": ERASED,
    "redacted": ERASED,
}
_BASIS = "Destroyed before a backup was restored that still had it"


class Restored(NamedTuple):
    """What a restore did. `resources` and `events` that are there; `removed` since their keys were
    destroyed or a newer log says so, of `patients` who have nothing any more; what is proven, which
    checkpoints are false, and the new name of the log, where it got one."""

    manifest: Manifest
    resources: int
    events: int
    removed: Held
    patients: int
    log_of: Newer | None
    report: Report
    false: tuple[str, ...]
    name: str | None

    @property
    def well(self) -> bool:
        return self.report.well and not self.false


def restore(settings: Settings, backup: Path, log_of: Path | None, progress: Progress) -> Restored:
    """Make the data folder of the settings from a backup. Problem, StoreError, OSError: then there
    is nothing in the folder, as before."""
    if not backup.is_file():
        raise Problem(f"There is no backup {backup}: name the file that `{called()} backup` wrote")
    with backup.open("rb") as file:
        about, line = manifest.read(file, backup)
        if about.schema > VERSION:
            raise Problem(
                f"{backup} was made by a newer Salus ({about.salus}; schema {about.schema}, this "
                f"one knows {VERSION}): restore it with that version"
            )
        with keyring(settings) as keys:
            key = _key(keys, about, settings)
            found = None if log_of is None else newer(log_of.expanduser().resolve(), keys, about)
            _has_room(settings.data, backup)
            with making(settings.data, keys.provider) as pages:
                made = _Restore(settings, keys, pages, about, found, progress)
                return made.run(_records(file, line, key, backup))


def _key(keys: Keyring, about: Manifest, settings: Settings) -> bytes:
    try:
        return manifest.unwrapped(keys.vault, about)
    except Unavailable:
        raise
    except StoreError:
        raise Problem(
            f"The keys in {settings.keys} are not those of this backup: name the right folder with "
            f"--keys, or restore the key backup that was made at {about.when} or next after "
            f"it (`{called()} keys restore`)"
        ) from None


def _has_room(data: Path, backup: Path) -> None:
    place = next(each for each in (data, *data.parents) if each.exists())
    free, needed = shutil.disk_usage(place).free, backup.stat().st_size * GROWTH + SPARE
    if free < needed:
        raise Problem(
            f"Restoring takes about {needed:,} bytes, but {place} has {free:,} free: free some "
            "space there, or name another place with --data"
        )


def _records(file: BinaryIO, line: bytes, key: bytes, path: Path) -> Iterator[bytes]:
    try:
        yield from archive.records(file, MAGIC, line, key)
    except Unreadable as error:
        raise Unreadable(f"{path} {error}: take another backup") from None


class _Restore:
    """One restore into a folder that was begun."""

    def __init__(
        self,
        settings: Settings,
        keys: Keyring,
        pages: bytes,
        about: Manifest,
        found: Newer | None,
        progress: Progress,
    ) -> None:
        self._settings, self._keys, self._pages = settings, keys, pages
        self._about, self._newer = about, found
        self._progress = progress
        self._index = Index(definitions.load(), settings.fhir_base, settings.zone)
        self._core = _core(settings, self._index, pages)
        self._gone: tuple[set[str], Removed] = set(), Removed((), (), ())

    def run(self, records: Iterator[bytes]) -> Restored:
        data, about = self._settings.data, self._about
        with closing(Restoring(data, self._pages, self._settings.cipher)) as store:
            self._fill(store, records)
            store.open(self._keys.vault)
            before = store.held(about.leaves)
            patients = self._erased(store)
        asyncio.run(self._in_store(lambda store: redo(store, self._keys.vault, self._core)))
        with closing(Restoring(data, self._pages)) as store:
            store.open(self._keys.vault)
            self._remove(store)
            resources, events = self._index_all(store)
            after = store.held(about.leaves)
        name = asyncio.run(self._in_store(self._continue))
        report, false = self._prove()
        removed = Held(*(had - has for had, has in zip(before, after, strict=True)))
        return Restored(
            about, resources, events, removed, patients, self._newer, report, false, name
        )

    async def _in_store(self, work: Callable[[SqliteStore], Awaitable[T]]) -> T:
        """What is done with the store as the server opens it."""
        data, vault, version = self._settings.data, self._keys.vault, self._index.version
        store = await SqliteStore.open(data, self._pages, vault, extraction=version)
        try:
            return await work(store)
        finally:
            await store.close()

    async def _continue(self, store: SqliteStore) -> str | None:
        """Tell the audit, finish the erasures that were begun again, and settle the log's name."""
        vault = self._keys.vault
        said = told(RESTORE, f"a backup of {self._about.when}")
        site = urlsplit(self._settings.base_url).netloc
        await store.record([event(said, site, self._core.clock())])
        await Finisher(store, self._core, vault).finish_all()
        return await continued(store, self._settings, vault)

    # --- rows ----------------------------------------------------------------------------------

    def _fill(self, store: Restoring, records: Iterator[bytes]) -> None:
        """Copy all rows; whether the file is whole is known at its end."""
        copy = msgspec.msgpack.decode(next(records), type=Copy)
        store.begin(copy)
        decode = msgspec.msgpack.Decoder(tuple[int, list[Row]]).decode
        done = 0
        for record in records:
            number, rows = decode(record)
            store.fill(copy.tables[number], rows)
            before, done = done, done + len(rows)
            if before // _COMMIT_ROWS != done // _COMMIT_ROWS:
                store.commit()
            self._progress("copying", done, self._about.rows)
        store.fill_end(copy)

    # --- erasure -------------------------------------------------------------------------------

    def _erased(self, store: Restoring) -> int:
        """Destroy the keys that a log says are destroyed, and put in place what was written anew
        since; how many patients have no key any more."""
        vault, found = self._keys.vault, self._newer or Newer()
        living = {id for (id,) in store.conn.execute("SELECT id FROM sealing")}

        async def tile(level: int, number: int) -> bytes:
            return log.tile(store.reach, level, number, writes=False)

        _destroy(vault, [*obeyed(store.notices(), tile, living), *found.tombstones])
        store.replace(found.blobs, found.sealing)
        gone = [each.id for each in vault.destroyed()]
        return len([each for each in store.owners_of(gone) if each.startswith(f"{PATIENT}/")])

    def _remove(self, store: Restoring) -> None:
        """Remove what no erasure of a patient took along, as what was purged for itself, and say in
        the log what has no word there yet."""
        vault, found = self._keys.vault, self._newer or Newer()
        gone = {each.id for each in vault.destroyed()}
        used = store.sealed_under().keys() & gone
        owners = {each for each in store.owners_of(gone) if "/" in each}
        removed = store.remove(gone, spans(found.tombstones))
        named = spans([*tombstones(store.notices()), *found.tombstones])
        said = {leaf for first, last in named for leaf in range(first, last + 1)}
        at = time.time_ns() // 1000
        kinds: tuple[tuple[Kind, Sequence[int]], ...]
        kinds = ("erased", removed.versions), ("expired", removed.events)
        more = [
            Tombstone.of(kind, sorted(used), left, at, _BASIS)
            for kind, leaves in kinds
            if (left := [leaf for leaf in leaves if leaf not in said])
        ]
        store.note([each.encode() for each in (*found.tombstones, *more)] + [self._said(at)])
        self._have_keys(store)
        self._gone = owners, removed

    def _said(self, at: int) -> bytes:
        """The notice that the log goes on from an older state."""
        return msgspec.json.encode(
            {
                "kind": "restored",
                "at": manifest.written(at // 1_000_000),
                "backup": self._about.when,
                "leaves": self._about.leaves,
            }
        )

    def _have_keys(self, store: Restoring) -> None:
        """Problem where what is left is sealed under keys that are not there."""
        missing, records = 0, 0
        for id, number in store.sealed_under().items():
            try:
                self._keys.vault.cipher(id)
            except Unavailable:
                raise
            except StoreError:
                missing, records = missing + 1, records + number
        if missing:
            raise Problem(
                f"{records:,} records of this backup are sealed under {missing:,} keys that are "
                f"not in {self._settings.keys}, and that nobody destroyed: these keys are older "
                f"than the backup. Restore the key backup that was made at {self._about.when} or "
                f"next after it (`{called()} keys restore`), then run the same command again"
            )

    # --- entries and proof -----------------------------------------------------------------------

    def _index_all(self, store: Restoring) -> tuple[int, int]:
        index, tables = self._index, self._about.tables
        base, types = index.base_url, index.definitions.types

        def of_resource(body: bytes) -> Sequence[Entry]:
            return index.entries(parse(body))

        def of_event(body: bytes) -> Sequence[Entry]:
            return entries_of(parse(body), base, types)

        def progress(what: str, total: int) -> Callable[[int], object]:
            return lambda done: self._progress(what, done, total)

        resources = store.index(of_resource, progress("indexing resources", tables["resource"]))
        events = store.index_events(of_event, progress("indexing events", tables["event"]))
        owners, removed = self._gone
        store.forget(owners, removed.names)
        store.indexed(index.version)
        if owners or removed.names or removed.events:
            store.rebuild()
        return resources, events

    def _prove(self) -> tuple[Report, tuple[str, ...]]:
        """Hold every record to the log, and that to what was signed and to what was backed up."""
        vault = self._keys.vault
        with closing(Reading(self._settings.data, self._pages, vault)) as reading:
            states, false = signed(reading, self._about)
            total = reading.count()

            def progress(done: int) -> None:
                self._progress("proving", done, total)

            destroyed = {each.id for each in vault.destroyed()}
            return verify(reading, states, destroyed, progress=progress), tuple(false)


def _destroy(vault: Vault, found: Sequence[Tombstone]) -> None:
    """Destroy what a log says is destroyed: these keys may be from a backup too."""
    known = {each.id for each in vault.destroyed()}
    for each in found:
        if left := [key for key in each.keys if key not in known]:
            vault.destroy(left, _WHY[each.kind])
