"""The files of a job: the stored versions that it lists, line by line, as they are asked for. There
is no copy of anybody's data in between.

https://hl7.org/fhir/uv/bulkdata/export.html#bulk-data-output-file-request, http://ndjson.org
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from time import monotonic

from msgspec.structs import replace

from conformance.json import encode, parse
from conformance.outcome import FhirError, Issue, outcome
from fhir_server import binary, sight
from fhir_server.audit.event import Caller
from fhir_server.bulk import job as jobs
from fhir_server.bulk.asked import elements_of
from fhir_server.bulk.job import DELETED, ERRORS, File, Job
from fhir_server.bulk.pace import Pace
from fhir_server.bulk.standing import require_standing, still
from fhir_server.bulk.state import NDJSON
from fhir_server.core import Core, Operation, Step
from fhir_server.formats import Shape, shaped
from fhir_server.interaction import Interaction, Result
from fhir_server.server import Server
from fhir_server.spool import spooled_in
from fhir_server.storage.store import Transaction, Version
from smart_auth.grant import Grant

FILES = frozenset({"bulk-file"})  # operations whose answers are streams of lines
PAGE = 25  # versions that are read at once
_BARE = 100  # versions that are looked at at once, without their bodies
_REST = 0.1  # seconds of rest for a second of work, at least
ERROR_FILE = "errors-1.ndjson"


async def run(step: Step, asked: Interaction) -> Result:
    """200, its lines to follow; the audit names whose they are. FhirError 403, 404."""
    job, file = await _file(step, asked)
    require_standing(job, step.grant)
    if file is None:
        return Result(200, media_type=NDJSON, described="errors of a job")
    count, owners = await _outline(step, job, file)
    return Result(
        200,
        media_type=NDJSON,
        patients=tuple(owners),
        described=f"{count} {file.of.removeprefix('-')} exported",
    )


async def performed(server: Server, asked: Interaction, caller: Caller) -> Result:
    """The answer with the stream of its lines, once it is in the audit."""
    result = await server.perform(asked, caller)

    async def again(tx: Transaction) -> tuple[Job, File | None]:
        return await _file(Step(tx, caller.grant, server.core), asked)

    job, file = await server.store.transaction(again)
    return replace(result, stream=_lines(server, caller.grant, job, file))


async def _file(step: Step, asked: Interaction) -> tuple[Job, File | None]:
    """The job, and the file of it that is asked for; None: that of its errors. FhirError 404."""
    job = await jobs.own(step.tx, asked.id, step.grant)
    if asked.type is None and job.ended is not None:
        if asked.version == ERROR_FILE:
            return job, None
        for each in jobs.files(job, step.core.bulk.lines):
            if each.name == asked.version and each.of != ERRORS:
                return job, each
    raise FhirError("not-found", "There is no such file (any more)")


# --- what a file is of ---------------------------------------------------------------------------


async def _outline(step: Step, job: Job, file: File) -> tuple[int, dict[str, None]]:
    """How many versions of a file are still there, and whose they are."""
    count, owners, pace = 0, dict[str, None](), Pace(0.0)
    for number in range(file.first, file.first + file.slices):
        sequences = jobs.unpacked(await jobs.slice_of(step.tx, job.id, file.of, number))
        for start in range(0, len(sequences), _BARE):
            part, began = sequences[start : start + _BARE], monotonic()
            for version in await step.tx.numbered(part, bodies=False):
                count += 1
                if version.owner is not None:
                    owners[version.owner] = None
            await pace.rest(monotonic() - began)
    return count, owners


async def missing(step: Step, job: Job) -> dict[str, int]:
    """By the name of each file how many of its lines are gone for good. Nothing is looked at when
    nothing was erased since the job began."""
    if not await step.tx.notices(job.leaf - 1):
        return {}
    found = {}
    for file in jobs.files(job, step.core.bulk.lines):
        if file.of not in (ERRORS, jobs.NAMED):
            count, _ = await _outline(step, job, file)
            if count < file.count:
                found[file.name] = file.count - count
    return found


# --- lines ---------------------------------------------------------------------------------------


async def _lines(server: Server, grant: Grant, job: Job, file: File | None) -> AsyncIterator[bytes]:
    if file is None:
        async for part in _errors(server, grant, job):
            yield part
        return
    pace = Pace(_REST)
    for number in range(file.first, file.first + file.slices):
        asked = partial(jobs.slice_of, id=job.id, of=file.of, number=number)
        sequences = jobs.unpacked(await server.store.transaction(asked))
        for start in range(0, len(sequences), PAGE):
            few = sequences[start : start + PAGE]
            began = monotonic()
            versions = await server.store.transaction(partial(_read, server.core, grant, few))
            worked = monotonic() - began
            if file.of == DELETED:
                yield _bundle(versions)
            elif file.of == "Binary":
                for version in versions:
                    async for piece in _binary(server, version):
                        yield piece
            else:
                yield b"".join([_line(server.core, job, each) for each in versions])
            await pace.rest(worked)


async def _read(
    core: Core, grant: Grant, sequences: Sequence[int], tx: Transaction
) -> Sequence[Version]:
    """The versions that are there, and may be had, as they leave."""
    step = Step(tx, grant, core)
    versions = await still(step, await tx.numbered(sequences))
    if versions and versions[0].type == "Binary":
        return versions
    return await sight.reveal(step, versions)


def _line(core: Core, job: Job, version: Version) -> bytes:
    """One resource: its stored bytes, but for what `_elements` leaves out. The URL of an attachment
    that is here is absolute, as the guide asks."""
    body = version.body
    if job.wanted is not None and job.wanted.elements:
        elements = elements_of(version.type, job.wanted.elements)
        if elements:
            body = encode(shaped(parse(body), Shape(None, elements), core.definitions))
    if _RELATIVE in body:
        body = body.replace(_RELATIVE, b'"url":"%s/Binary/' % core.base_url.encode())
    return body + b"\n"


_RELATIVE = b'"url":"Binary/'  # within a string its quotes would be escaped


async def _binary(server: Server, version: Version) -> AsyncIterator[bytes]:
    """A Binary, however large."""
    resource = parse(version.body)
    spooled = spooled_in(resource)
    if spooled is None:
        yield version.body + b"\n"
        return
    async for piece in binary.whole(server, resource, spooled):
        yield piece
    yield b"\n"


def _bundle(versions: Sequence[Version]) -> bytes:
    """A transaction that deletes what was deleted."""
    entries = [
        {"request": {"method": "DELETE", "url": f"{each.type}/{each.id}"}} for each in versions
    ]
    if not entries:
        return b""
    return encode({"resourceType": "Bundle", "type": "transaction", "entry": entries}) + b"\n"


async def _errors(server: Server, grant: Grant, job: Job) -> AsyncIterator[bytes]:
    """An OperationOutcome for each thing that went wrong."""

    async def gone(tx: Transaction) -> dict[str, int]:
        return await missing(Step(tx, grant, server.core), job)

    for severity, code, text in job.progress.issues:
        yield _outcome(Issue(severity, code, text))
    for name, count in (await server.store.transaction(gone)).items():
        text = f"{count} resources of {name} were erased since: they are left out"
        yield _outcome(Issue("warning", "deleted", text))
    for number in range(job.progress.slices.get(ERRORS, 0)):
        of = partial(jobs.slice_of, id=job.id, of=ERRORS, number=number)
        yield await server.store.transaction(of)


def _outcome(issue: Issue) -> bytes:
    return encode(outcome([issue])) + b"\n"


FILE = Operation("bulk-file", frozenset({"instance"}), frozenset(), False, "", run, own=True)
