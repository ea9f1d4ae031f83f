"""A file that is written once, from its beginning to its end, and that nobody without its key can
read, change, cut or lengthen unseen.

The STREAM of https://c2sp.org/age: pieces of one size under AES-256-GCM and a key that is used for
nothing else; the nonce counts them and marks the last. Before them stands a line of JSON in plain
sight, to which every piece is bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.storage.store import StoreError

PIECE = 1 << 20  # bytes of a piece before it is sealed
_TAG = 16
_LENGTH = 4  # bytes that say how long a record is
_LINE = 1 << 20  # bytes that the line in plain sight may have


class Unreadable(StoreError):
    """The file is not whole, not as it was written, or not of this kind."""


class Writer:
    """Writes records one after the other; without `finish` the file is nothing."""

    def __init__(self, file: BinaryIO, magic: bytes, line: bytes, key: bytes) -> None:
        self._file, self._cipher = file, AESGCM(key)
        self._digest = sha256()
        self._waiting = bytearray()
        self._count = 0
        self._bound = sha256(magic + line).digest()
        self.written = 0
        self._put(magic + line + b"\n")

    def add(self, record: bytes) -> None:
        self._waiting += len(record).to_bytes(_LENGTH, "big")
        self._waiting += record
        # The last piece is told apart by its nonce, so one that is full waits for what follows.
        while len(self._waiting) > PIECE:
            self._seal(bytes(self._waiting[:PIECE]), last=False)
            del self._waiting[:PIECE]

    def finish(self) -> bytes:
        """Write the end; the SHA-256 of the whole file."""
        self._seal(bytes(self._waiting), last=True)
        return self._digest.digest()

    def _seal(self, piece: bytes, last: bool) -> None:
        nonce = _nonce(self._count, last)
        self._count += 1
        self._put(self._cipher.encrypt(nonce, piece, self._bound))

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.written += len(data)


def line_of(file: BinaryIO, magic: bytes) -> bytes:
    """The line in plain sight of a file that begins with `magic`. Unreadable."""
    if file.read(len(magic)) != magic:
        raise Unreadable("is not a backup that this version of Salus can read")
    line = file.readline(_LINE)
    if not line.endswith(b"\n"):
        raise Unreadable("is cut off near its beginning")
    return line[:-1]


def records(file: BinaryIO, magic: bytes, line: bytes, key: bytes) -> Iterator[bytes]:
    """The records of a file from where `line_of` left it. Unreadable, at the first piece that is
    not as it was written, and at the end when that is missing."""
    waiting = bytearray()
    for piece in _pieces(file, AESGCM(key), sha256(magic + line).digest()):
        waiting += piece
        at = 0
        while len(waiting) - at >= _LENGTH:
            start = at + _LENGTH
            end = start + int.from_bytes(waiting[at:start], "big")
            if end > len(waiting):
                break
            yield bytes(waiting[start:end])
            at = end
        del waiting[:at]
    if waiting:
        raise Unreadable("is damaged: its last record is not whole")


def _pieces(file: BinaryIO, cipher: AESGCM, bound: bytes) -> Iterator[bytes]:
    count, sealed = 0, file.read(PIECE + _TAG)
    while True:
        following = file.read(PIECE + _TAG)
        try:
            yield cipher.decrypt(_nonce(count, last=not following), sealed, bound)
        except (InvalidTag, ValueError):
            place = f"piece {count + 1} of {PIECE // 1024} KiB"
            raise Unreadable(f"is damaged or cut off ({place} is not as it was written)") from None
        if not following:
            return
        count, sealed = count + 1, following


def _nonce(count: int, last: bool) -> bytes:
    return count.to_bytes(11, "big") + bytes((last,))
