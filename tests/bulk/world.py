"""Exports as a client sees them, of the in-process server of the security tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fhir_server.bulk.work import Worker
from tests.security.clinic import BASE, Answer, Clinic
from tests.security.people import reference, resource

ASYNC = ("Prefer", "respond-async")
LENIENT = ("Prefer", "respond-async, handling=lenient")


def kick_off(clinic: Clinic, grant, url="$export", body: Any = None, headers=(ASYNC,)) -> str:
    """The place of the status, below the base."""
    answer = clinic.ask(grant, "POST" if body else "GET", url, body, headers)
    assert answer.status == 202, answer.body
    return below(answer.header("content-location"))


def below(url: str | None) -> str:
    assert url is not None and url.startswith(BASE + "/"), url
    return url.removeprefix(BASE + "/")


def work(clinic: Clinic, rounds: int | None = None) -> None:
    """Let the jobs go on: to their ends, or for so many slices of each."""
    worker = Worker(clinic.server)

    async def run() -> None:
        done = 0
        while done != rounds and await worker._round():
            done += 1

    clinic._runner.run(run())


def manifest(clinic: Clinic, grant, status: str) -> dict[str, Any]:
    answer = clinic.ask(grant, "GET", status)
    assert answer.status == 200, (answer.status, answer.body)
    return answer.json


def lines(clinic: Clinic, grant, url: str) -> list[dict[str, Any]]:
    answer = file(clinic, grant, url)
    assert answer.status == 200, answer.body
    return [json.loads(each) for each in answer.body.splitlines()]


def file(clinic: Clinic, grant, url: str) -> Answer:
    return clinic.ask(grant, "GET", below(url), headers=[("Accept", "application/fhir+ndjson")])


def names(clinic: Clinic, grant, told: dict[str, Any]) -> set[str]:
    """Type/id of everything in the files of a manifest, each file of one type and as long as the
    manifest says, where it does."""
    found: list[str] = []
    for each in told["output"]:
        there = lines(clinic, grant, each["url"])
        assert {line["resourceType"] for line in there} == {each["type"]}
        assert len(there) == each.get("count", len(there))
        found += [f"{line['resourceType']}/{line['id']}" for line in there]
    assert len(found) == len(set(found)), "something is there twice"
    return set(found)


def exported(clinic: Clinic, grant, url="$export", body: Any = None, headers=(ASYNC,)) -> set[str]:
    """Type/id of all that an export gives."""
    status = kick_off(clinic, grant, url, body, headers)
    work(clinic)
    found = names(clinic, grant, manifest(clinic, grant, status))
    assert clinic.ask(grant, "DELETE", status).status == 202
    return found


def group(id: str, *members: dict[str, Any] | str, **more: Any) -> dict[str, Any]:
    made = [{"entity": reference(each)} if isinstance(each, str) else each for each in members]
    listed = {"member": made} if made else {}
    return resource(f"Group/{id}", type="person", actual=True, **listed, **more)


def of_type(found: Iterable[str], type: str) -> set[str]:
    return {each for each in found if each.startswith(f"{type}/")}
