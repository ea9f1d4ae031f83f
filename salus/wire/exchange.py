"""One request and its response, as an ASGI application sees them.

https://asgi.readthedocs.io/en/latest/specs/www.html, https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Protocol

HIGH_WATER = 256 * 1024  # bytes of a body that may wait to be received
_NO_CONTENT = 204  # which has no length either
_BODILESS = frozenset({_NO_CONTENT, 304})
_LINES = {
    each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in http.HTTPStatus
}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_REQUEST, _GONE = "http.request", {"type": "http.disconnect"}


class Wire(Protocol):
    """The connection that a request came by."""

    def date(self) -> bytes:
        """The header of that name, whole."""
        ...

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool:
        """Whether nothing that is written arrives any more."""
        ...

    def is_full(self) -> bool:
        """Whether the peer takes less than it is sent."""
        ...

    async def drained(self) -> None:
        """Wait until more can be sent, or nothing any more."""
        ...

    def taken(self) -> None:
        """A piece of the body was received, so there is room for the next."""
        ...

    def ended(self, exchange: Exchange) -> None:
        """The response is written."""
        ...


class Exchange:
    """`keep`: whether the connection goes on after it; `whole`: whether the whole request is here;
    `gone`: whether the peer is; `is_unasked`: whether it was never asked for the body that it
    offered."""

    __slots__ = (
        "_chunked",
        "_cut",
        "_expects",
        "_head",
        "_left",
        "_pieces",
        "_status",
        "_told",
        "_waiter",
        "_wire",
        "gone",
        "held",
        "is_answered",
        "is_unasked",
        "keep",
        "scope",
        "whole",
    )

    def __init__(self, wire: Wire, scope: dict[str, Any], keep: bool, expects: bool) -> None:
        self._wire = wire
        self.scope = scope
        self.keep = keep
        self.whole = self.gone = self.is_answered = self.is_unasked = False
        self.held = 0  # bytes of the body that wait
        self._pieces: list[bytes] = []
        self._cut = False  # the rest of the request will not come
        self._told = False  # the end of the body, or that there is none
        self._expects = expects  # a word before it sends its body
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""  # that is not written yet
        self._status = 0
        self._left: int | None = None  # bytes of the body that are still due, where it is known
        self._chunked = False

    # --- what the connection tells ---------------------------------------------------------------

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.held += len(piece)
        self._wake()

    def complete(self) -> None:
        """The request is here."""
        self.whole = True
        self._wake()

    def cut(self) -> None:
        """The rest of the request will not come; its response may still be wanted."""
        self._cut = True
        self._wake()

    def leave(self) -> None:
        """The peer is gone."""
        self.gone = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- what the application calls --------------------------------------------------------------

    async def receive(self) -> MutableMapping[str, Any]:
        """The next piece of the body; at its end, that the peer is gone, once it is."""
        if self._is_awaited():
            self._wire.write(_CONTINUE)
        self._expects = False
        while not self._pieces and (self._told or not self.whole):
            if self.gone or self._cut or self.is_answered:
                return dict(_GONE)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if pieces:
            self._pieces, self.held = [], 0
        self._told = self.whole
        if not self.whole:
            self._wire.taken()
        return {"type": _REQUEST, "body": body, "more_body": not self.whole}

    def _is_awaited(self) -> bool:
        """Whether the peer waits for a word before it sends the body."""
        done = self._pieces or self.whole or self._status or self.gone or self._cut
        return self._expects and not done

    async def send(self, message: Mapping[str, Any]) -> None:
        """Part of the response. RuntimeError when there is none to be sent now; ConnectionError
        when nobody takes a stream any more."""
        if message["type"] == "http.response.start":
            self._start(message["status"], message.get("headers", ()))
            return
        if not self._status or self.is_answered:
            raise RuntimeError("a response is started once, and then its body is sent")
        more = message.get("more_body", False)
        if self._wire.is_full():
            await self._wire.drained()
        if not self.gone and not (more and self._wire.is_closing()):
            self._send(message.get("body", b""), more)
        elif more:
            raise ConnectionResetError("the peer is gone")
        else:
            self.is_answered = True

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if self._status:
            raise RuntimeError("a response was started already")
        self.is_unasked = self._is_awaited()
        self.keep = self.keep and not self.is_unasked  # who can tell if the body comes now?
        self._status = status
        lines = [_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, self._wire.date()]
        length: int | None = None
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
                if status == _NO_CONTENT:
                    continue
            lines.append(b"%b: %b\r\n" % (name, value))
        lines += self._framing(length)
        head = b"".join(lines)
        if not head.count(b"\n") == head.count(b"\r") == len(lines):
            self._status = 0
            raise RuntimeError("a header has more than one line")
        self._head = head + b"\r\n"

    def _framing(self, length: int | None) -> list[bytes]:
        """The headers that say where the body ends."""
        lines: list[bytes] = []
        self._left = length
        if self._is_bodiless():
            self._left = 0
        elif length is None and self.scope["http_version"] == "1.1":
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        elif length is None:
            self.keep = False
        if not self.keep:
            lines.append(b"connection: close\r\n")
        return lines

    def _is_bodiless(self) -> bool:
        return self.scope["method"] == "HEAD" or self._status in _BODILESS

    def _send(self, body: bytes, more: bool) -> None:
        head, self._head = self._head, b""
        if self._is_bodiless():
            body = b""
        elif self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                body += _LAST_CHUNK
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the body is not as long as its content-length")
        if head or body:
            self._wire.write(head + body)
        if not more:
            self._end()

    def _end(self) -> None:
        self.is_answered = True
        self._pieces, self.held = [], 0
        self._wake()
        self._wire.ended(self)

    def fail(self) -> None:
        """The application gave up: say so where nothing was said yet, and end the connection."""
        self.keep = False
        if self.is_answered or self.gone:
            return
        if not self._status or self._head:
            self._status, self._chunked = 0, False
            self._start(500, [(b"content-length", b"0")])
            self._send(b"", False)
        else:
            self._end()

    def refuse(self, status: int) -> None:
        """Answer what never reached the application."""
        self._start(status, [(b"content-length", b"0")])
        self._send(b"", False)
