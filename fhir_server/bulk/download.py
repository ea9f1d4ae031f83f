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
from fhir_server.bulk import blocks
from fhir_server.bulk import job as jobs
from fhir_server.bulk.asked import elements_of
from fhir_server.bulk.blocks import Block
from fhir_server.bulk.job import BLOCKS, DELETED, ERRORS, File, Job
from fhir_server.bulk.pace import Pace
from fhir_server.bulk.packing import gzipped
from fhir_server.bulk.standing import open_to, require_standing, still
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
_REST = 0.5  # seconds of rest for a second of work, at least
ERROR_FILE = "errors-1.ndjson"
_VARY = ("vary", "accept-encoding")


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
        described=f"{count} {file.type.removeprefix('-')} exported",
    )


async def performed(
    server: Server, asked: Interaction, caller: Caller, packs: bool = False
) -> Result:
    """The answer with the stream of its lines, in gzip where the client takes that (`packs`), once
    it is in the audit."""
    result = await server.perform(asked, caller)

    async def again(tx: Transaction) -> tuple[Job, File | None]:
        return await _file(Step(tx, caller.grant, server.core), asked)

    job, file = await server.store.transaction(again)
    stream = _lines(server, caller.grant, job, file)
    if not packs:
        return replace(result, stream=stream, headers=(*result.headers, _VARY))
    headers = (*result.headers, _VARY, ("content-encoding", "gzip"))
    return replace(result, stream=gzipped(stream), headers=headers)


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
    count, owners, pace = 0, dict[str, None](), Pace(_REST)
    for number in range(file.first, file.first + file.slices):
        content = await jobs.slice_of(step.tx, job.id, file.of, number)
        sequences = blocks.sequences(file.of, content)
        for start in range(0, len(sequences), _BARE):
            part, began = sequences[start : start + _BARE], monotonic()
            for version in await step.tx.numbered(part, bodies=False):
                count += 1
                if version.owner is not None:
                    owners[version.owner] = None
            await pace.rest(monotonic() - began)
    return count, owners


async def missing(step: Step, job: Job) -> dict[str, int]:
    """By the name of each file how many of its lines are gone for good, where the caller is told
    numbers. Nothing is looked at when nothing was erased since the job began."""
    if not await step.tx.notices(job.leaf - 1):
        return {}
    found = {}
    for file in jobs.files(job, step.core.bulk.lines):
        if file.of not in (ERRORS, jobs.NAMED) and open_to(step, job, file):
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
    pace, last = Pace(_REST), ""
    for number in range(file.first, file.first + file.slices):
        asked = partial(jobs.slice_of, id=job.id, of=file.of, number=number)
        for block in _blocks(file, await server.store.transaction(asked)):
            for start in range(0, len(block.sequences), PAGE):
                few, began = block.sequences[start : start + PAGE], monotonic()
                look = partial(_read, server.core, grant, few, block.patient)
                versions, patient = await server.store.transaction(look)
                worked = monotonic() - began
                if file.of == BLOCKS and versions and patient != last:
                    last = patient
                    yield _header(patient)
                async for part in _parts(server, job, file, versions):
                    yield part
                await pace.rest(worked)


def _blocks(file: File, content: bytes) -> list[Block]:
    """What a slice holds; without blocks, as one that has no patient."""
    return (
        blocks.unpacked(content) if file.of == BLOCKS else [Block(_NOBODY, jobs.unpacked(content))]
    )


_NOBODY = -1


async def _parts(
    server: Server, job: Job, file: File, versions: Sequence[Version]
) -> AsyncIterator[bytes]:
    if file.of == DELETED:
        yield _bundle(versions)
        return
    plain = [each for each in versions if each.type != "Binary"]
    yield b"".join([_line(server.core, job, each) for each in plain])
    for version in versions:
        if version.type == "Binary":
            async for piece in _binary(server, version):
                yield piece


def _header(patient: str) -> bytes:
    """What a block begins with."""
    value = {"name": "header", "valueReference": {"reference": patient}}
    return encode({"resourceType": "Parameters", "parameter": [value]}) + b"\n"


async def _read(
    core: Core, grant: Grant, sequences: Sequence[int], patient: int, tx: Transaction
) -> tuple[Sequence[Version], str]:
    """The versions that are there, and may be had, as they leave; whose block they are in."""
    step = Step(tx, grant, core)
    versions = await still(step, await tx.numbered(sequences))
    name = "" if patient == _NOBODY or not versions else await _patient(tx, patient, versions)
    if versions and versions[0].type == "Binary":
        return versions, name
    return await sight.reveal(step, versions), name


async def _patient(tx: Transaction, sequence: int, versions: Sequence[Version]) -> str:
    """Whose block it is: of the Patient of that version; where there was none, of the owner."""
    for version in await tx.numbered([sequence], bodies=False):
        return f"{version.type}/{version.id}"
    return next((each.owner for each in versions if each.owner is not None), "")


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
