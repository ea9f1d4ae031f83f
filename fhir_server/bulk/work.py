"""Who works on bulk jobs: one slice of each in turn, in the background, from where they were left.

https://hl7.org/fhir/uv/bulkdata/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from msgspec.structs import replace

from fhir_server.bulk import job as jobs
from fhir_server.bulk.collect import Collecting
from fhir_server.bulk.importing import Importing
from fhir_server.bulk.job import Job
from fhir_server.server import Server
from fhir_server.storage.store import Conflict, StoreError, Transaction

_AGAIN_SECONDS = 5.0  # after a disk was full, or keys could not be had
_SEEN_SECONDS = 5.0  # after which it is looked for jobs though nobody rang
_SOON_SECONDS = 0.05  # the bell is rung in a transaction that is not durable yet

_log = logging.getLogger("salus.bulk")


class Going(Protocol):
    """A job that goes on, slice by slice."""

    job: Job

    async def advance(self) -> None: ...


Resume = Callable[[Server, Job, int], Awaitable[Going]]
_KINDS: dict[str, Resume] = {"export": Collecting.resumed, "import": Importing.resumed}
_FAILED = "The job failed; what happened is in the server's log. Begin another"
_ENDED = "What allowed this job has ended: the app or its user was disabled, or access taken back"


class Worker:
    """Goes on with every job that runs."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._going: dict[str, Going] = {}

    async def run(self) -> None:
        """Until cancelled."""
        bell = self._server.core.bulk.begun
        while True:
            bell.clear()
            try:
                while await self._round():
                    pass
            except StoreError as error:
                _log.warning("Bulk jobs wait: %s", error)
                self._going.clear()
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(_SEEN_SECONDS):
                    await bell.wait()
                await asyncio.sleep(_SOON_SECONDS)

    async def _round(self) -> bool:
        """A slice of each job that runs; whether there was one. StoreError."""
        every = await self._server.store.transaction(jobs.every)
        running = [job for job in every if job.ended is None]
        for gone in self._going.keys() - {job.id for job in running}:
            del self._going[gone]
        for job in running:
            await self._slice(job)
        return bool(running)

    async def _slice(self, job: Job) -> None:
        try:
            if job.grant.id and not await self._server.core.bulk.stands(job.grant.id):
                await self._failed(job.id, _ENDED)
                return
            going = self._going.get(job.id) or await self._resumed(job)
            if going is not None:
                await going.advance()
        except Conflict:  # it was removed, or is another's
            self._going.pop(job.id, None)
        except StoreError:
            raise
        except Exception as error:
            _log.exception("A bulk job failed: %s", type(error).__name__)
            self._going.pop(job.id, None)
            await self._failed(job.id, _FAILED)

    async def _resumed(self, job: Job) -> Going | None:
        found = await self._server.store.transaction(lambda tx: jobs.read(tx, job.id))
        if found is None:
            return None
        made = self._going[job.id] = await _KINDS[job.kind](self._server, *found)
        return made

    async def _failed(self, id: str, why: str) -> None:
        """Say that a job will never be done."""
        self._going.pop(id, None)

        async def work(tx: Transaction) -> None:
            found = await jobs.read(tx, id)
            if found is not None:
                ended = replace(found[0], ended=tx.now, failed=why)
                await jobs.write(tx, ended, self._server.core.bulk.seconds)

        await self._server.store.transaction(work, write=True)


@asynccontextmanager
async def working(server: Server, stands: Callable[[str], Awaitable[bool]]) -> AsyncIterator[None]:
    """Bulk jobs go on while this lasts. `stands`: whether the grant of this id still counts."""
    server.core.bulk.stands = stands
    task = asyncio.create_task(Worker(server).run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
