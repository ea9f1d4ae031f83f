"""The self-test of a running server: in processes of its own, one at a time, watched from here.

https://docs.python.org/3/library/asyncio-subprocess.html
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from salus.selftest.lines import Cell, Done, Line, Plan, Planned, Trouble
from salus.selftest.scratch import clean_environment

MOST_SECONDS = 600.0  # for all suites
_LONGEST = 64 * 1024 * 1024  # bytes of one line
_STOP_SECONDS = 30.0
_read = msgspec.json.Decoder(Line).decode


@dataclass(slots=True)
class Progress:
    """One self-test: what is planned, and what came of it so far."""

    began: datetime
    suites: list[Planned] = field(default_factory=list)
    cells: dict[tuple[int, int], Cell] = field(default_factory=dict)
    done: Done | None = None
    trouble: str = ""

    @property
    def running(self) -> bool:
        return self.done is None and not self.trouble

    def heard(self, line: Line) -> None:
        match line:
            case Plan():
                self.suites = line.suites
            case Cell():
                self.cells[line.suite, line.test] = line
            case Done():
                self.done = line
            case Trouble():
                self.trouble = line.text


class SelfTest:
    """`last` is the one that runs, or ran last; None: there was none since the start."""

    def __init__(self) -> None:
        self.last: Progress | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._watching is not None and not self._watching.done()

    def start(self) -> None:
        """Begin one, unless one is under way."""
        if not self.running:
            self.last = Progress(datetime.now(UTC))
            self._watching = asyncio.create_task(self._watch(self.last))

    async def stop(self) -> None:
        """End what is under way: with this server its self-test ends."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    async def _watch(self, progress: Progress) -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "salus.selftest",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=clean_environment(),
            limit=_LONGEST,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(MOST_SECONDS):
                await _listen(child, progress)
        except TimeoutError:
            progress.trouble = f"It took more than {MOST_SECONDS:.0f} seconds"
        finally:
            if progress.running:
                progress.trouble = "It ended before all suites were run"
            await asyncio.shield(_end(child))


async def _listen(child: asyncio.subprocess.Process, progress: Progress) -> None:
    assert child.stdout is not None
    async for line in child.stdout:
        progress.heard(_read(line))


async def _end(child: asyncio.subprocess.Process) -> None:
    """Its input closes, upon which it tidies up; if it does not, it is killed."""
    assert child.stdin is not None
    child.stdin.close()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await child.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
