"""A data folder in the making: empty before, refused by every command until it is whole.

Its wrapped page key waits in a folder of its own and moves to its place last
(https://man7.org/linux/man-pages/man2/rename.2.html): until then nothing here can be opened.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from fhir_server.storage.keys import PAGE_KEY, KeyProvider, page_key
from fhir_server.storage.sqlite.folder import LOCK, Lock
from fhir_server.storage.sqlite.schema import CIPHER, FILE
from salus.backup.make import synced
from salus.operator.running import holder
from salus.problem import Problem
from salus.program import called

UNFINISHED = "restore.unfinished"  # a folder in the data folder, while it is restored
_OURS = frozenset({UNFINISHED, LOCK, CIPHER, FILE, f"{FILE}-wal", f"{FILE}-shm"})


def refuse_unfinished(data: Path) -> None:
    """Problem where a restore into a folder was interrupted."""
    if (data / UNFINISHED).is_dir() and not (data / PAGE_KEY).exists():
        raise Problem(
            f"A restore into {data} was not finished, so there is nothing in it to use: run the "
            f"same `{called()} restore` again, it begins anew"
        )


@contextmanager
def making(data: Path, keys: KeyProvider) -> Iterator[bytes]:
    """The key of the pages of a new folder; whole when this ends well, else as it was before.
    Problem when there is something in it that is not left of an interrupted restore, StoreError."""
    keys.keep_apart(data)
    there = data.exists()
    key, lock = _begin(data, keys)
    try:
        with closing(lock):
            yield key
            (data / UNFINISHED / PAGE_KEY).rename(data / PAGE_KEY)
            synced(data)
    except BaseException:
        with suppress(OSError):
            _clear(data)
            if not there:
                data.rmdir()
        raise
    shutil.rmtree(data / UNFINISHED)


def _begin(data: Path, keys: KeyProvider) -> tuple[bytes, Lock]:
    if found := holder(data) or holder(data / UNFINISHED):
        raise Problem(f"{data} is in use by {found}: restore into an empty folder")
    _clear(data)
    (data / UNFINISHED).mkdir(parents=True, mode=0o700)
    lock = Lock(data / UNFINISHED)
    try:
        key = page_key(data / UNFINISHED, keys)
        synced(data)
    except BaseException:
        lock.close()
        raise
    return key, lock


def _clear(data: Path) -> None:
    names = {each.name for each in data.iterdir()} if data.exists() else set()
    if not names:
        return
    if not (UNFINISHED in names <= _OURS):
        raise Problem(
            f"{data} is not empty, and nothing is overwritten: name another folder with --data"
        )
    # The marker goes last: what is interrupted here too is still known for what it is.
    for name in sorted(names - {UNFINISHED}):
        (data / name).unlink()
    shutil.rmtree(data / UNFINISHED)
