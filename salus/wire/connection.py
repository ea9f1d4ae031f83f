"""A connection of HTTP/1.1: requests are parsed, handed to the application one after the other, and
answered in their order.

The parser is llhttp, by httptools. https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import httptools

from salus.wire.exchange import HIGH_WATER, Exchange

if TYPE_CHECKING:
    from salus.wire.listener import Listener

HEAD_BYTES = 64 * 1024  # of a request's line and headers
HEADERS = 100
METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
VERSIONS = frozenset({"1.0", "1.1"})
HEAD_SECONDS = 30.0  # in which a head must have come, so that nobody holds connections for nothing
IDLE_SECONDS = 75.0  # between two requests
CROWDED_SECONDS = 5.0  # the same, and for a head, where there are nearly too many connections
STALL_SECONDS = 60.0  # in which a peer must take, or send, something of what is due
PIPELINED = 32  # requests that wait for the one before
# By 2.4, a stream that nobody takes any more is told by an error.
_BLANKS = (b" ", b"\t")
_ASGI = {"version": "3.0", "spec_version": "2.4"}


class Connection(asyncio.Protocol):
    """One connection of a Listener, which looks at it every second (`look`)."""

    __slots__ = (
        "_active",
        "_drained",
        "_fed",
        "_headers",
        "_hosts",
        "_in_head",
        "_incoming",
        "_is_closing",
        "_is_heard",
        "_is_last",
        "_length",
        "_listener",
        "_loop",
        "_parser",
        "_paused",
        "_peer",
        "_raw",
        "_refusal",
        "_since",
        "_transport",
        "_unsent",
        "_url",
        "_waiting",
    )

    def __init__(self, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self._listener, self._loop = listener, loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = cast(Any, None)
        self._peer: dict[str, Any] = {}
        self._url, self._headers, self._hosts = b"", list[tuple[bytes, bytes]](), 0
        self._in_head = False  # whether a head has begun
        self._is_heard = True  # whether what is being parsed had a meaning yet
        self._fed = 0  # bytes before it that had none
        self._length = 0  # of what is being parsed
        self._raw = 0  # bytes of a body that the parser must not see
        self._refusal = 0  # the status by which the connection ends
        self._incoming: Exchange | None = None  # whose body is being read
        self._active: Exchange | None = None  # that is being answered
        self._waiting: deque[Exchange] = deque()
        self._since = loop.time()  # the last sign of life in what is awaited
        self._paused = False
        self._is_last = False  # no request comes any more
        self._is_closing = False  # once what is written has left
        self._unsent = 0  # bytes, at the last look
        self._drained: asyncio.Future[None] | None = None

    # --- asyncio's ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        client = transport.get_extra_info("peername")
        server = transport.get_extra_info("sockname")
        self._peer = {
            "type": "http",
            "asgi": _ASGI,
            "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
            "client": tuple(client[:2]) if client else None,
            "server": tuple(server[:2]) if server else None,
            "root_path": "",
        }
        self._listener.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.closed(self)
        for exchange in (self._active, *self._waiting):
            if exchange is not None:
                exchange.leave()
        self._waiting.clear()
        self.resume_writing()
        # Nothing is left in a circle.
        self._parser, self._active, self._incoming = cast(Any, None), None, None

    def pause_writing(self) -> None:
        self._since = self._loop.time()
        self._drained = self._drained or self._loop.create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
        if self._is_closing:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._refusal or self._is_closing:
            return
        if self._raw:
            data = self._take_raw(data)
        self._is_heard, self._length = False, len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refusal = self._refusal or 400
        self._fed = 0 if self._is_heard else self._fed + len(data)
        if self._fed > HEAD_BYTES:  # of a head, or of what stands between pieces and behind them
            self._refusal = 431
        if self._refusal:
            self._refuse()

    def eof_received(self) -> bool:
        """A peer that has sent its last word may still want the answer."""
        self._is_last = True
        if self._incoming is not None:
            self._incoming.cut()
        if self._active is None or self._active.is_answered:
            return False
        return not self._transport.get_extra_info("sslcontext")

    def _feed(self, data: bytes) -> None:
        """Parse; a wish to upgrade is passed over, as RFC 9110 allows, with the body behind it."""
        while data:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._take_raw(data[upgrade.args[0] :])

    def _take_raw(self, data: bytes) -> bytes:
        """Give the request what is its body; the rest."""
        piece, rest = data[: self._raw], data[self._raw :]
        if piece:
            self._raw -= len(piece)
            self.on_body(piece)
            if not self._raw:
                self._complete()
        return rest

    # --- httptools' -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url, self._headers, self._hosts = b"", [], 0
        self._in_head = True
        if self._active is None:
            self._since = self._loop.time()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer, which nobody here asks for
        name = name.lower()
        if value.endswith(_BLANKS):
            value = value.rstrip(b" \t")
        if name == b"host":
            self._hosts += 1
        elif name == b"transfer-encoding" and value.lower() != b"chunked":
            self._refusal = 400
        self._headers.append((name, value))
        if len(self._headers) > HEADERS:
            self._refusal = 431

    def on_headers_complete(self) -> None:
        self._in_head, self._is_heard = False, True
        version = self._parser.get_http_version()
        scope = None if self._refusal else self._scope(version)
        self._refusal = self._refusal or self._wrong(version, scope)
        if self._refusal or scope is None or (self._parser.should_upgrade() and not self._is_raw()):
            return
        keep = version == "1.1" and self._parser.should_keep_alive()
        self._incoming = Exchange(self, scope, keep, self._expects(version))
        self._queue(self._incoming)

    def _wrong(self, version: str, scope: dict[str, Any] | None) -> int:
        """The status of a head that is refused; else 0."""
        if self._fed + self._length > HEAD_BYTES and self._head_bytes() > HEAD_BYTES:
            return 431
        if version not in VERSIONS:
            return 505
        if scope is None or self._hosts > 1 or (version == "1.1" and not self._hosts):
            return 400
        return 0 if self._parser.get_method() in METHODS else 501

    def on_body(self, body: bytes) -> None:
        self._is_heard = True
        exchange = self._incoming
        if exchange is not None and not exchange.is_answered:
            self._since = self._loop.time()
            exchange.add(body)
            if exchange.held > HIGH_WATER:
                self._pause()

    def on_message_complete(self) -> None:
        self._is_heard = True
        if not self._raw:
            self._complete()

    def _complete(self) -> None:
        exchange, self._incoming = self._incoming, None
        if exchange is not None:
            exchange.complete()
            if exchange.is_answered:  # before it was here
                self._next()

    def _head_bytes(self) -> int:
        return len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers)

    def _expects(self, version: str) -> bool:
        return version == "1.1" and any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in self._headers
        )

    def _is_raw(self) -> bool:
        """Note how long the body is that a parser that thinks of an upgrade leaves alone."""
        headers = dict(self._headers)
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not length.isdigit():
            self._refusal = 400
            return False
        self._raw = int(length)
        return True

    def _scope(self, version: str) -> dict[str, Any] | None:
        """The request as ASGI has it; None where its target is none."""
        try:
            url = httptools.parse_url(self._url)
            raw = url.path or b"/"
            path = raw.decode("ascii")
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            return None
        if url.host is not None:  # which then stands for what Host says
            host = url.host if url.port is None else b"%b:%d" % (url.host, url.port)
            others = [each for each in self._headers if each[0] != b"host"]
            self._headers = [(b"host", host), *others]
        return {
            **self._peer,
            "http_version": version,
            "method": self._parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw,
            "query_string": url.query or b"",
            "headers": self._headers,
        }

    # --- one request after the other ------------------------------------------------------------

    def _queue(self, exchange: Exchange) -> None:
        if self._active is None:
            self._begin(exchange)
            return
        self._waiting.append(exchange)
        self._pause()
        if len(self._waiting) > PIPELINED:
            self._refusal = 400

    def _begin(self, exchange: Exchange) -> None:
        self._active = exchange
        self._listener.begin(exchange)

    def ended(self, exchange: Exchange) -> None:
        """The response is written. What is still to come of the request is read and dropped."""
        self._since = self._loop.time()
        if exchange.whole:
            self._next()
        elif self._is_last or self._refusal or exchange.is_unasked:
            self._close()
        else:  # a peer that still sends would not hear what is said to it
            self._resume()

    def _next(self) -> None:
        over = self._active is not None and not self._active.keep
        self._active = None
        if over:
            self._close()
        elif self._waiting:
            self._begin(self._waiting.popleft())
        elif self._is_last:
            self._close()
        if not self._waiting:
            self._resume()

    def _refuse(self) -> None:
        """Answer what is no request, unless another answer is on its way, and end."""
        self._waiting.clear()
        if self._incoming is not None:
            self._incoming.cut()
        if self._active is None:
            scope = {"method": "", "http_version": "1.1"}
            Exchange(self, scope, keep=False, expects=False).refuse(self._refusal)
            return
        self._active.keep = False
        if self._active.is_answered:
            self._close()

    def _close(self) -> None:
        """End the connection once what is written has left: TLS would give that a few seconds."""
        self._is_closing = True
        if self._drained is None:
            self._transport.close()

    # --- what exchanges call --------------------------------------------------------------------

    def date(self) -> bytes:
        return self._listener.date

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def is_full(self) -> bool:
        return self._drained is not None

    async def drained(self) -> None:
        if self._drained is not None:
            await asyncio.shield(self._drained)

    def taken(self) -> None:
        self._since = self._loop.time()
        if not self._waiting:
            self._resume()

    def _pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    # --- what the listener calls ----------------------------------------------------------------

    def look(self, now: float, is_crowded: bool) -> None:
        """End what has waited for its peer for too long."""
        unsent = self._transport.get_write_buffer_size()
        if unsent != self._unsent:  # it takes something
            self._unsent, self._since = unsent, now
        waited = now - self._since
        active = self._active
        if self._transport.is_closing() or self._drained is not None:
            if waited > STALL_SECONDS:
                self._transport.abort()
        elif active is None:
            most = HEAD_SECONDS if self._in_head else IDLE_SECONDS
            if waited > (min(most, CROWDED_SECONDS) if is_crowded else most):
                self._transport.close()
        elif active.is_answered and waited > STALL_SECONDS:
            self._transport.close()

    def leave(self) -> None:
        """The server ends: answer what is asked, and no more."""
        if self._active is None or self._active.is_answered:
            self._close()
        else:
            self._active.keep = False

    def abort(self) -> None:
        self._transport.abort()
