"""Bodies as they lie on disk: each sealed under a key of its owner, bound to its place.

AES-256-GCM (https://csrc.nist.gov/pubs/sp/800/38/d/final). A blob is the id of its data key (8
bytes), a random nonce (12), and the ciphertext of a salt (16) and the content. The salt goes into
the leaf of the log, and is lost with the key: what is erased cannot be guessed either.
"""

from __future__ import annotations

from collections.abc import Callable
from os import urandom
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.storage.leaves import SALT
from fhir_server.storage.store import StoreError

KEY_ID = 8
_NONCE = 12
_HEAD = KEY_ID + _NONCE
RANDOM = SALT + _NONCE  # bytes that each seal needs


class Keys(Protocol):
    """Where data keys come from."""

    def fresh(self) -> bytes:
        """The id of a key that nobody has used; durable. Unavailable."""
        ...

    def cipher(self, id: bytes) -> AESGCM:
        """The key itself, for a moment. Erased when it was destroyed, Unavailable."""
        ...


class Damaged(StoreError):
    """What lies on disk is not what was written there, or not at this place."""


def version_place(owner: str | None, type: str, id: str, number: int) -> bytes:
    """What a version's blob is bound to."""
    return f"{owner or ''}|{type}/{id}|{number}".encode()


def event_place(number: int) -> bytes:
    return b"audit|AuditEvent/%d|1" % number


def apart_place(number: int) -> bytes:
    return b"audit|AuditEvent/%d|apart" % number


def kept_place(owner: str | None, space: str, key: str) -> bytes:
    return f"{owner or ''}|kept/{space}|{key}".encode()


def seal(keys: Keys, id: bytes, place: bytes, content: bytes) -> tuple[bytes, bytes]:
    """The blob of a content under the key of that id, and its salt. Unavailable."""
    return sealed(keys.cipher(id), id, place, content, urandom(RANDOM))


def sealed(
    cipher: AESGCM, id: bytes, place: bytes, content: bytes, random: bytes
) -> tuple[bytes, bytes]:
    """The blob and the salt, by a cipher that is at hand and RANDOM bytes that nobody has seen."""
    salt, nonce = random[:SALT], random[SALT:]
    return id + nonce + cipher.encrypt(nonce, salt + content, place), salt


def unseal(keys: Keys, blob: bytes, place: bytes) -> bytes:
    """The salt and the content in a blob. Damaged, Erased, Unavailable."""
    try:
        return keys.cipher(blob[:KEY_ID]).decrypt(blob[KEY_ID:_HEAD], blob[_HEAD:], place)
    except (InvalidTag, ValueError):
        raise Damaged(
            "A record is damaged, or stands where another should: see `salus audit verify`"
        ) from None


class Owners:
    """Which key is an owner's now. `find` looks into the store, `note` writes there that an id is
    the owner's current one; what is remembered is forgotten when the store rolls back."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self._current: dict[str, bytes] = {}
        self.made = 0  # grows with each key that was taken

    def current(
        self,
        owner: str,
        find: Callable[[str], bytes | None],
        note: Callable[[str, bytes], object],
    ) -> bytes:
        """The id of the owner's key; a fresh one where there is none. Unavailable."""
        id = self._current.get(owner)
        if id is None:
            id = find(owner)
            if id is None:
                id = self.keys.fresh()
                note(owner, id)
                self.made += 1
            if len(self._current) >= 100_000:
                self._current.clear()
            self._current[owner] = id
        return id

    def known(self, owner: str) -> bool:
        """Whether the owner's key is remembered."""
        return owner in self._current

    def forget(self) -> None:
        self._current.clear()
