"""Where work goes that may take long: a few threads of its own, so that nobody else waits for it,
few at once for one caller, and each for a time.

https://hl7.org/fhir/R4/http.html#Status-Codes
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cached_property
from typing import NamedTuple, TypeVar

from conformance.outcome import FhirError
from conformance.patience import Patience, within
from fhir_server.metering import Throttled
from fhir_server.storage.effort import counting
from smart_auth.grant import Grant

T = TypeVar("T")

_HURRY = 2.0  # seconds of a work that other writes wait for
_AGAIN = 5  # seconds after which whoever is refused may ask again


async def hurried(work: Callable[[], T]) -> T:
    """What the work returns, done in a thread while a write, which others wait for, goes on; there
    is one such at a time. FhirError 413."""
    return await asyncio.to_thread(within, _HURRY, counting(work))


class _Waiting(NamedTuple):
    whose: tuple[str, ...]
    turn: asyncio.Future[None]


class Apart:
    """`most` works at once, `each` of them for one caller; others wait in a line of `waiting`,
    `behind` of them of one caller, for `wait` seconds; a work may take `seconds`."""

    def __init__(
        self,
        *,
        most: int = 4,
        each: int = 2,
        waiting: int = 8,
        behind: int = 4,
        wait: float = 10.0,
        seconds: float = 15.0,
    ) -> None:
        self.seconds = seconds
        self._most, self._each, self._wait = most, each, wait
        self._waiting, self._behind = waiting, behind
        self._running: Counter[tuple[str, ...]] = Counter()
        self._line: list[_Waiting] = []

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._most, "apart")

    async def run(self, grant: Grant, work: Callable[[], T]) -> T:
        """What the work returns, done in a thread. FhirError 413 when it takes too long (where it
        looks at the clock: `conformance.patience`), 429 or 503 when there is too much of it."""
        whose = (grant.client, grant.account or "", grant.agent or grant.name)
        await self._turn(whose)
        patience, context = Patience(self.seconds), copy_context()
        charged = counting(work)

        def begun() -> T:
            patience.begin()
            return charged()

        def done(future: asyncio.Future[T]) -> None:
            if not future.cancelled():
                future.exception()  # if nobody waits any more, nobody else will look at it
            self._ended(whose)

        running = asyncio.get_running_loop().run_in_executor(self._threads, context.run, begun)
        running.add_done_callback(done)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            patience.end()
            raise

    async def _turn(self, whose: tuple[str, ...]) -> None:
        """Wait until there is room for one more."""
        if self._has_room(whose):
            self._running[whose] += 1
            return
        mine = sum(one.whose == whose for one in self._line)
        if mine >= self._behind or len(self._line) >= self._waiting:
            raise self._busy(whose)
        waiting = _Waiting(whose, asyncio.get_running_loop().create_future())
        self._line.append(waiting)
        try:
            async with asyncio.timeout(self._wait):
                await asyncio.shield(waiting.turn)
        except BaseException as error:
            if waiting in self._line:
                self._line.remove(waiting)
            elif waiting.turn.done():  # it came just now, and is not taken
                self._ended(whose)
            if isinstance(error, TimeoutError):
                raise self._busy(whose) from error
            raise

    def _has_room(self, whose: tuple[str, ...]) -> bool:
        return self._running.total() < self._most and self._running[whose] < self._each

    def _ended(self, whose: tuple[str, ...]) -> None:
        """One less; let those go on who waited longest."""
        self._running[whose] -= 1
        if not self._running[whose]:
            del self._running[whose]
        for waiting in list(self._line):
            if self._has_room(waiting.whose):
                self._line.remove(waiting)
                self._running[waiting.whose] += 1
                waiting.turn.set_result(None)

    def _busy(self, whose: tuple[str, ...]) -> FhirError:
        if self._running[whose] >= self._each:
            text = f"At most {self._each} such requests of one client are worked on at once"
            return Throttled(text, _AGAIN, ((b"retry-after", b"%d" % _AGAIN),), False)
        return FhirError("transient", "The server works on too many such requests; ask again soon")
