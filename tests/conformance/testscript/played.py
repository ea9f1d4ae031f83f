"""Plays a script against a server that a test describes in a line."""

from __future__ import annotations

import json
from typing import Any

import httpx

from conformance.testscript import Engine, Limits, Run, Script, Target
from tests.front import Answered, Asked, front

PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"versionId": "3"},
    "active": True,
    "name": [
        {"use": "official", "family": "Able", "given": ["Ann", "Bea"]},
        {"use": "usual", "given": ["Annie"]},
    ],
    "birthDate": "1970-01-02",
}


class Served:
    """What was asked of a server, which answers everything alike, or as `answers` says by method
    and path."""

    def __init__(self, answer: Any = PATIENT, status: int = 200, **headers: str) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[str, tuple[int, Any, dict[str, str]]] = {}
        self._usual = (status, answer, headers)

    def __call__(self, asked: Asked, ask: object) -> Answered:
        self.asked.append(asked)
        usual = self.answers.get(f"{asked.method} {asked.path}", self._usual)
        status, answer, headers = usual
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        told = {"content-type": "application/fhir+json", **headers}
        return Answered(status, httpx.Headers(told), b"" if answer is None else body)

    @property
    def lines(self) -> list[str]:
        return [f"{each.method} {each.path}" for each in self.asked]


def operation(code: str = "read", **fields: Any) -> dict[str, Any]:
    return {"operation": {"type": {"code": code}, **fields}}


def claim(**fields: Any) -> dict[str, Any]:
    return {"assert": fields}


READ = operation(resource="Patient", params="/p1")


def script(*actions: dict[str, Any], **fields: Any) -> Script:
    test = fields.pop("test", [{"name": "one", "action": list(actions)}])
    return Script(
        {"resourceType": "TestScript", "name": "Script", "test": test, **fields}, "s.json"
    )


def play(
    written: Script, served: Served | None = None, *, limits: Limits | None = None, **target: Any
) -> Run:
    given = target.pop("given", None)
    with front("http://127.0.0.1:9/fhir", served or Served()) as url:
        found = Target({1: url}, **target)
        (run,) = Engine(found, limits=limits, given=given).run_all([written])
    return run


def outcomes(run: Run) -> list[str]:
    return [each.outcome for part in run.parts for each in part.actions]
