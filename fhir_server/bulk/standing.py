"""Whether who asks about a job now may have what it was made for: the same client and user, under a
grant that opens no less than the one that asked.

https://hl7.org/fhir/uv/bulkdata/authorization.html
"""

from __future__ import annotations

from collections.abc import Sequence

from conformance.outcome import FhirError
from fhir_server import access, sight
from fhir_server.bulk.job import BLOCKS, DELETED, File, Job
from fhir_server.core import Step
from fhir_server.storage.store import EVERYTHING, Version
from smart_auth.grant import Grant, Scope

_LESS = (
    "This access token opens less than the one that asked for this job; ask with the same scopes, "
    "or begin a new one"
)


def require_standing(job: Job, now: Grant) -> None:
    """FhirError 403 when the grant of now opens less than the one that the job was begun under."""
    then = job.grant.grant()
    if now.unrestricted:
        return
    if then.unrestricted or not _same_people(access.limit(then), access.limit(now)):
        raise FhirError("forbidden", _LESS)
    held = access.in_force(now)
    if not all(any(_opens(mine, asked) for mine in held) for asked in _asked(job, then)):
        raise FhirError("forbidden", _LESS)


def _asked(job: Job, then: Grant) -> list[Scope]:
    """The scopes that the job lives by."""
    types = set(job.wanted.types) if job.wanted else {access.ANY}
    return [
        each
        for each in access.in_force(then)
        if each.type in types or each.type == access.ANY or access.ANY in types
    ]


def _same_people(then: frozenset[str] | None, now: frozenset[str] | None) -> bool:
    """Whether a limit to patients is none, where none was. Fewer of them are left out one by one
    (`still`); others than before are another matter."""
    if then is None or now is None:
        return now is None
    return bool(now & then) or not then


def _opens(mine: Scope, asked: Scope) -> bool:
    """Whether one scope opens all that another does, as far as it is needed."""
    return (
        mine.context == asked.context
        and mine.type in (asked.type, access.ANY)
        and set(mine.letters) >= set(asked.letters) & set("rscu")
        and set(mine.query) <= set(asked.query)
    )


def open_to(step: Step, job: Job, file: File) -> bool:
    """Whether nothing of the types in a file is hidden from the caller. Where something may be, it
    is not told how many there were: what is hidden is like what is not there."""
    types = [file.type]
    if file.of in (BLOCKS, DELETED):
        types = [*job.wanted.types] if job.wanted else []
    return all(
        access.visible(step.core, step.grant, type, letter) is EVERYTHING
        for type in types
        for letter in "rs"
    )


async def still(step: Step, versions: Sequence[Version]) -> list[Version]:
    """Those of an export's versions that the caller may have now, as they were and as they are."""
    return [each for each in versions if await _may(step, each)]


async def _may(step: Step, version: Version) -> bool:
    for letter in "rs":
        if access.visible(step.core, step.grant, version.type, letter) is EVERYTHING:
            continue
        seen = await sight.version(step, version.type, version.id, version.number, letter)
        if seen is None:
            return False
    return True
