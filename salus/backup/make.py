"""`salus backup`: one state of the store as a file, while its server goes on, or without it.

https://www.sqlite.org/isolation.html
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from fhir_server.log import merkle
from fhir_server.storage.archive import Writer
from fhir_server.storage.keys import page_key
from fhir_server.storage.sqlite.copying import Snapshot
from salus.backup.keyring import Keyring, keyring
from salus.backup.manifest import MAGIC, Manifest, wrapped
from salus.operator.running import needs_data
from salus.problem import Problem
from salus.settings import Settings

PARTIAL = ".partial"  # ends the name of a backup that is not whole
_SPARE = 16 << 20  # bytes that stay free beside a backup


class Made(NamedTuple):
    """A backup that is whole: its file, what it says of itself, its bytes and its SHA-256."""

    file: Path
    manifest: Manifest
    size: int
    digest: bytes


def backup(settings: Settings, to: Path, progress: Callable[[int, int], object]) -> Made:
    """Write a backup to a file that is not there yet, or to one of today's time in a folder.
    `progress` hears how many rows of how many are written. Problem, StoreError, OSError."""
    needs_data(settings)
    made = int(time.time())
    file = destination(settings, to, made)
    with keyring(settings) as keys:
        pages = page_key(settings.data, keys.provider)
        with closing(Snapshot(settings.data, pages)) as snapshot:
            _has_room(file.parent, snapshot)
            with _partial(file) as out:
                manifest, digest = _write(out, snapshot, keys, made, progress)
    return Made(file, manifest, file.stat().st_size, digest)


def destination(settings: Settings, to: Path, made: int) -> Path:
    """The file to write. Problem when it is there, or would lie with the data or its keys."""
    file = to.expanduser().resolve()
    if file.is_dir():
        file /= time.strftime("salus-%Y-%m-%dT%H%M%SZ.backup", time.gmtime(made))
    for what, folder in (("data", settings.data), ("keys", settings.keys)):
        if file.is_relative_to(folder):
            raise Problem(
                f"{file} would lie in the folder of the {what}, and be lost with it: name a place "
                "on another disk"
            )
    if file.exists():
        raise Problem(f"{file} is there already, and no backup is overwritten: name another file")
    if not file.parent.is_dir():
        raise Problem(f"{file.parent} is no folder: make it, or name another place")
    return file


def _has_room(folder: Path, snapshot: Snapshot) -> None:
    free, needed = shutil.disk_usage(folder).free, snapshot.volume() + _SPARE
    if free < needed:
        raise Problem(
            f"The backup takes up to {needed:,} bytes, but {folder} has {free:,} free: free some "
            "space there, or name another place"
        )


def _write(
    out: BinaryIO,
    snapshot: Snapshot,
    keys: Keyring,
    made: int,
    progress: Callable[[int, int], object],
) -> tuple[Manifest, bytes]:
    copy, size = snapshot.copy(), snapshot.size()
    key = secrets.token_bytes(32)
    manifest = Manifest(
        salus=version("salus-fhir"),
        made=made,
        schema=copy.schema,
        tables={each.name: each.rows for each in copy.tables},
        leaves=size,
        root=base64.b64encode(asyncio.run(merkle.root(size, snapshot.tile))).decode(),
        key=wrapped(keys.vault, key),
    )
    writer = Writer(out, MAGIC, manifest.line(), key)
    encode = msgspec.msgpack.Encoder().encode
    writer.add(encode(copy))
    done = 0
    for number, table in enumerate(copy.tables):
        for rows in snapshot.rows(table):
            writer.add(encode((number, rows)))
            done += len(rows)
            progress(done, manifest.rows)
    return manifest, writer.finish()


@contextmanager
def _partial(file: Path) -> Iterator[BinaryIO]:
    """A file beside it that becomes it when all is on disk, and goes away otherwise."""
    partial = file.with_name(file.name + PARTIAL)
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Problem(f"{partial} is being written by another backup: wait for it") from None
        try:
            out.truncate()
            yield out
            out.flush()
            os.fsync(out.fileno())
            if file.exists():
                raise Problem(f"{file} was made by somebody else meanwhile: name another file")
            partial.rename(file)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise
    synced(file.parent)


def synced(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
