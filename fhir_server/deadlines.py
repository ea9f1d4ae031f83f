"""Until when requests may last: looked at now and then, since a timer for each would cost more than
all else that is counted of it.

https://docs.python.org/3/library/asyncio-task.html#asyncio.Task.uncancel
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")

_OFTEN, _SELDOM = 0.001, 1.0  # seconds between two looks, at least and at most


class Late(Exception):
    """It was given up."""


class Deadlines:
    """Of what may last `seconds`, and up to a quarter more."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._pause = min(max(seconds / 4, _OFTEN), _SELDOM)
        self._due: dict[asyncio.Task[Any], float] = {}
        self._given_up: set[asyncio.Task[Any]] = set()
        self._looking = False

    async def within(self, work: Awaitable[T]) -> T:
        """What the work gives. Late, when its task was cancelled for it."""
        task = asyncio.current_task()
        assert task is not None
        self._due[task] = monotonic() + self.seconds
        if not self._looking:
            self._look_later()
        try:
            return await work
        except asyncio.CancelledError:
            if task not in self._given_up or task.uncancel():
                raise
            raise Late from None
        finally:
            self._due.pop(task, None)
            self._given_up.discard(task)

    def _look_later(self) -> None:
        self._looking = True
        asyncio.get_running_loop().call_later(self._pause, self._look)

    def _look(self) -> None:
        self._looking = False
        now = monotonic()
        for task, due in [*self._due.items()]:
            if due <= now:
                del self._due[task]
                self._given_up.add(task)
                task.cancel()
        if self._due:
            self._look_later()
