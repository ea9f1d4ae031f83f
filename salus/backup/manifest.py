"""What stands in plain sight at the beginning of a backup: when it was made, and how much is in it.

https://c2sp.org/tlog-checkpoint: the size and the root of the log say which state it holds.
"""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from fhir_server.storage import archive
from fhir_server.storage.archive import Unreadable
from fhir_server.storage.store import StoreError
from fhir_server.storage.vault import Vault

MAGIC = b"Salus backup 1\n"
_PURPOSE = b"salus backup"  # what the key of a backup is wrapped for


class Manifest(Struct, frozen=True):
    """`made`: seconds since 1970; `key`: that of the file, wrapped; `tables`: rows by table;
    `leaves` and `root` of the log, the latter in base64."""

    salus: str
    made: int
    schema: int
    tables: dict[str, int]
    leaves: int
    root: str
    key: str

    @property
    def rows(self) -> int:
        return sum(self.tables.values())

    @property
    def when(self) -> str:
        return written(self.made)

    def line(self) -> bytes:
        return msgspec.json.encode(self)


def written(seconds: int) -> str:
    """A time, as people and logs read it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def wrapped(vault: Vault, key: bytes) -> str:
    return base64.b64encode(vault.wrap(key, _PURPOSE)).decode()


def unwrapped(vault: Vault, manifest: Manifest) -> bytes:
    """The key of the file. StoreError when these are not the keys that wrapped it."""
    try:
        wrapped = base64.b64decode(manifest.key)
    except ValueError:
        raise StoreError("A wrapped key is damaged") from None
    return vault.unwrap(wrapped, _PURPOSE)


def read(file: BinaryIO, path: Path) -> tuple[Manifest, bytes]:
    """The manifest of an open backup, and the line that it stands in. Unreadable."""
    try:
        line = archive.line_of(file, MAGIC)
        return msgspec.json.decode(line, type=Manifest), line
    except Unreadable as error:
        raise Unreadable(f"{path} {error}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Unreadable(f"{path} is damaged near its beginning") from None
