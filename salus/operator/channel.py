"""The operator's channel: messages to a running server that only who can read its data and its keys
can write or read, whatever carries them.

Both ways are encrypted and authenticated (JWE, `dir` with A256GCM) under a key derived from the key
of the data's pages; a request counts once and for a minute.
https://www.rfc-editor.org/rfc/rfc7516
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from fhir_server.storage.keys import page_key
from salus.keyring import key_provider
from salus.settings import Settings
from smart_auth.authority import Authority
from smart_auth.model import JTI, SECOND, Text
from smart_auth.records import Transaction, digest

PATH = "/operator"
LARGEST = 256 * 1024  # bytes of a message
_HEADER = {"alg": "dir", "enc": "A256GCM"}
_ALGORITHMS = ["dir", "A256GCM"]
_LIVES = 60 * SECOND


def channel_key(settings: Settings) -> bytes:
    """The key of the channel of a data folder. StoreError when its keys cannot be read."""
    pages = page_key(settings.data, key_provider(settings))
    return HKDF(SHA256(), 32, None, b"salus operator channel").derive(pages)


class NotOurs(Exception):
    """A message that nobody with the key wrote, or that came late or twice."""


class Message(msgspec.Struct, frozen=True):
    """`id`: of a request, and of the answer to it; `answers`: it is the latter; `at`: when it was
    written, microseconds since 1970."""

    id: str
    answers: bool
    at: int
    content: msgspec.Raw


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Why a request was not performed, as a sentence."""

    problem: str


def new_id() -> str:
    return secrets.token_urlsafe(16)


def sealed(key: bytes, id: str, at: int, content: Any, *, answers: bool = False) -> bytes:
    """A message as it travels."""
    message = Message(id, answers, at, msgspec.Raw(msgspec.json.encode(content)))
    plain = msgspec.json.encode(message)
    return jwe.encrypt_compact(_HEADER, plain, OctKey.import_key(key)).encode()


def opened(key: bytes, data: bytes) -> Message:
    """The message that travelled. NotOurs."""
    if len(data) > LARGEST:
        raise NotOurs
    try:
        found = jwe.decrypt_compact(data, OctKey.import_key(key), algorithms=_ALGORITHMS)
        return msgspec.json.decode(found.plaintext or b"", type=Message)
    except (JoseError, ValueError, msgspec.MsgspecError):
        raise NotOurs from None


async def accepted(authority: Authority, key: bytes, data: bytes) -> Message:
    """The request that travelled, if it is new. NotOurs."""
    message = opened(key, data)
    now = authority.clock()
    if message.answers or abs(now - message.at) > _LIVES:
        raise NotOurs
    name = digest(f"operator {message.id}")

    async def first(tx: Transaction) -> bool:
        if await JTI.read(tx, name) is not None:
            return False
        await JTI.write(tx, name, Text(), until=now + 2 * _LIVES)
        return True

    if not await authority.keeper.transaction(first, write=True):
        raise NotOurs
    return message
