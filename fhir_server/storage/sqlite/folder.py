"""The data folder: one process at a time has it.

https://man7.org/linux/man-pages/man2/fcntl_locking.2.html
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from fhir_server.storage.store import StoreError

LOCK = "salus.lock"

_held: set[Path] = set()  # by this process: fcntl does not refuse a process its own locks


class Lock:
    """Holds a folder until it is closed or the process ends. StoreError names who has it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        try:
            self._file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{folder} cannot be written: {error.strerror}") from None
        try:
            if self._folder in _held:
                raise BlockingIOError
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._file, 200, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise StoreError(
                f"{folder} is in use by {holder or 'another process'}: stop that, "
                "or use another folder"
            ) from None
        _held.add(self._folder)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def close(self) -> None:
        if self._folder in _held:
            _held.discard(self._folder)
            os.close(self._file)
