"""What an export finds: in small slices, each kept with how far it has come, so that a restart goes
on where it was, and nobody waits for it.

Its phases: `walk` looks at the types one after the other and takes what has not changed since the
export began; `changed` takes what has, as it was then; `along` takes what that refers to beside the
patients; `deleted` takes what was deleted since `_since`; `organized` puts all of it into
blocks by patient where that is asked for.
https://hl7.org/fhir/uv/bulkdata/export.html
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from time import monotonic
from typing import TypeVar

from msgspec.structs import replace

from conformance.outcome import FhirError
from fhir_server import access, sight
from fhir_server.bulk import blocks
from fhir_server.bulk import job as jobs
from fhir_server.bulk.asked import ALONG, GROUP, search
from fhir_server.bulk.job import DELETED, NAMED, Job, Progress, Wanted
from fhir_server.bulk.members import Whose, entries, whose_of
from fhir_server.bulk.pace import Pace
from fhir_server.core import Step
from fhir_server.server import Server
from fhir_server.storage.store import (
    EVERYTHING,
    UPDATED,
    All,
    AnyOf,
    Condition,
    Match,
    Page,
    Query,
    TooCostly,
    Transaction,
    Version,
)
from smart_auth.grant import Grant

T = TypeVar("T")

PAGE = 25  # versions that are read at once
BARE = 100  # of them without their bodies, of which one takes a twentieth of the time
SLICE = 2_000  # sequences of a slice, at most
SLICE_SECONDS = 0.5  # after which what was found is kept
_REST = 2.0  # seconds of rest for a second of work, at least
_Done = tuple[Progress, list[tuple[str, list[int]]]]  # how far, and what was found of which type


@dataclass(slots=True)
class Collecting:
    """An export that goes on. `named` is what was seen to be referred to beside the patients, in
    the order in which it was seen."""

    server: Server
    job: Job
    revision: int
    grant: Grant
    named: dict[str, None] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)  # named since the last slice
    seen: set[tuple[bytes, bytes]] = field(default_factory=set)  # named, or not asked for
    whose: Whose | None = None
    queries: dict[str, Query] = field(default_factory=dict)
    pace: Pace = field(default_factory=lambda: Pace(_REST))

    @classmethod
    async def resumed(cls, server: Server, job: Job, revision: int) -> Collecting:
        """An export as it was left."""
        made = cls(server, job, revision, job.grant.grant())
        for number in range(job.progress.slices.get(NAMED, 0)):
            asked = partial(jobs.slice_of, id=job.id, of=NAMED, number=number)
            for name in jobs.split(await server.store.transaction(asked)):
                made.named[name] = None
        return made

    @property
    def wanted(self) -> Wanted:
        assert self.job.wanted is not None
        return self.job.wanted

    async def advance(self) -> None:
        """One slice. Conflict when the job is gone; Unavailable."""
        progress, found = await _PHASES[self.job.progress.phase](self)
        await self._keep(progress, found)

    async def _keep(self, progress: Progress, found: list[tuple[str, list[int]]]) -> None:
        """Keep what was found and how far that is, in one transaction."""
        slices, counts = {**progress.slices}, {**progress.counts}
        added: list[tuple[str, int, bytes]] = []
        for of, sequences in found:
            if sequences:
                number = slices.get(of, 0)
                added.append((of, number, jobs.packed(sequences)))
                slices[of] = number + 1
                counts[of] = (*counts.get(of, ()), len(sequences))
        if self.fresh:
            number = slices.get(NAMED, 0)
            added.append((NAMED, number, jobs.joined(self.fresh)))
            slices[NAMED] = number + 1
        progress = replace(progress, slices=slices, counts=counts)
        ended = self.server.core.clock() if progress.phase == "done" else None
        job = replace(self.job, progress=progress, ended=ended)
        seconds = self.server.core.bulk.seconds

        async def work(tx: Transaction) -> None:
            await jobs.write(tx, job, seconds, self.revision)
            for of, number, content in added:
                await jobs.add(tx, job.id, of, number, content)

        await self.server.store.transaction(work, write=True)
        self.job, self.revision, self.fresh = job, self.revision + 1, []

    # --- reading ----------------------------------------------------------------------------------

    async def read(self, look: Callable[[Step], Awaitable[T]]) -> T:
        """What a look at the store gives, and a rest after it."""
        began = monotonic()
        found = await self.server.store.transaction(
            lambda tx: look(Step(tx, self.grant, self.server.core))
        )
        await self.pace.rest(monotonic() - began)
        return found

    async def theirs(self, step: Step) -> Whose:
        """Whose data it is, looked up once."""
        if self.whose is None:
            self.whose = await whose_of(step, self.job)
        return self.whose

    def query(self, step: Step, type: str) -> Query:
        """What is exported of a type, whosever it is: what the caller may read and find, and what
        the parameters ask for. FhirError."""
        known = self.queries.get(type)
        if known is None:
            known = self.queries[type] = self._query(step, type)
        return known

    def _query(self, step: Step, type: str) -> Query:
        asked: list[Query] = [
            access.visible(step.core, step.grant, type, letter) for letter in "rs"
        ]
        wanted = self.wanted
        filters = [query for of, query in wanted.filters if of == type]
        if filters:
            found = [search(step, type, query, wanted.lenient).query for query in filters]
            asked.append(found[0] if len(found) == 1 else AnyOf(tuple(found)))
        for operator, bound in (("ge", wanted.since), ("le", wanted.until)):
            if bound is not None:
                condition = Condition("low", operator, bound)  # type: ignore[arg-type]
                asked.append(Match(UPDATED, "range", (condition,)))
        parts = tuple(dict.fromkeys(each for each in asked if each is not EVERYTHING))
        return EVERYTHING if not parts else parts[0] if len(parts) == 1 else All(parts)

    def note(self, version: Version) -> None:
        """Remember what a version refers to that goes along."""
        if self.wanted.level == "system":
            return
        for lead in _leads(self.server.core.base_url)(version.body):
            if lead in self.seen:
                continue
            self.seen.add(lead)
            type, id = lead
            if type.decode() in self.wanted.types:
                self._name(f"{type.decode()}/{id.decode()}")

    def _name(self, name: str) -> None:
        if name not in self.named:
            self.named[name] = None
            self.fresh.append(name)

    def failed(self, progress: Progress, code: str, text: str) -> Progress:
        """What could not be exported is told in the file of errors."""
        return replace(progress, issues=(*progress.issues, ("error", code, text)))

    # --- walk -------------------------------------------------------------------------------------

    def walked(self) -> list[str]:
        """The types that are looked at one after the other."""
        if self.wanted.level == "system":
            return [*self.wanted.types]
        return [type for type in self.wanted.types if type not in ALONG and type != GROUP]

    async def walk(self) -> _Done:
        """Up to a slice, of one type or of several."""
        progress, types = self.job.progress, self.walked()
        if progress.place >= len(types):
            return replace(progress, phase="changed", place=0), []
        most, deadline = min(SLICE, self.server.core.bulk.lines), monotonic() + SLICE_SECONDS
        found: dict[str, list[int]] = {}
        left, opened = most, self.wanted.level != "system"  # to see whose it is, and what it names
        size = PAGE if opened else BARE
        while left > 0 and progress.place < len(types) and monotonic() < deadline:
            type = types[progress.place]
            try:
                page = partial(
                    self._page, type, progress, Page(min(size, left), progress.after, opened)
                )
                taken, progress = await self.read(page)
            except (TooCostly, FhirError) as error:
                code = error.issues[0].code if isinstance(error, FhirError) else "too-costly"
                text = f"Not all of {type} could be looked at"
                progress = _next(self.failed(progress, code, text))
                continue
            found.setdefault(type, []).extend(taken)
            left -= len(taken)
        return progress, [*found.items()]

    async def _page(
        self, type: str, progress: Progress, asked: Page, step: Step
    ) -> tuple[list[int], Progress]:
        """A page of a type for some of the patients, and how far that is."""
        theirs = await self.theirs(step)
        chunks = theirs.chunks()
        if progress.chunk >= len(chunks):
            return [], _next(progress)
        chunk, query = chunks[progress.chunk], self.query(step, type)
        if chunk:
            mine = theirs.query(step, type, chunk)
            query = mine if query is EVERYTHING else All((mine, query))
        page = await step.tx.find(type, query, (), asked)
        taken = []
        for version in page.versions:
            if version.sequence > self.job.sequence:
                continue  # as it was before, it comes in the phase of what has changed
            if chunk:
                if progress.chunk and await self._asked_before(step, theirs, progress, version):
                    continue
            elif not await theirs.has(step, version):
                continue
            taken.append(version.sequence)
            self.note(version)
        work = progress.work + len(page.versions)
        if page.after is not None:
            return taken, replace(progress, after=page.after, work=work)
        if progress.chunk + 1 < len(chunks):
            return taken, replace(progress, after=None, chunk=progress.chunk + 1, work=work)
        return taken, replace(_next(progress), work=work)

    async def _asked_before(
        self, step: Step, theirs: Whose, progress: Progress, version: Version
    ) -> bool:
        """Whether what is of several patients was found already, with one of an earlier chunk."""
        if version.owner is not None:
            return False
        earlier = [id for chunk in theirs.chunks()[: progress.chunk] for id in chunk]
        query = theirs.query(step, version.type, earlier)
        return await sight.holds(step, version, entries(step, version), query)

    # --- changed ----------------------------------------------------------------------------------

    async def changed(self) -> _Done:
        """Everything that was changed or deleted since the export began, as it was then."""
        found: dict[str, set[int]] = {}
        before: int | None = None
        while True:
            versions = await self.read(
                lambda step, before=before: step.tx.history(None, None, PAGE, before)  # type: ignore[misc]
            )
            later = [each for each in versions if each.sequence > self.job.sequence]
            names = {(v.type, v.id) for v in later if v.number > 1 and self._walks(v.type)}
            await self.read(partial(self._as_they_were, names, found))
            if len(later) < PAGE:
                break
            before = later[-1].sequence
        for type, sequences in found.items():
            await self._drop_listed(type, sequences)
        parts = [
            (type, ordered[i : i + SLICE])
            for type, sequences in found.items()
            for ordered in [sorted(sequences)]
            for i in range(0, len(ordered), SLICE)
        ]
        return replace(self.job.progress, phase="along", after=None, place=0), parts

    def _walks(self, type: str) -> bool:
        return type in self.walked()

    async def _as_they_were(
        self, names: Iterable[tuple[str, str]], found: dict[str, set[int]], step: Step
    ) -> None:
        for type, id in names:
            version = await self._then(step, type, id)
            if version is not None and await (await self.theirs(step)).has(step, version):
                found.setdefault(type, set()).add(version.sequence)
                self.note(version)

    async def _then(self, step: Step, type: str, id: str) -> Version | None:
        """The version of a resource that was there when the export began, if it is asked for."""
        before = self.job.sequence + 1
        version = await step.tx.get(type, id)
        if version is not None and version.sequence >= before:
            version = next(iter(await step.tx.history(type, id, 1, before)), None)
        if version is None or version.deleted:
            return None
        query = self.query(step, type)
        if query is EVERYTHING:
            return version
        return version if await sight.holds(step, version, entries(step, version), query) else None

    async def _drop_listed(self, type: str, sequences: set[int]) -> None:
        """Take out what the walk had seen before it was changed."""
        for number in range(self.job.progress.slices.get(type, 0)):
            sequences.difference_update(await self.listed(type, number))
            await asyncio.sleep(0)

    # --- along ------------------------------------------------------------------------------------

    async def along(self) -> _Done:
        """What is referred to beside the patients, and in turn by that; the Group itself."""
        progress, wanted = self.job.progress, self.wanted
        if wanted.group is not None and GROUP in wanted.types and not progress.place:
            self._name(f"{GROUP}/{wanted.group[0]}")
        names = [*self.named][progress.place : progress.place + PAGE]
        if not names:
            then = self._last() if wanted.since is None else "deleted"
            return replace(progress, phase=then, after=None), []
        found: dict[str, list[int]] = {}

        async def look(step: Step) -> None:
            for name in names:
                type, _, id = name.partition("/")
                version = await self._then(step, type, id)
                if version is not None:
                    found.setdefault(type, []).append(version.sequence)
                    self.note(version)

        await self.read(look)
        work = progress.work + len(names)
        return replace(progress, place=progress.place + len(names), work=work), [*found.items()]

    # --- deleted ----------------------------------------------------------------------------------

    async def deleted(self) -> _Done:
        """A page of the history since `_since`: of it what was deleted when the export began."""
        progress, found = self.job.progress, list[int]()
        before = int(progress.after[0] or 0) if progress.after else self.job.sequence + 1

        async def look(step: Step) -> list[Version]:
            page = await step.tx.history(None, None, PAGE, before, self.wanted.since)
            for version in page:
                if version.deleted and await self._was_deleted(step, version):
                    found.append(version.sequence)
            return page

        page = await self.read(look)
        if len(page) < PAGE:
            return replace(progress, phase=self._last(), after=None), [(DELETED, found)]
        return replace(progress, after=(page[-1].sequence,)), [(DELETED, found)]

    async def _was_deleted(self, step: Step, version: Version) -> bool:
        """Whether this deletion is the last of its resource, and of what is asked for."""
        if version.type not in self.wanted.types:
            return False
        last = await step.tx.history(version.type, version.id, 1, self.job.sequence + 1)
        then = await step.tx.get(version.type, version.id, version.number - 1)
        if not last or last[0].number != version.number or then is None or then.deleted:
            return False
        if not await (await self.theirs(step)).has(step, then):
            return False
        for letter in "rs":
            seen = access.visible(step.core, step.grant, version.type, letter)
            if seen is not EVERYTHING and not await sight.holds(
                step, then, entries(step, then), seen
            ):
                return False
        return True

    # --- organized --------------------------------------------------------------------------------

    def _last(self) -> str:
        return "organized" if self.wanted.organized else "done"

    async def organized(self) -> _Done:
        """Everything that was found, by patient."""
        return await blocks.organized(self), []

    async def listed(self, of: str, number: int) -> list[int]:
        """One slice of what was found."""
        asked = partial(jobs.slice_of, id=self.job.id, of=of, number=number)
        return jobs.unpacked(await self.server.store.transaction(asked))

    async def add(self, slices: Sequence[tuple[str, int, bytes]]) -> None:
        """Keep slices that do not count yet."""
        added = [*slices]

        async def work(tx: Transaction) -> None:
            for of, number, content in added:
                await jobs.add(tx, self.job.id, of, number, content)

        await self.server.store.transaction(work, write=True)


def _next(progress: Progress) -> Progress:
    """At the beginning of the next type."""
    return replace(progress, place=progress.place + 1, chunk=0, after=None)


_PHASES: dict[str, Callable[[Collecting], Awaitable[_Done]]] = {
    "walk": Collecting.walk,
    "changed": Collecting.changed,
    "along": Collecting.along,
    "deleted": Collecting.deleted,
    "organized": Collecting.organized,
}


@lru_cache(16)
def _leads(base_url: str) -> Callable[[bytes], list[tuple[bytes, bytes]]]:
    """Finds the references to what goes along, in the bytes of a resource."""
    types = b"|".join(sorted(each.encode() for each in ALONG))
    base = re.escape(base_url.encode())
    return re.compile(
        rb'"reference":"(?:%s/)?(%s)/([A-Za-z0-9\-.]{1,64})[/"]' % (base, types)
    ).findall
