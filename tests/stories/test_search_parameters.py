"""A search parameter is posted to a server at work: it builds beside creates and searches, is never
half there, survives kill -9, a restore and the end of the parameter.

https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress

import httpx
import pytest

from tests.indexing.world import RACE_PARAMETER, RACES, counted, patient
from tests.living import Living

COUNT = 500
OURS = [{**patient(number), "id": f"p{number}"} for number in range(COUNT)]


@pytest.fixture
def served(tmp_path):
    server = Living(tmp_path).start()
    yield server
    with suppress(ProcessLookupError):
        server.stop()


def _stored(client: httpx.Client, resources) -> None:
    entries = [
        {"resource": each, "request": {"method": "PUT", "url": f"Patient/{each['id']}"}}
        for each in resources
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert client.post("", json=bundle).status_code == 200


def _posted(client: httpx.Client) -> str:
    made = client.post("/SearchParameter", json=RACE_PARAMETER)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def _built(client: httpx.Client, seconds: float = 60) -> list[httpx.Response]:
    """The answers until a search by it answers, the last one among them."""
    answers, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        answers.append(client.get("/Patient", params={"race": RACES[0], "_summary": "count"}))
        if answers[-1].status_code == 200:
            return answers
        time.sleep(0.01)
    raise AssertionError(answers[-1].text)


def _totals(client: httpx.Client) -> dict[str, int]:
    asked = {"_summary": "count"}
    return {
        race: client.get("/Patient", params={"race": race, **asked}).json()["total"]
        for race in RACES
    }


def _salus(server: Living, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "salus", *arguments],
        capture_output=True,
        text=True,
        env=server.environment,
    )


class _Writer(threading.Thread):
    """Creates patients and searches, until it is told to end."""

    def __init__(self, url: str, first: int, step: int) -> None:
        super().__init__()
        self._url, self._number, self._step = url, first, step
        self.ended = threading.Event()
        self.written: list[int] = []
        self.slowest = 0.0

    def run(self) -> None:
        with httpx.Client(base_url=self._url, trust_env=False) as client:
            while not self.ended.is_set():
                resource = patient(self._number)
                began = time.monotonic()
                put = client.put(f"/Patient/{resource['id']}", json=resource)
                assert put.status_code == 201, put.text
                found = client.get("/Patient", params={"_id": resource["id"], "gender": "other"})
                assert found.json()["total"] == 1
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.written.append(self._number)
                self._number += self._step


def test_a_parameter_that_is_posted_under_load_finds_everything_once_it_answers(served):
    with served.client() as client:
        _stored(client, OURS)
        writers = [_Writer(served.url, COUNT + at, 2) for at in range(2)]
        for each in writers:
            each.start()
        id = _posted(client)
        answers = _built(client)
        for each in writers:
            each.ended.set()
        for each in writers:
            each.join()
        refused = answers[:-1]
        assert refused, "it answered before anything could be indexed"
        for each in refused:
            assert each.status_code == 503
            assert each.json()["issue"][0]["code"] == "incomplete"
        due = counted(range(COUNT))
        for each in writers:
            for number in each.written:
                for race, count in counted(range(number, number + 1)).items():
                    due[race] += count
        assert _totals(client) == due
        _is_told(client)
        assert client.delete(f"/SearchParameter/{id}").status_code == 204
        assert client.get("/Patient", params={"race": RACES[0]}).status_code == 400
        assert "race" not in _names(client)


def _names(client: httpx.Client) -> dict[str, str]:
    (rest,) = client.get("/metadata").json()["rest"]
    (found,) = [each for each in rest["resource"] if each["type"] == "Patient"]
    return {each["name"]: each["definition"] for each in found["searchParam"]}


def _is_told(client: httpx.Client) -> None:
    """The CapabilityStatement, /metrics and $reindex know it."""
    assert _names(client)["race"] == RACE_PARAMETER["url"]
    metrics = client.get(str(client.base_url).replace("/fhir/", "/metrics")).text
    assert 'salus_search_parameters{state="active"} 1.0' in metrics
    (told,) = client.post("/$reindex").json()["parameter"]
    values = {each["name"]: each for each in told["part"]}
    assert told["name"] == "parameter"
    assert values["state"]["valueCode"] == "active"
    assert values["url"]["valueUri"] == RACE_PARAMETER["url"]


def test_a_kill_while_it_is_building_loses_and_doubles_nothing(tmp_path):
    server = Living(tmp_path).start()
    with server.client() as client:
        _stored(client, OURS)
        _posted(client)
        time.sleep(0.3)
    server.kill()
    server.start()
    with server.client() as client:
        _built(client)
        assert _totals(client) == counted(range(COUNT))
    assert server.stop() == 0
    folders = ("--data", str(server.data), "--keys", str(server.keys))
    found = _salus(server, "doctor", "--deep", *folders)
    assert (found.returncode, "Nothing is wrong" in found.stdout) == (0, True), found.stdout
    assert "Search parameters beyond R4's: 1" in found.stdout
    _restored(server, tmp_path)


def _restored(server: Living, folder) -> None:
    """A restore has no entries of it, and builds them anew."""
    keys = ("--keys", str(server.keys))
    file = folder / "monday.backup"
    made = _salus(server, "backup", str(file), "--data", str(server.data), *keys)
    assert made.returncode == 0, made.stderr
    server.data = folder / "restored"
    done = _salus(server, "restore", str(file), "--data", str(server.data), *keys)
    assert done.returncode == 0, done.stderr
    server.start()
    with server.client() as client:
        _built(client)
        assert _totals(client) == counted(range(COUNT))
    shown = _salus(server, "reindex", "--type", "Patient", "--data", str(server.data), *keys)
    assert shown.returncode == 0, shown.stderr
    assert "race\tactive" in shown.stdout
    assert server.stop() == 0
