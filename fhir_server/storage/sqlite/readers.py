"""Connections that read: each transaction has one to itself and sees one state of the store.

https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, TypeVar

import apsw

from fhir_server.storage.effort import counting
from fhir_server.storage.sqlite.threads import Threads
from fhir_server.storage.store import TooCostly

T = TypeVar("T")

LIMIT = 32  # connections
INLINE_SECONDS = 0.008  # a search may occupy the event loop
INLINE_STEPS = 4_000  # of SQLite's machine between two looks at the clock, about 0.1 ms
THREAD_STEPS = 1_000_000


class Patience:
    """How long statements on one connection may take. A search runs on the event loop first; one
    that takes too long there is run again in a thread, on the same connection and state, until its
    time is up. Statements outside a search are not limited."""

    def __init__(self, conn: apsw.Connection, threads: Threads, seconds: float) -> None:
        self._conn = conn
        self._threads = threads
        self._seconds = seconds
        self._deadline = float("inf")
        conn.set_progress_handler(self._over, INLINE_STEPS)

    def run(self, search: Callable[[], T]) -> Coroutine[Any, Any, T]:
        """What the search returns. TooCostly."""
        return self._run(search, self._seconds)

    async def _run(self, search: Callable[[], T], seconds: float) -> T:
        self._deadline = monotonic() + INLINE_SECONDS
        try:
            return search()
        except apsw.InterruptError:
            pass
        finally:
            self._deadline = float("inf")
        return await self._run_long(search, seconds)

    async def _run_long(self, search: Callable[[], T], seconds: float) -> T:
        self._deadline = monotonic() + seconds
        self._conn.set_progress_handler(self._over, THREAD_STEPS)
        running = self._threads.run(counting(search))
        try:
            return await asyncio.shield(running)
        except apsw.InterruptError:
            raise TooCostly(f"The search took longer than {seconds:g} seconds") from None
        except asyncio.CancelledError:
            self._deadline = 0.0
            await asyncio.wait([running])
            running.exception()
            raise
        finally:
            self._deadline = float("inf")
            self._conn.set_progress_handler(self._over, INLINE_STEPS)

    def _over(self) -> bool:
        return monotonic() > self._deadline


class Allowance(Patience):
    """The patience with the connection that writes, while everybody else waits for it: all searches
    of one transaction have their time together."""

    _left = 0.0

    def renew(self) -> None:
        """Another transaction begins."""
        self._left = self._seconds

    async def run(self, search: Callable[[], T]) -> T:
        """What the search returns. TooCostly."""
        if self._left <= 0:
            raise self._used_up()
        began = monotonic()
        try:
            return await self._run(search, self._left)
        except TooCostly:
            raise self._used_up() from None
        finally:
            self._left -= monotonic() - began

    def _used_up(self) -> TooCostly:
        return TooCostly(f"The searches of one write took longer than {self._seconds:g} seconds")


class Reader:
    """One connection that reads."""

    __slots__ = ("conn", "patience")

    def __init__(self, conn: apsw.Connection, patience: Patience) -> None:
        self.conn = conn
        self.patience = patience


class Readers:
    """The connections that read; the one used last is used next, its pages are still in memory."""

    def __init__(self, connect: Callable[[], Reader]) -> None:
        self._connect = connect
        self._idle: list[Reader] = []
        self._count = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def idle(self) -> Reader | None:
        """One that nobody has, if there is one."""
        return self._idle.pop() if self._idle else None

    async def take(self) -> Reader:
        while not self._idle:
            if self._count < LIMIT:
                reader = self._connect()
                self._count += 1
                return reader
            free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(free)
            try:
                await free
            except asyncio.CancelledError:
                self._wake()
                raise
        return self._idle.pop()

    def give(self, reader: Reader) -> None:
        self._idle.append(reader)
        self._wake()

    def _wake(self) -> None:
        while self._idle and self._waiting:
            free = self._waiting.popleft()
            if not free.done():
                free.set_result(None)
                return

    def close(self) -> None:
        for reader in self._idle:
            reader.conn.close()
        self._idle.clear()
