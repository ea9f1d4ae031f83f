"""kill -9 in the middle of a load: after a restart and the same load again, nothing is missing,
nothing is doubled, and no transaction is half there."""

import json
import random
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import httpx
import pytest

from fhir_server.log.note import Verifier
from fhir_server.log.receipt import Policy, check, parse
from fhir_server.storage.store import StoreError
from salus.log.verifying import Asked, verify_data
from salus.settings import Settings
from tests.living import Living
from tests.shared import shared
from tests.stories.test_oracle import SETS, expected_totals, load, resources, totals


def _interrupted(server: Living, path, moments: list[float]) -> None:
    """Load, and kill the server at each of these moments (seconds after it is ready)."""
    for moment in moments:
        server.start()
        killer = threading.Timer(moment, server.kill)
        killer.start()
        done = load(server, path)
        killer.join()
        assert done.returncode != 0 or moment > 5, "the load ended before the server was killed"


@pytest.mark.parametrize(
    "kills", [2, pytest.param(20, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_a_load_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(tmp_path, kills):
    file, count = SETS["bench60"]
    path = shared(f"data/synthea/{file}")
    chance = random.Random(time.time_ns())
    server = Living(tmp_path)
    _interrupted(server, path, [chance.uniform(0.3, 3.0) for _ in range(kills)])
    server.start()
    done = load(server, path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert resources(server) == count
    wanted = expected_totals("bench60")
    assert totals(server, wanted) == wanted
    assert server.stop() == 0
    _doctor_finds_nothing(server)
    _verified(server)


NEAREST = 40  # writes before the kill that are looked for one by one


class _Visitor(threading.Thread):
    """Writes and reads until the server is gone; `written` and `read` are what was answered."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.written: list[str] = []
        self.read: list[str] = []

    def run(self) -> None:
        with httpx.Client(trust_env=False) as client, suppress(httpx.HTTPError):
            while True:
                made = client.post(f"{self._url}/Patient", json={"resourceType": "Patient"})
                assert made.status_code == 201
                self.written.append(made.json()["id"])
                assert client.get(f"{self._url}/Patient/{self.written[-1]}").status_code == 200
                self.read.append(self.written[-1])


@pytest.mark.parametrize(
    "kills", [2, pytest.param(20, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_nothing_that_was_answered_lacks_its_leaf(tmp_path, kills):
    chance = random.Random(time.time_ns())
    server = Living(tmp_path)
    for _ in range(kills):
        server.start()
        visitors = [_Visitor(server.url) for _ in range(4)]
        for each in visitors:
            each.start()
        while not all(each.written for each in visitors if each.is_alive()):
            time.sleep(0.02)  # a machine under load may take longer than the moment below
        time.sleep(chance.uniform(0.1, 2.3))
        server.kill()
        for each in visitors:
            each.join()
        report = _verified(server)
        assert report["leaves"] == report["records"]
        server.start()
        for each in visitors:
            _is_audited(server, each)
        assert server.stop() == 0
        assert _verified(server)["leaves"] >= report["leaves"]


def test_a_bit_that_flips_in_what_a_killed_server_left_is_found(tmp_path):
    """SQLite itself passes over a write-ahead log from where it is damaged, without a word."""
    server = Living(tmp_path).start()
    with server.client() as fhir:
        for _ in range(30):
            fhir.post("/Patient", json={"resourceType": "Patient"})
    time.sleep(2)  # until the last of them is signed
    server.kill()
    settings = Settings(data=server.data, keys=server.keys)
    shutil.copytree(server.data, tmp_path / "whole")
    assert verify_data(settings, Asked()).well
    chance, log = random.Random(time.time_ns()), "salus.db-wal"
    size = (tmp_path / "whole" / log).stat().st_size
    for at in (0, 12, 30, *(chance.randrange(32, size // 2) for _ in range(6))):
        shutil.rmtree(server.data)
        shutil.copytree(tmp_path / "whole", server.data)
        with (server.data / log).open("r+b") as file:
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))
        with suppress(StoreError):
            assert not verify_data(settings, Asked()).well, f"at byte {at} of {size}"


def _is_audited(server: Living, visitor: _Visitor) -> None:
    """Each write that was answered is there with its event, and each read has one."""
    assert visitor.written
    log = Verifier.parse(httpx.get(server.url.replace("/fhir", "/audit/key"), trust_env=False).text)
    with server.client() as fhir:
        for id in visitor.written[-NEAREST:]:
            found = fhir.get("/AuditEvent", params={"entity": f"Patient/{id}"}).json()["entry"]
            actions = {each["resource"]["action"] for each in found}
            assert actions >= ({"C", "R"} if id in visitor.read else {"C"})
        for name in (f"Patient/{visitor.written[-1]}", f"AuditEvent/{found[-1]['resource']['id']}"):
            asked = fhir.get(f"/{name}/$proof").json()["parameter"]
            proof = next(each["valueString"] for each in asked if each["name"] == "receipt")
            assert check(parse(proof.encode()), Policy(log)).content


def _verified(server: Living) -> dict[str, Any]:
    """What a verification of the log reports, which finds nothing wrong."""
    command = [sys.executable, "-m", "salus", "audit", "verify", "--json"]
    folders = ["--data", str(server.data), "--keys", str(server.keys)]
    found = subprocess.run(
        [*command, *folders], capture_output=True, text=True, env=server.environment, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return json.loads(found.stdout)


def _doctor_finds_nothing(server: Living) -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "salus",
            "doctor",
            "--deep",
            "--data",
            str(server.data),
            "--keys",
            str(server.keys),
        ],
        capture_output=True,
        text=True,
        env=server.environment,
    )
    assert found.returncode == 0, found.stdout + found.stderr
