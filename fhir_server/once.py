"""What is done once: the Result of a write, kept under its key in the same transaction.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

from __future__ import annotations

import hashlib

import msgspec

from conformance.json import encode
from conformance.outcome import FhirError
from fhir_server.interaction import Interaction, Result
from fhir_server.storage.store import Transaction

_SPACE = "once"
_MICROSECONDS = 30 * 24 * 3600 * 1_000_000


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a Result, and of what was asked."""

    digest: bytes
    status: int
    body: bytes
    etag: int | None
    updated: int | None
    location: str | None
    touched: tuple[tuple[str, str, int | None], ...]
    patients: tuple[str, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode


def digest(asked: Interaction) -> bytes:
    """What tells one request from another, whoever sends it."""
    content = asked.content.data if asked.content else b""
    parts = (asked.code, asked.type, asked.id, asked.operation, asked.parameters, asked.condition)
    body = encode(asked.resource) if asked.resource is not None else b""
    return hashlib.sha256(b"\0".join((_encode(parts), content, body))).digest()


async def before(tx: Transaction, key: str, digest: bytes) -> Result | None:
    """The Result of the first time. FhirError 422 when the key was another request's."""
    found = await tx.kept(_SPACE, key)
    if found is None:
        return None
    kept = _decode(found.value)
    if kept.digest != digest:
        raise FhirError(
            "conflict",
            "This Idempotency-Key was used for another request; take a new one",
            status=422,
        )
    return Result(
        kept.status,
        kept.body,
        etag=kept.etag,
        updated=kept.updated,
        location=kept.location,
        touched=kept.touched,
        patients=kept.patients,
    )


async def keep(tx: Transaction, key: str, digest: bytes, result: Result) -> None:
    """Remember a Result for thirty days."""
    kept = _Kept(
        digest,
        result.status,
        result.body,
        result.etag,
        result.updated,
        result.location,
        result.touched,
        result.patients,
    )
    await tx.keep(_SPACE, key, _encode(kept), until=tx.now + _MICROSECONDS)
