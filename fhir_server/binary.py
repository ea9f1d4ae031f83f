"""Binary: raw bytes in and out by content type, large ones in pieces that are streamed.

A large Binary's pieces are kept records; its version holds their name in an extension of data.
https://hl7.org/fhir/R4/binary.html
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from msgspec.structs import replace

from conformance.json import encode, parse
from conformance.outcome import FhirError
from fhir_server.audit.event import Caller
from fhir_server.body import Receive, unpacked
from fhir_server.formats import JSON_TYPES
from fhir_server.interaction import Interaction, Resource, Result, Route
from fhir_server.owners import PATIENT
from fhir_server.search.references import literal
from fhir_server.server import Server
from fhir_server.spool import (
    PIECE,
    Spooled,
    forget,
    marker,
    no_mark,
    read_piece,
    spooled_in,
    unmarked,
    write_pending,
    write_piece,
)
from fhir_server.storage.store import Transaction

_HEADER = re.compile(r"[!-~]{1,1024}", re.ASCII)  # what a reference in a header may be
_HEADERS = (
    ("content-disposition", "attachment"),
    ("content-security-policy", "default-src 'none'; sandbox; frame-ancestors 'none'"),
)


async def received(
    server: Server, at: Route, headers: Mapping[bytes, bytes], receive: Receive
) -> Resource:
    """The Binary of a raw body. FhirError 400, 413."""
    media = headers.get(b"content-type", b"").decode("latin-1").strip()
    if not media:
        raise FhirError("required", "A Binary needs a Content-Type", status=400)
    resource: Resource = {"resourceType": "Binary", "contentType": media}
    if at.id is not None:
        resource["id"] = at.id
    context = headers.get(b"x-security-context")
    if context is not None:
        resource["securityContext"] = {"reference": context.decode("latin-1")}
    limits = server.core.limits
    pieces = unpacked(receive, headers, limits.binary, limits.body_seconds)
    return {**resource, **await _stored(server, pieces, _owner(server, resource))}


async def spooled(server: Server, resource: Resource) -> Resource:
    """A Binary that came as JSON; when its data is large, in pieces."""
    data = resource.get("data")
    if not isinstance(data, str) or len(data) // 4 * 3 <= server.core.limits.chunk:
        return resource
    try:
        raw = binascii.a2b_base64(data, strict_mode=True)
    except ValueError as error:  # binascii.Error is one
        raise FhirError("value", "data is not base64", "Binary.data", status=422) from error

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(raw), PIECE):
            yield raw[start : start + PIECE]

    beside = _beside(resource)
    stored = await _stored(server, pieces(), _owner(server, resource))
    if "_data" not in stored:
        return resource
    rest = {name: value for name, value in resource.items() if name not in ("data", "_data")}
    extensions = [*stored["_data"]["extension"], *beside.get("extension", ())]
    return {**rest, "_data": {**beside, "extension": extensions}}


def _beside(resource: Resource) -> dict[str, Any]:
    """What stands beside data, to which the mark is added. FhirError 422 when it has one already,
    or is nothing that extensions could be in."""
    if spooled_in(resource) is not None:
        raise no_mark()
    given = resource.get("_data", {})
    if not isinstance(given, dict) or not isinstance(given.get("extension", []), list):
        text = "_data is an object, with an array of extensions or none"
        raise FhirError("structure", text, "Binary.data", status=422)
    return given


def _owner(server: Server, resource: Resource) -> str | None:
    """The patient whose data a Binary is, as its securityContext says: theirs are its pieces."""
    context = resource.get("securityContext")
    text = context.get("reference") if isinstance(context, dict) else None
    core = server.core
    found = literal(text, core.base_url, core.definitions.types) if isinstance(text, str) else None
    return f"{PATIENT}/{found.id}" if found and found.type == PATIENT else None


async def _stored(
    server: Server, pieces: AsyncIterator[bytes], owner: str | None
) -> dict[str, Any]:
    """data, or the place of the pieces that hold it. They are durable, but nobody's until the
    Binary is committed; what is left of an upload that never was is removed at the next start."""
    name = secrets.token_hex(16)
    try:
        return await _kept(server, name, pieces, owner)
    except BaseException:  # a client that leaves included
        await server.store.transaction(partial(forget, name=name), write=True)
        raise


async def _kept(
    server: Server, name: str, pieces: AsyncIterator[bytes], owner: str | None
) -> dict[str, Any]:
    held, count, size = bytearray(), 0, 0
    async for piece in pieces:
        held += piece
        size += len(piece)
        if size <= server.core.limits.chunk:
            continue
        if count == 0:
            await server.store.transaction(lambda tx: write_pending(tx, name), write=True)
        while len(held) >= PIECE:
            await _keep(server, name, count, bytes(held[:PIECE]), owner)
            del held[:PIECE]
            count += 1
    if count == 0:
        return {"data": base64.b64encode(bytes(held)).decode()} if held else {}
    if held:
        await _keep(server, name, count, bytes(held), owner)
        count += 1
    return {"_data": marker(Spooled(name, count, size))}


async def _keep(server: Server, name: str, number: int, piece: bytes, owner: str | None) -> None:
    await server.store.transaction(
        lambda tx: write_piece(tx, name, number, piece, owner), write=True
    )


async def performed(
    server: Server, asked: Interaction, caller: Caller, accept: tuple[str, ...]
) -> Result:
    """An interaction on Binary; the pieces of one that was refused are removed. FhirError."""
    try:
        result = await server.perform(asked, caller)
    except BaseException:
        spooled = spooled_in(asked.resource) if asked.resource else None
        if spooled is not None:
            await server.store.transaction(partial(forget, name=spooled.name), write=True)
        raise
    return presented(server, asked.code, result, accept)


class _Shown(NamedTuple):
    media_type: str
    security_context: str | None


def presented(server: Server, code: str, result: Result, accept: tuple[str, ...]) -> Result:
    """A Binary that was read, as the client takes it: raw unless it asks for FHIR."""
    if code not in ("read", "vread") or result.status != 200:
        return result
    resource = parse(result.body)
    spooled = spooled_in(resource)
    if any(each in JSON_TYPES for each in accept):
        if spooled is None:
            return result
        head, tail = _around(resource)
        stream = _streamed(server, spooled, head, tail)
        return _with(result, result.media_type, stream=stream)
    shown = _Shown(
        str(resource.get("contentType", "application/octet-stream")),
        resource.get("securityContext", {}).get("reference"),
    )
    headers: tuple[tuple[str, str], ...] = _HEADERS
    if shown.security_context and _HEADER.fullmatch(shown.security_context):
        headers = (*headers, ("x-security-context", shown.security_context))
    if spooled is not None:
        stream = _streamed(server, spooled)
        return _with(result, shown.media_type, headers, stream=stream, size=spooled.size)
    body = base64.b64decode(resource.get("data", ""))
    return _with(result, shown.media_type, headers, body=body)


def _with(
    result: Result,
    media_type: str,
    headers: tuple[tuple[str, str], ...] = (),
    *,
    body: bytes = b"",
    stream: AsyncIterator[bytes] | None = None,
    size: int | None = None,
) -> Result:
    if size is not None:
        headers = (*headers, ("content-length", str(size)))
    return replace(result, body=body, media_type=media_type, headers=headers, stream=stream)


def whole(server: Server, resource: Resource, spooled: Spooled) -> AsyncIterator[bytes]:
    """The JSON of a Binary in pieces, its data in it."""
    return _streamed(server, spooled, *_around(resource))


def _around(resource: Resource) -> tuple[bytes, bytes]:
    """The JSON before and after the data of a Binary in pieces."""
    return encode(unmarked(resource))[:-1] + b',"data":"', b'"}'


async def _streamed(
    server: Server, spooled: Spooled, head: bytes = b"", tail: bytes = b""
) -> AsyncIterator[bytes]:
    """The pieces one after the other; in base64 when they stand inside JSON."""
    if head:
        yield head
    for number in range(spooled.pieces):
        piece = await server.store.transaction(partial(_piece, spooled, number))
        yield base64.b64encode(piece) if head else piece
    if tail:
        yield tail


async def _piece(spooled: Spooled, number: int, tx: Transaction) -> bytes:
    return await read_piece(tx, spooled, number)
