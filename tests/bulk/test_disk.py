"""A disk that is full while a job runs: it waits, and goes on where it was."""

from __future__ import annotations

import asyncio

import pytest

from fhir_server.bulk import job as jobs
from fhir_server.bulk import work
from fhir_server.storage.store import Unavailable
from tests.bulk import world
from tests.security.clinic import grant

ALL = grant("system/*.rs", client="warehouse")


@pytest.fixture
def disk(monkeypatch):
    """Whether it is full for jobs, and how often that was met."""
    state = {"full": False, "met": 0}
    write = jobs.write

    async def written(tx, job, seconds, expect=-1):
        if state["full"]:
            state["met"] += 1
            raise Unavailable("database or disk is full")
        await write(tx, job, seconds, expect)

    monkeypatch.setattr(jobs, "write", written)
    return state


def test_a_kick_off_is_answered_with_503_and_nothing_is_begun(clinic, disk):
    disk["full"] = True
    answer = clinic.ask(ALL, "GET", "$export", headers=[world.ASYNC])
    assert (answer.status, answer.code, answer.header("retry-after")) == (503, "transient", "5")
    disk["full"] = False
    assert world.exported(clinic, ALL)


def test_a_job_waits_while_the_disk_is_full_and_ends_as_if_it_never_was(clinic, disk, monkeypatch):
    wanted = world.exported(clinic, ALL)
    monkeypatch.setattr(work, "_AGAIN_SECONDS", 0.01)
    status = world.kick_off(clinic, ALL)
    disk["full"] = True

    async def run() -> None:
        task = asyncio.create_task(work.Worker(clinic.server).run())
        while disk["met"] < 3:
            await asyncio.sleep(0.01)
        disk["full"] = False
        while (await clinic.store.transaction(jobs.every))[0].ended is None:
            await asyncio.sleep(0.01)
        task.cancel()

    clinic._runner.run(run())
    told = world.manifest(clinic, ALL, status)
    assert world.names(clinic, ALL, told) == wanted
    assert told["error"] == []
