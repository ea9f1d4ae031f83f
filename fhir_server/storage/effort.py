"""What the engine did for a request beside the event loop, in seconds of a processor: what a search
costs cannot be told before.

https://docs.python.org/3/library/contextvars.html
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from time import thread_time
from typing import TypeVar

T = TypeVar("T")


class Effort:
    """The sum of one request."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0


_effort: ContextVar[Effort | None] = ContextVar("effort", default=None)


def counted() -> Effort:
    """What is done from now on in this task is counted here."""
    effort = Effort()
    _effort.set(effort)
    return effort


def counting(job: Callable[[], T]) -> Callable[[], T]:
    """A job for another thread, counted for the task that asks now; also when it fails."""
    effort = _effort.get()
    if effort is None:
        return job

    def timed() -> T:
        began = thread_time()
        try:
            return job()
        finally:
            effort.seconds += thread_time() - began

    return timed
