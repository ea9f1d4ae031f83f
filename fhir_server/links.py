"""Sealed paging links: what a client carries to the next page, unreadable and unchangeable to it.

A link holds the whole search (https://hl7.org/fhir/R4/http.html#paging), the place in it, and whose
it is; nothing is kept on the server, so it survives a restart.
"""

from __future__ import annotations

import base64
import os
import zlib
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Place = tuple[str | int | float | None, ...]


_LARGE = 1024  # bytes from which on a link is worth compressing
_SMALL = b"\0"  # with which nothing begins that zlib made


class Link(NamedTuple):
    """`code` is the interaction that goes on; `expires`: microseconds since 1970."""

    code: str
    type: str | None
    id: str | None
    parameters: tuple[tuple[str, str], ...]
    after: Place
    expires: int


class Links:
    """Seals and opens links under one 32-byte key, bound to the caller."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Link).decode

    def seal(self, link: Link, caller: str) -> str:
        """Text for a URL."""
        nonce = os.urandom(12)
        packed = self._encode(link)
        packed = _SMALL + packed if len(packed) < _LARGE else zlib.compress(packed, 1)
        sealed = self._cipher.encrypt(nonce, packed, caller.encode())
        return base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode()

    def open(self, text: str, caller: str, at: int) -> Link | None:
        """The link, or None when it was not sealed here for this caller, or is too old."""
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            packed = self._cipher.decrypt(raw[:12], raw[12:], caller.encode())
            small = packed.startswith(_SMALL)
            link = self._decode(packed[1:] if small else zlib.decompress(packed))
        except (ValueError, InvalidTag, zlib.error, msgspec.MsgspecError):
            return None
        return link if link.expires > at else None
