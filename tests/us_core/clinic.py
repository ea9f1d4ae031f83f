"""A real server with the guides of US Core installed, that holds their reference data."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter

from tests.secured import Secured
from tests.shared import shared

VERSIONS = ("3.1.1", "6.1.0", "7.0.0")
SERVER = "http://hl7.org/fhir/us/core/CapabilityStatement/us-core-server"


def client_of(server):
    """Who may do everything."""
    return server.client(server.token("system/*.cruds"))


def package(version):
    return shared(f"packages/hl7.fhir.us.core-{version}.tgz")


def opened(folder, versions=VERSIONS):
    """The server with the data, and the guides that were installed while it was in use; with what
    was answered meanwhile."""
    server = Secured(folder)
    server.start()
    load(server)
    traffic = Traffic(server)
    with traffic:
        install(server, versions)
        settled(server)
    return server, traffic


class Traffic:
    """Requests beside an installation: what a clinic goes on doing, and searches by what is being
    built."""

    def __init__(self, server):
        self.statuses = Counter()
        self.building = []  # (status, answer) of searches by a parameter that comes
        self._server = server
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._work, self._ask)]

    def __enter__(self):
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for each in self._threads:
            each.join()

    def _work(self):
        with client_of(self._server) as client:
            while not self._ended.is_set():
                made = client.post("/Basic", json={"resourceType": "Basic", "code": {"text": "x"}})
                found = client.get("/Observation", params={"patient": "85", "_count": 20})
                self.statuses.update([made.status_code, found.status_code])

    def _ask(self):
        with client_of(self._server) as client:
            while not self._ended.wait(0.02):
                asked = client.get("/Patient", params={"race": "2106-3", "_summary": "count"})
                self.building.append((asked.status_code, asked.json()))


def install(server, versions):
    """`salus package install` into the running server."""
    for version in versions:
        folders = ("--data", str(server.data), "--keys", str(server.keys))
        told = subprocess.run(
            [sys.executable, "-m", "salus", "package", "install", str(package(version)), *folders],
            capture_output=True,
            text=True,
            env=server.environment,
        )
        assert told.returncode == 0, told.stdout + told.stderr


def load(server):
    """Every file of the reference data, with its groups last."""
    folder = shared("data/us-core-reference")
    files = sorted(folder.glob("*.json"), key=lambda each: ("group" in each.name, each.name))
    with client_of(server) as client:
        for file in files:
            resource = mended(json.loads(file.read_text()))
            if resource["resourceType"] == "Bundle":
                answer = client.post("", json=resource)
            else:
                answer = client.put(f"/{resource['resourceType']}/{resource['id']}", json=resource)
            assert answer.status_code < 300, (file.name, answer.text[:1000])


def mended(value):
    """The data without what R4 does not allow: full urls that are relative (dtr), a Period whose end
    is called stop (355), a link within an Attachment (us_quality)."""
    if isinstance(value, list):
        return [mended(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {name: mended(each) for name, each in value.items()}
    if ":" not in made.get("fullUrl", ":"):
        del made["fullUrl"]
    if "start" in made and "stop" in made:
        made["end"] = made.pop("stop")
    if "contentType" in made:
        made.pop("link", None)
    return made


def settled(server, seconds=120):
    """Wait until no search parameter is being built any more."""
    deadline = time.monotonic() + seconds
    with client_of(server) as client:
        while time.monotonic() < deadline:
            asked = client.get("/Patient", params={"race": "2106-3", "_count": 1})
            if asked.status_code == 200:
                return
            time.sleep(0.2)
    raise AssertionError(asked.text)
