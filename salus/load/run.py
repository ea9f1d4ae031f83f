"""One load: lines to requests to answers, several in flight where the order permits.

Seeds come first: until a line with a Patient is seen, Bundles go one after the other, because what
follows refers to them (https://hl7.org/fhir/R4/http.html#trules).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from salus.load.requests import Refused, Request, content, requests
from salus.load.sources import Line, LoadError, Unreadable, lines
from salus.load.targets import Answer, Target, Unauthorized, entry_answers, reasons

_TOLD = 3  # failures that are told at the end
_REASON = 500  # characters of their reasons
IN_FLIGHT = 4  # requests at once, after the seeds


class Failure(NamedTuple):
    """What was not stored, and why. `entry` counts from 0 within the line's Bundle."""

    file: str
    line: int
    entry: int | None
    status: int | None
    reasons: list[str]
    content: msgspec.Raw


@dataclass(slots=True)
class Report:
    """What a load did; `seconds` of wall-clock time. `stopped`: why it ended before its end;
    `unreadable`: a sentence for each file that could not be read to its end; `first`: some of the
    failures, with their reasons."""

    files: int = 0
    lines: int = 0
    resources: int = 0
    failures: int = 0
    seconds: float = 0.0
    stopped: str | None = None
    interrupted: bool = False
    unreadable: list[str] = field(default_factory=list)
    first: list[str] = field(default_factory=list)

    @property
    def begun(self) -> bool:
        """Whether anything was answered."""
        return bool(self.resources or self.failures)

    @property
    def complete(self) -> bool:
        return not (self.failures or self.stopped or self.interrupted or self.unreadable)


class Load(NamedTuple):
    """How to load: where to, how many requests at once, where failures are written, and who is
    told of progress: bytes read since the last call, and resources stored so far."""

    target: Target
    failed: Path
    in_flight: int = IN_FLIGHT
    progress: Callable[[int, int], None] = lambda read, stored: None


async def load(paths: Sequence[Path], how: Load) -> Report:
    """Load files in order. Failures go to a file of their own, which is itself loadable; it exists
    afterwards only if there are any. Cancelling it ends it with what was done so far. LoadError
    when failures could not be written, or the server admits nothing."""
    with _FailureFile(how.failed) as failures:
        run = _Run(how, failures)
        began = time.perf_counter()
        try:
            for path in paths:
                run.report.files += 1
                try:
                    await run.file(path)
                except Unreadable as error:
                    run.report.unreadable.append(str(error))
            await run.drain()
        except LoadError as error:
            if isinstance(error, Unauthorized) and not run.report.begun:
                raise
            run.report.stopped = str(error)
        except asyncio.CancelledError:  # Ctrl-C
            run.report.interrupted = True
        finally:
            await run.abandon()
            run.report.seconds = time.perf_counter() - began
        return run.report


@dataclass(slots=True)
class _Run:
    how: Load
    failed: _FailureFile
    report: Report = field(default_factory=Report)
    flying: dict[asyncio.Task[None], str] = field(default_factory=dict)
    patient_seen: bool = False

    async def file(self, path: Path) -> None:
        for line in lines(path, lambda read: self.how.progress(read, self.report.resources)):
            self.report.lines += 1
            try:
                asked = requests(line)
            except Refused as error:
                self.fail(line, None, None, [str(error)], content(line.data))
                continue
            for request in asked:
                await self.start(line, request)

    async def start(self, line: Line, request: Request) -> None:
        if request.patient:
            self.patient_seen = True
        in_order = request.ordered and not self.patient_seen
        if in_order or (request.path and request.path in self.flying.values()):
            await self.drain()
        while len(self.flying) >= self.how.in_flight:
            await self.land()
        task = asyncio.create_task(self.send(line, request))
        self.flying[task] = request.path if request.method == "PUT" else ""
        if in_order:
            await self.drain()

    async def land(self) -> None:
        """Wait until something in flight has arrived. LoadError from its target."""
        done, _ = await asyncio.wait(self.flying, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            del self.flying[task]
            task.result()

    async def drain(self) -> None:
        while self.flying:
            await self.land()

    async def abandon(self) -> None:
        for task in self.flying:
            task.cancel()
        for task in self.flying:
            with suppress(asyncio.CancelledError, LoadError):
                await task

    async def send(self, line: Line, request: Request) -> None:
        answer = await self.how.target.send(request)
        if not 200 <= answer.status < 300:
            self.fail(line, None, answer.status, reasons(answer), request.body)
        elif request.methods is None:
            self.report.resources += 1
        else:
            self.entries(line, request, request.methods, answer)
        self.how.progress(0, self.report.resources)

    def entries(
        self, line: Line, request: Request, methods: tuple[str, ...], answer: Answer
    ) -> None:
        told = entry_answers(answer)
        if len(told) != len(methods):
            why = f"{len(methods)} entries were sent, {len(told)} answered"
            self.fail(line, None, answer.status, [why], request.body)
            return
        for number, (method, each) in enumerate(zip(methods, told, strict=True)):
            if not 200 <= each.status < 300:
                content = _entry_of(request.body, number)
                self.fail(line, number, each.status, each.reasons, content)
            elif method in ("POST", "PUT", "PATCH"):
                self.report.resources += 1

    def fail(
        self, line: Line, entry: int | None, status: int | None, why: list[str], content: bytes
    ) -> None:
        self.report.failures += 1
        if len(self.report.first) < _TOLD:
            at = f"{line.path}, line {line.number}{'' if entry is None else f', entry {entry}'}"
            self.report.first.append(f"{at}: {' '.join(why)[:_REASON]}")
        self.failed.add(Failure(str(line.path), line.number, entry, status, why, _raw(content)))


def _entry_of(body: bytes, number: int) -> bytes:
    """A batch of the one entry that failed."""
    entries = msgspec.json.decode(body, type=_Entries).entry
    return b'{"resourceType":"Bundle","type":"batch","entry":[' + bytes(entries[number]) + b"]}"


class _Entries(msgspec.Struct):
    entry: list[msgspec.Raw]


def _raw(content: bytes) -> msgspec.Raw:
    """The content as it is, or as a string where it is no JSON."""
    try:
        msgspec.json.decode(content, type=msgspec.Raw)
    except msgspec.DecodeError:
        return msgspec.Raw(msgspec.json.encode(content.decode("utf-8", "replace")))
    return msgspec.Raw(content.replace(b"\n", b" ").replace(b"\r", b" "))


class _FailureFile:
    """Opened with the first failure, readable by its owner only: it holds what was not stored."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None

    def __enter__(self) -> _FailureFile:
        """Made and removed, so that a place where nothing can be written is said at once."""
        try:
            os.close(self._make())
            self._path.unlink()
        except OSError as error:
            raise LoadError(
                f"{self._path} cannot hold what fails ({error.strerror}): "
                "name another file with --failed"
            ) from None
        return self

    def add(self, failure: Failure) -> None:
        if self._file is None:
            self._file = os.fdopen(self._make(), "wb")
        self._file.write(msgspec.json.encode(failure._asdict()) + b"\n")
        self._file.flush()

    def _make(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def sizes(paths: Sequence[Path]) -> Iterator[int]:
    """Bytes on disk of each file, for the progress bar."""
    return (path.stat().st_size for path in paths)
