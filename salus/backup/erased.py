"""What was erased since a backup was made: told by the destroyed keys, and by the log of a newer
data folder where there is one.

https://gdpr-info.eu/art-17-gdpr/
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from fhir_server.log import merkle, tombstone
from fhir_server.log.tombstone import Tombstone
from fhir_server.storage.keys import PAGE_KEY, page_key
from fhir_server.storage.sqlite.copying import Snapshot
from fhir_server.storage.sqlite.schema import FILE
from fhir_server.storage.store import Notice
from salus.backup.keyring import Keyring
from salus.backup.manifest import Manifest
from salus.problem import Problem

_GONE = frozenset({"erased", "expired", "purged"})


@dataclass(frozen=True, slots=True)
class Newer:
    """What the log says that went on after the backup. `tombstones` are of leaves that the backup
    has; `blobs` are the records that were written anew in place, by leaf, and `sealing` whose keys
    they lie under; `leaves`: how long the log is."""

    leaves: int = 0
    tombstones: tuple[Tombstone, ...] = ()
    blobs: Mapping[int, bytes] = field(default_factory=dict)
    sealing: tuple[tuple[str, bytes], ...] = ()


def newer(folder: Path, keys: Keyring, manifest: Manifest) -> Newer:
    """Read the log of a newer data folder. Problem when it is not what the backup's log became."""
    if not ((folder / FILE).is_file() and (folder / PAGE_KEY).is_file()):
        raise Problem(f"There is no data in {folder}: name another folder with --log-of")
    with closing(Snapshot(folder, page_key(folder, keys.provider))) as snapshot:
        size, before = snapshot.size(), manifest.leaves
        if size < before or _root(snapshot, before) != manifest.root:
            raise Problem(
                f"The log of {folder} does not go on where the one in the backup ends: it is of "
                "other data, or of older. Name the newer folder of the same data with --log-of"
            )
        living = {id for _, id in snapshot.sealing()}
        found = obeyed(snapshot.notices(before), snapshot.tile, living)
        clipped = [made for each in found if (made := _clipped(each, before)) is not None]
        blobs = snapshot.blobs(now(clipped).keys())
        used = {blob[:8] for blob in blobs.values()}
        sealing = tuple(each for each in snapshot.sealing() if each[1] in used)
        return Newer(size, tuple(clipped), blobs, sealing)


def tombstones(notices: Iterable[Notice]) -> list[Tombstone]:
    return [found for each in notices if (found := tombstone.parse(each.content)) is not None]


def obeyed(
    notices: Iterable[Notice], tile: merkle.Tile, living: Collection[bytes]
) -> list[Tombstone]:
    """The tombstones that the log has, by its tiles: a row that is no leaf of it is nobody's word.
    Keys that are listed as somebody's, `living`, are none that an erasure has ended."""

    async def has(notice: Notice) -> bool:
        number, place = divmod(notice.leaf, merkle.WIDTH)
        hashes = await tile(0, number)
        at = place * merkle.HASH
        return hashes[at : at + merkle.HASH] == merkle.salted_leaf(b"", notice.content)

    async def all() -> list[Notice]:
        return [each for each in notices if await has(each)]

    return [
        replace(each, keys=tuple([key for key in each.keys if key not in living]))
        for each in tombstones(asyncio.run(all()))
    ]


def now(found: Iterable[Tombstone]) -> dict[int, bytes]:
    """The hashes that leaves would have now whose records were written anew; the newest counts."""
    return {leaf: hash for each in found for leaf, hash in each.now.items()}


def spans(found: Iterable[Tombstone]) -> list[tuple[int, int]]:
    """The leaves that have no record any more, as ranges that do not overlap."""
    leaves = (
        leaf
        for each in found
        if each.kind in _GONE
        for first, last in each.leaves
        for leaf in range(first, last + 1)
    )
    return list(tombstone.ranges(leaves))


def _clipped(found: Tombstone, size: int) -> Tombstone | None:
    """What a tombstone says of the first leaves of the log."""
    leaves = tuple((first, min(last, size - 1)) for first, last in found.leaves if first < size)
    kept = {leaf: hash for leaf, hash in found.now.items() if leaf < size}
    return replace(found, leaves=leaves, now=kept) if leaves or found.keys else None


def _root(snapshot: Snapshot, size: int) -> str:
    return base64.b64encode(asyncio.run(merkle.root(size, snapshot.tile))).decode()
