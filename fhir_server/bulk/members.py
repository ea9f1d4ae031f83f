"""Whose data an export is of: everybody's, all patients', or that of a Group's members.

https://hl7.org/fhir/uv/bulkdata/export.html#endpoint---group-of-patients, https://hl7.org/fhir/R4/group.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Any, NamedTuple

from conformance.json import parse
from conformance.outcome import FhirError
from fhir_server import access, sight
from fhir_server.bulk.asked import GROUP
from fhir_server.bulk.job import Job, Wanted
from fhir_server.core import Step
from fhir_server.owners import PATIENT, naming
from fhir_server.search import dates
from fhir_server.search.ranges import any_of
from fhir_server.search.references import link, literal
from fhir_server.storage.store import EVERYTHING, Condition, Match, Query, Version

CHUNK = 100  # patients that are asked for at once
MANY = 2_000  # patients beyond which everything is looked at instead


class Whose(NamedTuple):
    """`patients`: ids (None: all), `among`: as a set; `everybody`: also what is no patient's."""

    patients: tuple[str, ...] | None = None
    everybody: bool = False
    among: frozenset[str] | None = None

    def chunks(self) -> list[tuple[str, ...]]:
        """The patients that are asked for one part after the other; none: all at once."""
        if self.patients is None or len(self.patients) > MANY:
            return [()]
        return [self.patients[i : i + CHUNK] for i in range(0, len(self.patients), CHUNK)]

    def query(self, step: Step, type: str, chunk: Sequence[str] = ()) -> Query:
        """The resources of a type that are these patients' (none: of all in question)."""
        if self.everybody:
            return EVERYTHING
        ids = chunk or self.patients
        if type == PATIENT:
            return EVERYTHING if ids is None else access.with_ids(ids)
        keys = sorted(naming(type, step.core.index))
        if ids is None:
            theirs: list[Query] = [
                Match(key, "link", (Condition("system", "eq", PATIENT),)) for key in keys
            ]
            return any_of(theirs)
        return any_of([link(key, (PATIENT,), ids) for key in keys])

    async def has(self, step: Step, version: Version) -> bool:
        """Whether a version, that was found without asking whose it is, is in question."""
        if self.everybody:
            return True
        if version.type == PATIENT:
            return self.among is None or version.id in self.among
        if version.owner is not None:
            return self.among is None or version.owner.removeprefix(_PREFIX) in self.among
        query = self.query(step, version.type)
        return await sight.holds(step, version, entries(step, version), query)


_PREFIX = f"{PATIENT}/"
EVERYBODY = Whose(everybody=True)
ALL_PATIENTS = Whose()


def of_these(ids: tuple[str, ...]) -> Whose:
    """What is of these patients."""
    return Whose(ids, among=frozenset(ids))


def entries(step: Step, version: Version) -> Any:
    """What a version can be searched by, extracted anew."""
    return step.core.index.entries(parse(version.body))


async def whose_of(step: Step, job: Job) -> Whose:
    """Whose data a job exports, as its Group was when it began."""
    wanted = job.wanted
    assert wanted is not None
    if wanted.level == "system":
        return EVERYBODY
    if wanted.group is None:
        return ALL_PATIENTS if wanted.patients is None else of_these(wanted.patients)
    version = await step.tx.get(GROUP, *wanted.group)
    if version is None or version.deleted:
        return of_these(())
    found = members(parse(version.body), step, job.began)
    if wanted.patients is not None:
        return of_these(tuple(each for each in wanted.patients if each in set(found)))
    return of_these(found)


async def group(step: Step, wanted: Wanted, id: str, now: int) -> tuple[str, int]:
    """The id and version of a Group that the caller may read. FhirError 404, 400 for patients who
    are no members."""
    version = await sight.current(step, GROUP, id, "r")
    if version is None or version.deleted:
        raise FhirError("not-found", "There is no such Group")
    found = set(members(parse(version.body), step, now))
    if wanted.patients is not None and not wanted.lenient and not found >= set(wanted.patients):
        raise FhirError("value", "patient names somebody who is no member of the Group", status=400)
    return id, version.number


async def require_patients(step: Step, ids: Iterable[str]) -> None:
    """FhirError 400 where one of them is not there for the caller."""
    for each in ids:
        version = await sight.current(step, PATIENT, each, "r")
        if version is None or version.deleted:
            raise FhirError("value", "patient names somebody who is not there", status=400)


def members(resource: dict[str, Any], step: Step, now: int) -> tuple[str, ...]:
    """The ids of the patients who are members at a time: active, and within their period."""
    core, found = step.core, dict[str, None]()
    if resource.get("active") is False:
        return ()
    for each in resource.get("member", ()):
        if each.get("inactive") is True or not _covers(each.get("period"), now, core.timezone):
            continue
        text = each.get("entity", {}).get("reference", "")
        name = literal(text, core.base_url, core.definitions.types)
        if name is not None and name.type == PATIENT:
            found[name.id] = None
    return tuple(found)


def _covers(period: Any, now: int, zone: tzinfo) -> bool:
    if not isinstance(period, dict):
        return True
    start, end = period.get("start"), period.get("end")
    if start is not None and dates.stored(start, zone)[0] > now:
        return False
    return end is None or dates.stored(end, zone)[1] >= now
