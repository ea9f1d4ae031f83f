"""kill -9 in the middle of an export: after a restart it goes on, and ends with exactly what was
there when it began, though others wrote meanwhile."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.living import Living
from tests.shared import shared
from tests.stories.test_oracle import SETS, load

PREFER = {"Prefer": "respond-async"}
_DROPPED = frozenset({"id", "meta", "reference", "fullUrl"})  # which the server gives, or resolves


def essence(value: Any) -> Any:
    """What of a resource is the same in the file that was loaded and where it is stored."""
    if isinstance(value, dict):
        return {n: essence(v) for n, v in sorted(value.items()) if n not in _DROPPED}
    if isinstance(value, list):
        return [essence(each) for each in value]
    return str(value.normalize()) if isinstance(value, Decimal) else value


def hashed(resource: dict[str, Any]) -> tuple[str, bytes]:
    text = json.dumps(essence(resource), sort_keys=True)
    return resource["resourceType"], hashlib.sha256(text.encode()).digest()


def read(line: str | bytes) -> Any:
    return json.loads(line, parse_float=Decimal, parse_int=Decimal)


def in_file(path: Path) -> Counter[tuple[str, bytes]]:
    """Type and hash of every resource of a file of Bundles."""
    found: Counter[tuple[str, bytes]] = Counter()
    with gzip.open(path) as file:
        for line in file:
            for entry in read(line).get("entry", ()):
                found[hashed(entry["resource"])] += 1
    return found


def begun(client: httpx.Client, url: str = "/$export") -> str:
    answer = client.get(url, headers=PREFER)
    assert answer.status_code == 202, answer.text
    return answer.headers["content-location"]


def looked_at(client: httpx.Client, status: str) -> int:
    """How many resources a running export has looked at; -1: it is done."""
    while (answer := client.get(status)).status_code == 429:
        time.sleep(0.3)
    if answer.status_code == 200:
        return -1
    return int(answer.headers["x-progress"].split()[0])


def done(client: httpx.Client, status: str, seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while looked_at(client, status) >= 0:
        assert time.monotonic() < deadline, "not done in time"
        time.sleep(0.5)
    return client.get(status).json()


def files(client: httpx.Client, told: dict[str, Any]) -> Counter[tuple[str, bytes]]:
    """Type and hash of every line, each file as long as the manifest says."""
    found: Counter[tuple[str, bytes]] = Counter()
    for each in told["output"]:
        lines = 0
        with client.stream("GET", each["url"]) as answer:
            for line in answer.iter_lines():
                found[hashed(read(line))] += 1
                lines += 1
        assert lines == each["count"]
    return found


def interrupted(server: Living, kills: int, step: int) -> str:
    """The status of an export during which the server was killed so many times, each after it had
    looked at `step` more resources."""
    with server.client() as client:
        status, seen = begun(client), 0
    for _ in range(kills):
        with server.client() as client:
            while 0 <= (now := looked_at(client, status)) < seen + step:
                time.sleep(0.2)
            assert now >= 0, "the export ended before the server was killed"
            # What is written meanwhile is not in it.
            client.post("/Patient", json={"resourceType": "Patient"})
        server.kill()
        server.start()
        seen = now
    return status


@pytest.mark.parametrize(
    ("tier", "kills", "step"),
    [
        ("bench60", 1, 3_000),
        pytest.param("full615", 5, 15_000, marks=pytest.mark.slow),
    ],
)
def test_an_export_that_is_killed_again_and_again_gives_all_that_was_loaded(
    tmp_path, tier, kills, step
):
    file, count = SETS[tier]
    path = shared(f"data/synthea/{file}")
    server = Living(tmp_path)
    server.start()
    assert load(server, path).returncode == 0
    status = interrupted(server, kills, step)
    with server.client() as client:
        told = done(client, status, seconds=600)
        found = files(client, told)
    assert server.stop() == 0
    assert sum(found.values()) == count
    assert found == in_file(path)
