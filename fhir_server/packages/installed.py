"""Installed packages among the kept records: pieces, and one record that makes them a package.

https://hl7.org/fhir/packages.html

Pieces belong to an upload, which is pending until that record is written, in one transaction with
the end of what it replaces: a package is there whole or not at all. What is left of an upload that
never ended is removed at the next start.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from functools import partial

import msgspec

from conformance.packages import Package
from fhir_server.spool import PIECE
from fhir_server.storage.store import Store, Transaction

MOST = 500  # packages
PIECES = 8_192  # of one package

_INDEX = "package"
_PIECES = "package-piece"
_PENDING = "package-upload"
_LAST = "\x7f"
_UPLOAD = re.compile(r"[0-9a-f]{32}", re.ASCII)


class Entry(msgspec.Struct, frozen=True):
    """A package that is installed. `at`: microseconds since 1970."""

    name: str
    version: str
    digest: str
    upload: str
    pieces: int
    size: int
    at: int

    @property
    def label(self) -> str:
        """name#version"""
        return f"{self.name}#{self.version}"


_ENTRY = msgspec.json.Decoder(Entry)


def new_upload() -> str:
    """A name for the pieces of one package."""
    return secrets.token_hex(16)


def is_upload(name: str) -> bool:
    """Whether a name is one that `new_upload` gives."""
    return _UPLOAD.fullmatch(name) is not None


def in_pieces(data: bytes) -> Iterator[bytes]:
    """The data of a package, as it is kept."""
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


async def write_piece(tx: Transaction, upload: str, number: int, data: bytes) -> None:
    """Keep a piece of an upload, which begins with number 0."""
    if number == 0:
        await tx.keep(_PENDING, upload, b"")
    await tx.keep(_PIECES, f"{upload}/{number:08}", data)


async def read_pieces(tx: Transaction, upload: str, pieces: int) -> bytes | None:
    """The data of an upload; None where one of its pieces is not there."""
    found = []
    for number in range(pieces):
        kept = await tx.kept(_PIECES, f"{upload}/{number:08}")
        if kept is None:
            return None
        found.append(kept.value)
    return b"".join(found)


async def read_data(store: Store, entry: Entry) -> bytes:
    """The data of an installed package; empty where its pieces are gone."""
    read = partial(read_pieces, upload=entry.upload, pieces=entry.pieces)
    return await store.transaction(read) or b""


async def commit(tx: Transaction, package: Package, upload: str, pieces: int) -> None:
    """Make the pieces of an upload an installed package, in the place of the one with the same
    name and version."""
    await remove(tx, package.label)
    await tx.take(_PENDING, upload)
    entry = Entry(
        package.name,
        package.version,
        package.digest,
        upload,
        pieces,
        len(package.data),
        tx.now,
    )
    await tx.keep(_INDEX, package.label, msgspec.json.encode(entry))


async def remove(tx: Transaction, label: str) -> bool:
    """Remove an installed package; whether it was there."""
    kept = await tx.take(_INDEX, label)
    if kept is None:
        return False
    await _clear(tx, _ENTRY.decode(kept.value).upload)
    return True


async def entries(tx: Transaction) -> list[Entry]:
    """What is installed, by name and version."""
    return [_ENTRY.decode(each.value) for each in await tx.range(_INDEX, "", _LAST, MOST)]


async def forget(tx: Transaction, upload: str) -> None:
    """Remove an upload that did not become a package."""
    if await tx.take(_PENDING, upload) is not None:
        await _clear(tx, upload)


async def sweep(tx: Transaction) -> int:
    """Remove what is left of uploads that never ended; how many."""
    pending = await tx.range(_PENDING, "", _LAST)
    for each in pending:
        await forget(tx, each.key)
    return len(pending)


async def _clear(tx: Transaction, upload: str) -> None:
    await tx.clear(_PIECES, f"{upload}/", f"{upload}0")
