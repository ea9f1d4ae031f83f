"""How far a job is; its manifest once it is done; and that it is done with.

https://hl7.org/fhir/uv/bulkdata/export.html#bulk-data-status-request
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import msgspec

from conformance.json import encode
from conformance.outcome import FhirError
from fhir_server.bulk import job as jobs
from fhir_server.bulk.download import ERROR_FILE, missing
from fhir_server.bulk.job import BLOCKS, DELETED, ERRORS, TOLD, File, Job
from fhir_server.bulk.standing import open_to, require_standing
from fhir_server.core import Operation, Step
from fhir_server.interaction import Interaction, Result
from fhir_server.metering import Throttled
from fhir_server.owners import PATIENT
from fhir_server.times import http_date, instant

_SOONEST, _LATEST = 1, 60  # seconds after which a client is told to ask again
_POLLED = 10_000  # jobs of which it is remembered when they were asked about


async def run(step: Step, asked: Interaction) -> Result:
    """202 while it runs, 200 with the manifest when it is done. FhirError 403, 404, 429, 500."""
    job = await _own(step, asked)
    require_standing(job, step.grant)
    if job.failed:
        raise FhirError("exception", job.failed, status=500)
    if job.ended is None:
        return _running(step, job)
    expires = http_date(job.ended + step.core.bulk.seconds * jobs.SECOND)
    return Result(
        200,
        encode(await _manifest(step, job)),
        "application/json",
        headers=(("expires", expires),),
        described="manifest",
    )


async def _own(step: Step, asked: Interaction) -> Job:
    if asked.type is not None:
        raise FhirError("not-found", "There is no such job (any more)")
    return await jobs.own(step.tx, asked.id, step.grant)


def _running(step: Step, job: Job) -> Result:
    """202, unless it was asked too soon after the last time. Throttled."""
    age = (step.core.clock() - job.began) // jobs.SECOND
    wait, now, polled = min(max(_SOONEST, age // 10), _LATEST), monotonic(), step.core.bulk.polled
    due = polled.get(job.id, 0.0)
    if now < due:
        soon = int(due - now) + 1
        text = f"The status was asked for a moment ago: ask again in {soon} s, as Retry-After says"
        raise Throttled(text, soon, ((b"retry-after", b"%d" % soon),), False)
    if len(polled) >= _POLLED:
        polled.clear()
    polled[job.id] = now + wait / 4
    progress = job.progress
    found = sum(sum(counts) for of, counts in progress.counts.items() if of != ERRORS)
    text = f"{progress.work} resources looked at, {found} to export"
    if job.load is not None:
        text = f"{progress.work} lines read, {progress.failures} refused"
    headers = (("x-progress", text), ("retry-after", str(wait)))
    return Result(202, headers=headers, described="running")


async def _manifest(step: Step, job: Job) -> dict[str, Any]:
    """https://hl7.org/fhir/uv/bulkdata/export.html#response---complete-status"""
    base = f"{step.core.base_url}/_bulk/{job.id}"
    gone = await missing(step, job)
    output, deleted = list[dict[str, Any]](), list[dict[str, Any]]()
    if job.load is not None:
        counts = job.progress.counts.items()
        output = [{"type": type, "count": sum(each)} for type, each in sorted(counts)]
    for file in jobs.files(job, step.core.bulk.lines):
        count = file.count - gone.get(file.name, 0)
        if file.of == ERRORS or count == 0:
            continue
        url = f"{base}/{file.name}"
        if file.of == DELETED:
            deleted.append({"type": "Bundle", "url": url})
        else:
            output.append(_item(file, base, count if open_to(step, job, file) else None))
    errors = len(job.progress.issues) + len(gone) + min(job.progress.failures, TOLD)
    error = [{"type": "OperationOutcome", "url": f"{base}/{ERROR_FILE}", "count": errors}]
    open_to_all = job.grant.unrestricted and not job.grant.client and not job.grant.id
    by = {"outputOrganizedBy": PATIENT} if job.wanted and job.wanted.organized else {}
    return {
        "transactionTime": instant(job.began),
        "request": job.request,
        "requiresAccessToken": not open_to_all,
        **by,
        "output": output,
        "deleted": deleted,
        "error": error if errors else [],
    }


def _item(file: File, base: str, count: int | None) -> dict[str, Any]:
    """A file of the output: of one type, or of blocks, whose headers are not counted."""
    item: dict[str, Any] = {"url": f"{base}/{file.name}"}
    if count is not None:
        item["count"] = count
    if file.of != BLOCKS:
        return {"type": file.type, **item}
    if file.parted:
        following = msgspec.structs.replace(file, number=file.number + 1)
        item["continuesInFile"] = f"{base}/{following.name}"
    return item


async def forget(step: Step, asked: Interaction) -> Result:
    """202: the job and its list are gone. FhirError 403, 404."""
    job = await _own(step, asked)
    require_standing(job, step.grant)
    await jobs.remove(step.tx, job.id)
    step.core.bulk.polled.pop(job.id, None)
    return Result(202, described="forgotten")


STATUS = Operation("bulk-status", frozenset({"instance"}), frozenset(), False, "", run, own=True)
DELETE = Operation("bulk-delete", frozenset({"instance"}), frozenset(), True, "", forget, own=True)
