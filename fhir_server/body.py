"""Request bodies: read in pieces, unpacked, never more than a limit.

https://www.rfc-editor.org/rfc/rfc9110#section-8.4
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    MutableMapping,
)
from typing import Any

from conformance.outcome import FhirError
from fhir_server.deadlines import Deadlines, Late

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_PIECE = 256 * 1024
SLOWEST = 4 * 1024  # bytes a second, in the long run: one such sender cannot hold on for hours


async def read_body(
    receive: Receive, headers: Mapping[bytes, bytes], most: int, patience: Deadlines
) -> bytes:
    """The whole body, unpacked. `patience`: how long it may stall, or be behind its slowest speed.
    FhirError 413, 415, 400, 408."""
    try:
        message = await patience.within(receive())
    except Late:
        raise _too_slow() from None
    encoding = headers.get(b"content-encoding")
    if message["type"] == "http.disconnect":
        raise _cut()
    if not message.get("more_body") and encoding is None:
        body: bytes = message.get("body", b"")
        if len(body) > most:
            raise _too_long(most)
        return body
    return b"".join(
        [piece async for piece in unpacked(receive, headers, most, patience.seconds, message)]
    )


async def unpacked(
    receive: Receive,
    headers: Mapping[bytes, bytes],
    most: int,
    seconds: float,
    first: MutableMapping[str, Any] | None = None,
) -> AsyncIterator[bytes]:
    """The pieces of a body as they arrive, unpacked. FhirError 413, 415, 400, 408."""
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > most:
        raise _too_long(most)
    unpack = _unpacker(headers)
    total = 0
    async for piece in _pieces(receive, seconds, first):
        for part in unpack(piece):
            total += len(part)
            if total > most:
                raise _too_long(most)
            yield part
    unpack.end()


async def _pieces(
    receive: Receive, seconds: float, first: MutableMapping[str, Any] | None
) -> AsyncIterator[bytes]:
    message, got, began = first, 0, time.monotonic()
    while True:
        if message is None:
            late = began + got / SLOWEST - time.monotonic()
            message = await _next(receive, seconds + min(0.0, late))
        if message["type"] == "http.disconnect":
            raise _cut()
        piece: bytes = message.get("body", b"")
        got += len(piece)
        yield piece
        if not message.get("more_body"):
            return
        message = None


async def _next(receive: Receive, seconds: float) -> MutableMapping[str, Any]:
    """What comes next, within so many seconds. FhirError 408."""
    try:
        async with asyncio.timeout(seconds):
            return await receive()
    except TimeoutError as error:
        raise _too_slow() from error


class _Plain:
    """A body that is as it was sent."""

    def __call__(self, piece: bytes) -> Iterator[bytes]:
        yield piece

    def end(self) -> None:
        """Nothing can be missing."""


class _Packed:
    """A compressed body: whole streams, one after the other."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._stream = zlib.decompressobj(_WINDOWS[encoding])
        self._begun = False

    def __call__(self, piece: bytes) -> Iterator[bytes]:
        """The unpacked parts. FhirError when it is not packed so."""
        while piece:
            self._begun = True
            try:
                yield self._stream.decompress(piece, _PIECE)
            except zlib.error as error:
                raise FhirError("invalid", f"The body is not {self._encoding}") from error
            piece = self._stream.unconsumed_tail
            if self._stream.eof:
                piece = self._stream.unused_data
                self._stream = zlib.decompressobj(_WINDOWS[self._encoding])
                self._begun = False

    def end(self) -> None:
        """FhirError when the last stream is not complete."""
        if self._begun:
            raise FhirError("incomplete", f"The {self._encoding} body ends too early", status=400)


def _unpacker(headers: Mapping[bytes, bytes]) -> _Plain | _Packed:
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    if encoding in ("", "identity"):
        return _Plain()
    if encoding not in _WINDOWS:
        raise FhirError("not-supported", "Content-Encoding is gzip, deflate or none", status=415)
    return _Packed(encoding)


def _cut() -> FhirError:
    return FhirError("incomplete", "The body ended before it was complete", status=400)


def _too_slow() -> FhirError:
    return FhirError("timeout", "The body came too slowly", status=408)


def _too_long(most: int) -> FhirError:
    return FhirError("too-long", f"A body has at most {most} bytes here", status=413)
