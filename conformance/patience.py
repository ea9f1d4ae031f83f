"""How long the work on one request of terminology or validation may go on: it looks at the clock
itself, since a thread cannot be stopped from outside.

https://hl7.org/fhir/R4/security.html
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from time import monotonic
from typing import TypeVar

from conformance.outcome import FhirError

T = TypeVar("T")


class Patience:
    """The time that is left for some work, in the context that `begin` is called in."""

    __slots__ = ("_until", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._until = float("inf")

    def begin(self) -> None:
        self._until = min(self._until, monotonic() + self.seconds)
        _PATIENCE.set(self)

    def end(self) -> None:
        """Nobody waits for the work any more; it may be called from another thread."""
        self._until = 0.0

    def look(self) -> None:
        """FhirError when the time is over."""
        if monotonic() > self._until:
            text = f"The request takes more than {self.seconds:g} seconds of work; ask for less"
            raise FhirError("too-costly", text)


_PATIENCE: ContextVar[Patience] = ContextVar("patience", default=Patience(float("inf")))  # noqa: B039


def within(seconds: float, work: Callable[[], T]) -> T:
    """What the work returns. FhirError when it takes longer and notices."""

    def begun() -> T:
        Patience(seconds).begin()
        return work()

    return copy_context().run(begun)


def look() -> None:
    """FhirError when the time of this work is over."""
    _PATIENCE.get().look()


def present() -> Patience:
    """That of this work."""
    return _PATIENCE.get()
