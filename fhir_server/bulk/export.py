"""$export: of everything, of all patients, of a Group; begun here, answered later.

https://hl7.org/fhir/uv/bulkdata/export.html
"""

from __future__ import annotations

from msgspec.structs import replace

from conformance.outcome import FhirError
from fhir_server import access
from fhir_server.bulk import job as jobs
from fhir_server.bulk.asked import GROUP, may_export, wanted
from fhir_server.bulk.job import Held, Job, Load, Wanted
from fhir_server.bulk.members import group, require_patients
from fhir_server.core import Operation, Step
from fhir_server.interaction import Interaction, Result, query_of
from fhir_server.metering import Throttled
from fhir_server.owners import PATIENT

_GUIDE = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition"


_NAMED = 10  # jobs in the text of a refusal
_WHERE = frozenset({(None, False), (PATIENT, False), (GROUP, True)})


async def run(step: Step, asked: Interaction) -> Result:
    """202 with the place of its status. FhirError 400, 403, 404, 429."""
    if asked.type == GROUP and asked.id is None:
        raise FhirError("required", "$export is of one Group: Group/[id]/$export", status=400)
    if (asked.type, asked.id is not None) not in _WHERE:
        raise FhirError("not-found", "$export is of the server, of Patient or of a Group")
    require_async(asked, "export")
    if asked.type == GROUP and asked.id and not may_export(step, GROUP):
        raise access.refusal("$export", GROUP)
    found = wanted(step, asked)
    if asked.id:
        named = await group(step, found, asked.id, step.tx.now)
        found = _with_group(found, named)
    elif found.patients and not found.lenient:
        await require_patients(step, found.patients)
    result = await begin(step, asked, "export", found)
    touched = ((GROUP, asked.id, found.group[1]),) if asked.id and found.group else ()
    patients = tuple(f"{PATIENT}/{each}" for each in found.patients or ())
    return replace(result, touched=touched, patients=patients)


def _with_group(found: Wanted, named: tuple[str, int]) -> Wanted:
    return replace(found, group=named)


def require_async(asked: Interaction, name: str) -> None:
    """FhirError 400 when the client would wait for the answer."""
    if not asked.prefer.asynchronous:
        text = f"${name} answers later: send `Prefer: respond-async`"
        raise FhirError("invalid", text, status=400)


async def begin(
    step: Step,
    asked: Interaction,
    kind: str,
    found: Wanted | None = None,
    load: Load | None = None,
    id: str | None = None,
) -> Result:
    """Keep a new job; 202 with the place of its status. FhirError 429."""
    core, tx = step.core, step.tx
    mine = jobs.whose(step.grant)
    every = await jobs.every(tx)
    own = sum(each.whose == mine for each in every)
    if own >= core.bulk.jobs or len(every) >= core.bulk.total:
        raise _full(step, every, [each for each in every if each.whose == mine])
    newest = await tx.history(None, None, 1)
    made = Job(
        id or jobs.new_id(),
        kind,
        mine,
        Held.of(step.grant),
        "",
        _request(step, asked),
        tx.now,
        newest[0].sequence if newest else 0,
        await tx.size(),
        found,
        load,
    )
    await jobs.write(tx, made, core.bulk.seconds, 0)
    core.bulk.begun.set()
    return Result(202, location=f"_bulk/{made.id}", described="begun")


def _full(step: Step, every: list[Job], own: list[Job]) -> Throttled:
    """There are as many jobs as may be: which of them the caller can end, and when one is forgotten
    without that."""
    bulk = step.core.bulk
    counted, whom, setting = every, "this server", "SALUS_BULK_TOTAL"
    if len(own) >= bulk.jobs:
        counted, whom, setting = own, "this client", "SALUS_BULK_JOBS"
    ended = [each.ended for each in counted if each.ended is not None]
    left = min(ended) + bulk.seconds * jobs.SECOND - step.tx.now if ended else 0
    wait = max(1, -(-left // jobs.SECOND)) if ended else bulk.seconds
    text = f"There are as many exports and imports of {whom} as may be ({setting}). "
    if own:
        text += "DELETE one that is done with: "
        text += ", ".join(_named(step, each) for each in sorted(own, key=_ended)[:_NAMED])
    else:
        text += "None of them is yours"
    return Throttled(text, wait, ((b"retry-after", b"%d" % wait),), False)


def _ended(job: Job) -> tuple[bool, int]:
    """The order of jobs: finished ones first, the oldest before."""
    return job.ended is None, job.ended or job.began


def _named(step: Step, job: Job) -> str:
    how = "running" if job.ended is None else "done"
    return f"{step.core.base_url}/_bulk/{job.id} ({job.kind}, {how})"


def _request(step: Step, asked: Interaction) -> str:
    """The URL of the kick-off."""
    path = "/".join(each for each in (asked.type, asked.id, f"${asked.operation}") if each)
    query = query_of(asked.parameters)
    return f"{step.core.base_url}/{path}" + (f"?{query}" if query else "")


EXPORT = Operation(
    "export",
    frozenset({"system", "type", "instance"}),
    frozenset(),
    True,
    f"{_GUIDE}/export",
    run,
    own=True,
)
