"""Listens on a port and hands every request to an ASGI application, all on one event loop.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.utils import formatdate
from typing import Any

from salus.problem import Problem
from salus.wire.connection import Connection
from salus.wire.exchange import Exchange

Application = Callable[[Any, Any, Any], Awaitable[None]]

BACKLOG = 2048  # connections that may wait to be accepted
HANDSHAKE_SECONDS = 10.0
_CANCEL_SECONDS = 1.0  # in which what is given up may end by itself
_CLOSING_SECONDS = 5.0  # of TLS, which says goodbye
_TICK_SECONDS = 1.0
_FILES = 65_536  # that a process may have open
_RESERVED = 256  # of them for others than connections

_log = logging.getLogger("salus.wire")


def bind(host: str, port: int, remedy: str) -> socket.socket:
    """The port, at which nobody can knock before `listen`. Problem, with the remedy where another
    program has it."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise Problem(f"{host} is not an address of this machine: {error.strerror}") from None
    bound = socket.socket(family, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # after a restart at once
        bound.bind(address)
    except OSError as error:
        bound.close()
        text = f"Cannot listen on {host}:{port} ({error.strerror}); {remedy}"
        raise Problem(text) from None
    return bound


def _room() -> int:
    """How many connections there may be: as many as the process may have files, but for some that
    the store needs. The limit is raised as far as the system lets us."""
    low, high = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if high == resource.RLIM_INFINITY else min(high, _FILES)
    if low != resource.RLIM_INFINITY and low < most:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, high))
            low = most
    files = _FILES if low == resource.RLIM_INFINITY else low
    return max(files - _RESERVED, files // 2)


class Listener:
    """Made by `listen`. `date`: the header that responses carry."""

    date: bytes

    def __init__(self, application: Application) -> None:
        self._application = application
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._most = _room()
        self._is_closing = False
        self._left = asyncio.Event()  # somebody has
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._tick()

    @classmethod
    async def listen(
        cls, application: Application, bound: socket.socket, tls: ssl.SSLContext | None = None
    ) -> Listener:
        """Accept what connects, by https with `tls`. OSError when another program was quicker."""
        made = cls(application)
        made._server = await made._loop.create_server(
            lambda: Connection(made, made._loop),
            sock=bound,
            ssl=tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if tls else None,
            ssl_shutdown_timeout=_CLOSING_SECONDS if tls else None,
        )
        return made

    async def close(self, seconds: float) -> None:
        """Accept nothing more, and give what is being answered so many seconds to be answered, and
        to leave."""
        self._is_closing = True
        if self._server is not None:
            self._server.close()
        for each in list(self._connections):
            each.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CANCEL_SECONDS)
        for each in list(self._connections):
            each.abort()
        self._stop()

    async def _ended(self) -> None:
        """Wait until nobody is connected."""
        while self._tasks or self._connections:
            self._left.clear()
            await self._left.wait()

    def begin(self, exchange: Exchange) -> None:
        """Let the application answer."""
        task = self._loop.create_task(self._answer(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._left.set()

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self._application(exchange.scope, exchange.receive, exchange.send)
            if not exchange.is_answered:
                exchange.fail()
        except asyncio.CancelledError:
            exchange.fail()
            raise
        except Exception as error:  # whose text may hold what was asked
            if not exchange.gone:
                _log.error("A request ended in %s", type(error).__name__)
            exchange.fail()

    def opened(self, connection: Connection) -> None:
        """One more, unless that is one too many, or too late."""
        if self._is_closing or len(self._connections) >= self._most:
            connection.abort()
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._left.set()

    def _tick(self) -> None:
        self._ticking = self._loop.call_later(_TICK_SECONDS, self._tick)
        self.date = f"date: {formatdate(usegmt=True)}\r\n".encode()
        now, is_crowded = self._loop.time(), 4 * len(self._connections) > 3 * self._most
        for each in list(self._connections):
            each.look(now, is_crowded)

    def _stop(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
