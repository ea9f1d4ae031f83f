"""What is done once: the Result of a write, kept under its key in the same transaction.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from conformance.json import encode
from conformance.outcome import FhirError
from fhir_server.interaction import Interaction, Result
from fhir_server.storage.store import Store, StoreError, Transaction, Unavailable

_SPACE = "once"
_END = "\U0010ffff"
_PAGE = 100
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
    (owner,) = result.patients if len(result.patients) == 1 else (None,)
    await tx.keep(_SPACE, key, _encode(kept), until=tx.now + _MICROSECONDS, owner=owner)


async def forget(store: Store, touches: Callable[[bytes], bool]) -> int:
    """Forget the Results that touch something; how many. Where one cannot be opened, whatever it
    may be of, all that are not looked at yet are forgotten: it is only as if they came late."""
    gone, after = 0, ""
    while True:

        async def step(tx: Transaction, after: str = after) -> tuple[int, str]:
            try:
                page = await tx.range(_SPACE, after, _END, _PAGE)
            except Unavailable:
                raise
            except StoreError:
                return await tx.clear(_SPACE, after, _END), ""
            those = [each.key for each in page if _touches(_decode(each.value), touches)]
            for key in those:
                await tx.take(_SPACE, key)
            return len(those), page[-1].key + "\0" if len(page) == _PAGE else ""

        count, after = await store.transaction(step, write=True)
        gone += count
        if not after:
            return gone


def _touches(kept: _Kept, touches: Callable[[bytes], bool]) -> bool:
    named = " ".join([*(f"{type}/{id}" for type, id, _ in kept.touched), *kept.patients])
    return touches(kept.body) or touches(named.encode())
