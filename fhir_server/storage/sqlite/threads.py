"""The few threads beside the event loop: one that commits, some for long reads.

SQLite lets other Python code run while it works (https://www.sqlite.org/threadsafe.html).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """Threads that run functions for one event loop, in the order of asking."""

    def __init__(self, count: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = (
            SimpleQueue()
        )
        self._threads = [Thread(target=self._work, name=name, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def run(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """What the job returns or raises."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((job, future))
        return future

    def close(self) -> None:
        """Wait for what is running."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (asked := self._jobs.get()) is not None:
            job, future = asked
            try:
                done: tuple[Callable[..., None], Any] = (_answer, job())
            except BaseException as error:
                done = (_refuse, error)
            if self._loop.is_closed():
                return
            self._loop.call_soon_threadsafe(done[0], future, done[1])
            del asked, job, future, done


def _answer(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _refuse(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
