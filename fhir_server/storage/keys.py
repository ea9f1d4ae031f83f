"""Keys that protect data are themselves kept wrapped, under a key that never lies beside the data.

AES-256-GCM (https://csrc.nist.gov/pubs/sp/800/38/d/final), with what the key is for as associated
data, so that one wrapped key cannot stand in for another.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.storage.store import StoreError

KEY_FILE = "salus.key"
PAGE_KEY = "page.key"  # in the data folder: the wrapped key of its pages

_SIZE = 32  # bytes of a key
_ID = 8  # bytes of the name of a wrapping key
_NONCE = 12
# What a wrapped key begins with, by what wrapped it.
FORMATS = {"file": b"SK1\n", "pkcs11": b"P11\n", "vault": b"VT1\n", "aws-kms": b"KM1\n"}
_FORMAT = FORMATS["file"]
PAGES = b"salus pages"  # what the page key is for


class KeyProvider(Protocol):
    """Wraps keys and unwraps them again. `context` says what a key is for and must be the same
    both times. StoreError when it cannot, with what to do; Unavailable when asking again may
    help. Any thread may call it."""

    where: str  # which keys these are, for people

    def wrap(self, key: bytes, context: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes: ...

    def keep_apart(self, data: Path) -> None:
        """StoreError when these keys lie with the data that they open."""
        ...

    def renew(self) -> str:
        """Wrap by a new key from now on; what was wrapped before still opens. What is left to do
        about the former key, in sentences, if anything is."""
        ...

    def retire(self) -> None:
        """Nothing is wrapped by former keys any more: forget those that are held here."""
        ...


class FileKeys:
    """A KeyProvider with its key in a file that only its owner can read, in a folder of its own.
    The file is made when something is first wrapped; unwrapping never makes one. While keys are
    rotated it holds the former ones too, behind the one that wraps."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / KEY_FILE
        self.where = f"the file {self._file}"

    def wrap(self, key: bytes, context: bytes) -> bytes:
        outer = self.held()[0] if self._file.exists() else self._make()
        nonce = secrets.token_bytes(_NONCE)
        name = outer[:_ID]
        sealed = AESGCM(outer[_ID:]).encrypt(nonce, key, context + name)
        return _FORMAT + name + nonce + sealed

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        check_format(wrapped, "file", self.where)
        name = name_of(wrapped)
        if not self._file.exists():
            raise StoreError(
                f"{self._file} is missing: it is the key of this data, which cannot be read "
                f"without it (key {name.hex()}). Bring it back, or name its folder with --keys"
            )
        held = self.held()
        found = [each for each in held if each[:_ID] == name]
        if not found:
            raise StoreError(
                f"{self._file} is the key {held[0][:_ID].hex()}, but this data was written with "
                f"{name.hex()}: name the right folder with --keys"
            )
        try:
            return open_wrapped(found[0], wrapped, context)
        except InvalidTag:
            raise StoreError(
                f"{self._file} does not open this data: the key or the wrapped key is damaged. "
                "Restore both from a backup"
            ) from None

    def keep_apart(self, data: Path) -> None:
        """Who copies the data would copy the key that opens it."""
        here, there = data.resolve(), self._folder.resolve()
        if here == there or here in there.parents or there in here.parents:
            raise StoreError(
                f"The keys ({self._folder}) and the data ({data}) must not lie in one another: "
                "name another folder with --keys"
            )

    @property
    def exists(self) -> bool:
        """Whether there is a key file yet."""
        return self._file.exists()

    def renew(self) -> str:
        """Put a new key before those in the file."""
        self.replace([new_outer(), *self.held()])
        return ""

    def retire(self) -> None:
        self.replace(self.held()[:1])

    def held(self) -> list[bytes]:
        """The names and keys in the file, each 40 bytes, the one that wraps first. StoreError."""
        try:
            mode = self._file.stat().st_mode
            held = self._file.read_bytes()
        except OSError as error:
            raise StoreError(f"{self._file} cannot be read: {error.strerror}") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise StoreError(
                f"{self._file} can be read by others: make it its owner's alone "
                f"(chmod 600 {self._file}), and think about who has seen it"
            )
        size = _ID + _SIZE
        if not held or len(held) % size:
            raise StoreError(f"{self._file} is no key of Salus: restore it from a backup")
        return [held[at : at + size] for at in range(0, len(held), size)]

    def replace(self, held: Sequence[bytes]) -> None:
        """Make these the names and keys in the file."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(self._file, b"".join(held))

    def _make(self) -> bytes:
        made = new_outer()
        self.replace([made])
        return made


def check_format(wrapped: bytes, kind: str, where: str) -> None:
    """StoreError where another kind of key service wrapped this, or none."""
    if wrapped.startswith(FORMATS[kind]):
        return
    for other, start in FORMATS.items():
        if wrapped.startswith(start):
            raise StoreError(
                f"What {where} should open was wrapped by the provider {other}: set "
                f"SALUS_KEY_PROVIDER to {other}, or move the keys by `salus keys rotate --from "
                f"{other}`"
            )
    raise StoreError("A wrapped key is damaged: restore it from a backup")


def new_outer() -> bytes:
    """A name and a key, as they stand in a key file."""
    return secrets.token_bytes(_ID) + AESGCM.generate_key(_SIZE * 8)


def outer_name(outer: bytes) -> bytes:
    """The name of a key of a key file."""
    return outer[:_ID]


def name_of(wrapped: bytes) -> bytes:
    """Which key of a key file wrapped this. StoreError."""
    if not wrapped.startswith(_FORMAT):
        raise StoreError("A wrapped key is damaged: restore it from a backup")
    return wrapped[len(_FORMAT) : len(_FORMAT) + _ID]


def open_wrapped(outer: bytes, wrapped: bytes, context: bytes) -> bytes:
    """What a key file's name and key wrapped. InvalidTag."""
    body = wrapped[len(_FORMAT) + _ID :]
    try:
        return AESGCM(outer[_ID:]).decrypt(body[:_NONCE], body[_NONCE:], context + outer[:_ID])
    except ValueError:  # too short
        raise InvalidTag from None


def former_context(name: bytes) -> bytes:
    """What a former key of a key file is kept for."""
    return b"salus former key " + name


def page_key(data: Path, keys: KeyProvider) -> bytes:
    """The key of the pages of a data folder, made at the first start. StoreError when the keys lie
    with the data, are not those of the data, or the wrapped key is gone."""
    keys.keep_apart(data)
    wrapped = data / PAGE_KEY
    if wrapped.exists():
        return keys.unwrap(wrapped.read_bytes(), PAGES)
    for database in data.glob("*.db"):
        raise StoreError(
            f"{wrapped} is missing: without it {database} cannot be read. "
            "Restore the whole folder from a backup"
        )
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = secrets.token_bytes(_SIZE)
    write_durably(wrapped, keys.wrap(key, PAGES))
    return key


def write_durably(file: Path, content: bytes) -> None:
    """Make a file that only its owner can read, whole or not at all, also after a power cut."""
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
