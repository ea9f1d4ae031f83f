"""File systems for tests: one writes down what is written and synced, and can forget what was not.

The page cipher lies above them: a store is opened with the VFS `multipleciphers-` + their name.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import apsw


class Disk(apsw.VFS):
    """A real folder whose writes are recorded. `log` has ("write" or "sync", file name) in order;
    `unsynced` how many writes of a file no sync has followed yet."""

    _made: list[Disk] = []  # for ever: the cipher's VFS above one keeps pointing at it

    def __init__(self, name: str) -> None:
        super().__init__(name, "unix")
        self._made.append(self)
        self.name = f"multipleciphers-{name}"
        self.log: list[tuple[str, str]] = []
        self.unsynced: dict[str, int] = {}
        self.durable: dict[str, bytes] = {}
        self.lock = threading.Lock()

    def xOpen(self, name, flags):
        return _File(self, name, flags)

    def xDelete(self, path, sync):
        super().xDelete(path, sync)
        with self.lock:
            self.durable.pop(Path(path).name, None)
            self.unsynced.pop(Path(path).name, None)

    def wrote(self, path: Path) -> None:
        with self.lock:
            self.log.append(("write", path.name))
            self.unsynced[path.name] = self.unsynced.get(path.name, 0) + 1

    def synced(self, path: Path) -> None:
        with self.lock:
            self.log.append(("sync", path.name))
            self.unsynced[path.name] = 0
            self.durable[path.name] = path.read_bytes()

    def after_power_cut(self, folder: Path) -> None:
        """Make a folder with what a disk holds that kept only what was synced."""
        folder.mkdir()
        for name, content in self.durable.items():
            (folder / name).write_bytes(content)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name, flags) -> None:
        self.disk = disk
        self.path = Path(name.filename() if hasattr(name, "filename") else name)
        super().__init__("unix", name, flags)

    def xWrite(self, data, offset):
        super().xWrite(data, offset)
        self.disk.wrote(self.path)

    def xTruncate(self, size):
        super().xTruncate(size)
        self.disk.wrote(self.path)

    def xSync(self, flags):
        super().xSync(flags)
        self.disk.synced(self.path)


def name() -> str:
    """A name that no other VFS of this process has."""
    return f"disk{os.urandom(4).hex()}"
