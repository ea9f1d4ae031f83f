"""An import that goes on: lines become batches, each with a key of its own, so that after a restart
nothing is written twice; what is refused is told with the number of its line.

https://hl7.org/fhir/R4/http.html#transaction, http://ndjson.org
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from msgspec.structs import replace

from conformance.json import encode, parse
from conformance.outcome import FhirError, Issue, outcome
from fhir_server.audit.event import Caller
from fhir_server.bulk import job as jobs
from fhir_server.bulk.imports import PIECE, keep_pieces
from fhir_server.bulk.job import BODY, ERRORS, TOLD, Job, Load, Progress, Source
from fhir_server.interaction import Interaction, Preferences
from fhir_server.server import Server
from fhir_server.storage.store import Transaction, Unavailable
from smart_auth.grant import Grant

LINES = 100  # of a batch
BYTES = 4 * 1024 * 1024  # of a batch, about
IN_VAIN = 10_000  # lines that became nothing: more, and most of all, and an import is given up
_ISSUES = 10  # that are told of one line
_PAUSE = 0.05  # seconds between two looks at a file that is being fetched
_ENTRY = re.compile(r"^Bundle\.entry\[\d+\]\.resource\b")
_GLUED = re.compile(rb"\}\s*\{")  # two resources, without a comma
_MINIMAL = Preferences("minimal")


class _Line(NamedTuple):
    """A resource that was read, with its place; or why it was not."""

    number: int
    resource: dict[str, Any] | None
    refusal: FhirError | None = None


@dataclass(slots=True)
class Importing:
    """An import that goes on. `fetching`: a file that is on its way."""

    server: Server
    job: Job
    revision: int
    grant: Grant
    fetching: asyncio.Task[int] | None = field(default=None)

    @classmethod
    async def resumed(cls, server: Server, job: Job, revision: int) -> Importing:
        """An import as it was left."""
        return cls(server, job, revision, job.grant.grant())

    @property
    def load(self) -> Load:
        assert self.job.load is not None
        return self.job.load

    async def advance(self) -> None:
        """A batch of lines, or a look at a file that is being fetched. Conflict when the job is
        gone; Unavailable."""
        progress = self.job.progress
        if progress.place >= len(self.load.sources):
            await self._keep(_done(progress), [])
            return
        source = self.load.sources[progress.place]
        if source.url and not progress.chunk:
            await self._fetch(source)
            return
        lines, at, ended = await self._lines(progress)
        if lines and (number := _number(progress)) >= self.server.core.bulk.import_lines:
            text = f"Input {progress.place + 1} has too many lines: none was read after {number}"
            progress, lines, ended = _noted(progress, text), [], True
        refused, counts = await self._batch(source, lines, at) if lines else ([], {})
        after = (at, _number(progress) + len(lines))
        made = replace(
            progress,
            after=after,
            work=progress.work + len(lines),
            failures=progress.failures + len(refused),
            counts=_added(progress.counts, counts),
        )
        if ended:
            made = replace(made, place=progress.place + 1, chunk=0, after=None)
        if given_up := _in_vain(made):
            text = f"The import was given up after {made.work} lines: most of them became nothing"
            made = _done(_noted(made, text))
        over = ended or given_up
        told = refused[: max(0, TOLD - progress.failures)]
        await self._keep(made, told, progress.place if over else None)

    async def _keep(
        self, progress: Progress, refused: list[bytes], read: int | None = None
    ) -> None:
        """Keep how far it has come with what was refused; forget a source (`read`) that was read
        to its end."""
        slices = {**progress.slices}
        number = slices.get(ERRORS, 0)
        if refused:
            slices[ERRORS] = number + 1
        progress = replace(progress, slices=slices)
        ended = self.server.core.clock() if progress.phase == "done" else None
        job = replace(self.job, progress=progress, ended=ended)
        seconds = self.server.core.bulk.seconds

        async def work(tx: Transaction) -> None:
            await jobs.write(tx, job, seconds, self.revision)
            if refused:
                await jobs.add(tx, job.id, ERRORS, number, b"".join(refused))
            if read is not None:
                await jobs.drop(tx, job.id, f"{BODY}{read}")

        await self.server.store.transaction(work, write=True)
        self.job, self.revision = job, self.revision + 1

    # --- fetching ---------------------------------------------------------------------------------

    async def _fetch(self, source: Source) -> None:
        """Begin to fetch a file, or see whether it has come."""
        fetch, place = self.server.core.bulk.fetch, self.job.progress.place
        if self.fetching is None:
            stream = fetch(source.url, self.server.core.limits.binary)
            self.fetching = asyncio.create_task(
                keep_pieces(self.server, self.job.id, place, stream)
            )
        done, _ = await asyncio.wait({self.fetching}, timeout=_PAUSE)
        if not done:
            return
        task, self.fetching, progress = self.fetching, None, self.job.progress
        try:
            task.result()
        except FhirError as error:
            text = f"Input {place + 1} could not be fetched: {error.issues[0].text}"
            issues = (*progress.issues, ("error", error.issues[0].code, text))
            await self._keep(replace(progress, issues=issues, place=place + 1), [], place)
            return
        await self._keep(replace(progress, chunk=1), [])

    # --- lines ------------------------------------------------------------------------------------

    async def _lines(self, progress: Progress) -> tuple[list[_Line], int, bool]:
        """The next lines, where the one after them begins, and whether there is none."""
        at, number = int((progress.after or (0,))[0] or 0), _number(progress)
        piece, of = at // PIECE, f"{BODY}{progress.place}"
        held, start = bytearray((await self._piece(of, piece))[at % PIECE :]), 0
        found: list[_Line] = []
        while len(found) < LINES and start < BYTES:
            end = held.find(b"\n", start)
            if end < 0:
                piece += 1
                more = await self._piece(of, piece)
                if not more or len(held) - start > self.server.core.limits.body:
                    if start < len(held):
                        found.append(self._line(number + len(found) + 1, bytes(held[start:])))
                    return found, at + len(held), True
                held += more
                continue
            found.append(self._line(number + len(found) + 1, bytes(held[start:end])))
            start = end + 1
        return found, at + start, False

    async def _piece(self, of: str, number: int) -> bytes:
        return await self.server.store.transaction(
            partial(jobs.slice_of, id=self.job.id, of=of, number=number)
        )

    def _line(self, number: int, data: bytes) -> _Line:
        """A line, read. An empty one counts and is nothing."""
        limits = self.server.core.limits
        if not data.strip():
            return _Line(number, None)
        try:
            if len(data) > limits.body:
                raise FhirError("too-long", f"A line has at most {limits.body} bytes")
            resource = parse(data, limits.depth)
            if not isinstance(resource.get("resourceType"), str):
                raise FhirError("structure", "A line is a resource, with its resourceType")
        except FhirError as error:
            return _Line(number, None, _in_line(error, data))
        return _Line(number, resource)

    # --- batches ----------------------------------------------------------------------------------

    async def _batch(
        self, source: Source, lines: list[_Line], at: int
    ) -> tuple[list[bytes], dict[str, int]]:
        """Write what the lines hold; what was refused, and how many of each type were not."""
        refused, asked = list[tuple[int, bytes]](), list[_Line]()
        for line in lines:
            error = line.refusal or _mismatch(source, line)
            if error is not None:
                refused.append((line.number, _told(line, error.issues)))
            elif line.resource is not None:
                asked.append(line)
        counts: dict[str, int] = {}
        if asked:
            answers = await self._performed(asked, at)
            for line, answer in zip(asked, answers, strict=True):
                if answer is None:
                    type = (line.resource or {})["resourceType"]
                    counts[type] = counts.get(type, 0) + 1
                else:
                    refused.append((line.number, _told(line, answer)))
        return [told for _, told in sorted(refused)], counts

    async def _performed(self, lines: list[_Line], at: int) -> list[list[Issue] | None]:
        """The issues of each line that was refused, None for the others. Unavailable."""
        bundle = {
            "resourceType": "Bundle",
            "type": "batch",
            "entry": [_entry(line.resource or {}) for line in lines],
        }
        once = f"import {self.job.id} {self.job.progress.place} {at}"
        # What is large is prepared apart, so that others are answered meanwhile.
        weight = sum(len(encode(line.resource)) for line in lines)
        asked = Interaction("batch", resource=bundle, prefer=_MINIMAL, once=once, weight=weight)
        site = urlsplit(self.server.core.base_url).netloc
        caller = Caller(self.grant, self.job.address or site, site)
        try:
            result = await self.server.perform(asked, caller)
        except FhirError as error:
            if error.status >= 500:
                raise Unavailable(str(error)) from error
            return [list(error.issues) for _ in lines]
        return [_issues(entry["response"]) for entry in parse(result.body)["entry"]]


def _number(progress: Progress) -> int:
    """How many lines of the source were read."""
    return int(progress.after[1] or 0) if progress.after else 0


def _in_vain(progress: Progress) -> bool:
    """Whether most lines, and many, were refused or empty. Such a file costs next to nothing to
    send, packed, and all the same to read and to tell of."""
    nothing = progress.work - sum(map(sum, progress.counts.values()))
    return nothing > IN_VAIN and 2 * nothing > progress.work


def _done(progress: Progress) -> Progress:
    """Its end; it is said how many more lines were refused than there are outcomes."""
    if progress.failures > TOLD:
        text = f"{progress.failures} lines were refused, of which the first {TOLD} are told"
        progress = _noted(progress, text)
    return replace(progress, phase="done")


def _noted(progress: Progress, text: str) -> Progress:
    return replace(progress, issues=(*progress.issues, ("error", "too-costly", text)))


def _mismatch(source: Source, line: _Line) -> FhirError | None:
    if line.resource is None or source.type in (None, line.resource["resourceType"]):
        return None
    return FhirError("value", f"This is no {source.type}, as its input says")


def _entry(resource: dict[str, Any]) -> dict[str, Any]:
    """A resource with an id keeps it: references to it stay true."""
    type, id = resource["resourceType"], resource.get("id")
    request = {"method": "POST", "url": type}
    if isinstance(id, str) and id:
        request = {"method": "PUT", "url": f"{type}/{id}"}
    return {"resource": resource, "request": request}


def _issues(response: dict[str, Any]) -> list[Issue] | None:
    """Why an entry was refused; None when it was not."""
    if response["status"][:1] == "2":
        return None
    found = response.get("outcome", {}).get("issue", [])
    return [
        Issue(
            each["severity"],
            each["code"],
            each.get("diagnostics", ""),
            next(iter(each.get("expression", ())), None),
        )
        for each in found
    ] or [Issue("error", "processing", f"Answered with {response['status']}")]


def _in_line(error: FhirError, data: bytes) -> FhirError:
    """What is wrong with the text of a line, whose place is a column only."""
    text = error.issues[0].text.replace(" at line 1, column ", " at column ")
    if _GLUED.search(data):
        text += "; a line holds one resource: curl keeps the lines of a file with --data-binary"
    return FhirError(error.issues[0].code, text)


def _told(line: _Line, issues: Sequence[Issue]) -> bytes:
    """An OperationOutcome that begins with the number of the line; its places are those of the
    line's resource, whatever Bundle it was written by."""
    type = (line.resource or {}).get("resourceType")
    told = [
        each._replace(
            text=f"Line {line.number}: {each.text}",
            expression=each.expression and _ENTRY.sub(str(type), each.expression),
        )
        for each in issues[:_ISSUES]
    ]
    return encode(outcome(told)) + b"\n"


def _added(counts: dict[str, tuple[int, ...]], more: dict[str, int]) -> dict[str, tuple[int, ...]]:
    made = {**counts}
    for type, count in more.items():
        made[type] = (sum(made.get(type, ())) + count,)
    return made
