"""A backup of a server that goes on writing is one state of it, and what is restored serves."""

import asyncio
import base64
import json
import threading
import time
from contextlib import closing, contextmanager

import pytest
from typer.testing import CliRunner

from fhir_server.log import merkle
from fhir_server.storage.keys import FileKeys, page_key
from fhir_server.storage.sqlite.copying import Snapshot
from salus.commands import backup as commands
from salus.log.condition import condition
from salus.log.verifying import Asked, current, verify_data
from salus.settings import Settings
from salus.terminal import command, group
from tests.salus.backup.folders import back, saved
from tests.secured import PASSWORD, Secured, patient

PEOPLE = ("ada", "ben", "cleo")


def person(who, **more):
    return json.loads(patient(who, **more))


def observation(who, number):
    code = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": code,
        "subject": {"reference": f"Patient/{who}"},
        "valueQuantity": {"value": number, "unit": "/min"},
    }


class Busy:
    """A writer and a reader at work on a server, and what they were answered."""

    def __init__(self, server, token):
        self.server, self.token = server, token
        self.written, self.read, self.wrong = [], 0, []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=each) for each in (self._write, self._look)]

    def __enter__(self):
        for each in self.threads:
            each.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for each in self.threads:
            each.join()

    def _write(self):
        with self.server.client(self.token) as client:
            while not self.over.is_set():
                number = len(self.written)
                sent = observation(PEOPLE[number % 3], number)
                reply = client.post("/Observation", json=sent)
                if reply.status_code == 201:
                    self.written.append(reply.json()["id"])
                else:
                    self.wrong.append(reply.text)

    def _look(self):
        with self.server.client(self.token) as client:
            while not self.over.is_set():
                reply = client.get("/Observation", params={"subject": "Patient/ada", "_count": 5})
                self.read += 1
                if reply.status_code != 200:
                    self.wrong.append(reply.text)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server that was backed up while it was busy, and ended; its restored folder, served."""
    folder = tmp_path_factory.mktemp("served")
    server = Secured(folder)
    with running(server):
        told = backed_up(server, folder)
    other = Secured(folder)
    other.data, other.port = folder / "restored", server.port
    shell = Settings(data=other.data, keys=other.keys)  # which knows nothing of how it is served
    told["restored"] = back(shell, told["made"].file)
    told["condition"], told["keys"] = condition(shell), current(shell)
    with running(other):
        yield {"server": other, **told}


@contextmanager
def running(server):
    server.start()
    try:
        yield
    except BaseException:
        server.kill()
        raise
    assert server.stop() == 0


def backed_up(server, folder):
    """What was known of a server before it was backed up, and what it did meanwhile."""
    server.user("dora", "Practitioner/dora")
    token = server.token()
    with server.client(token) as client:
        for each in PEOPLE:
            assert client.put(f"/Patient/{each}", json=person(each)).status_code == 201
        changed = person("ada", gender="female")
        assert client.put("/Patient/ada", json=changed).status_code == 200
        assert client.delete("/Patient/cleo").status_code == 204
        history = client.get("/Patient/ada/_history").json()
    with Busy(server, token) as busy:
        until = time.monotonic() + 20
        while len(busy.written) < 30 and time.monotonic() < until:
            time.sleep(0.02)
        before = list(busy.written)
        made = saved(server.settings, folder / "busy.backup")
        time.sleep(0.2)
    assert busy.wrong == []
    assert busy.read > 0
    return {
        "token": token,
        "before": before,
        "written": busy.written,
        "history": history,
        "made": made,
    }


def test_it_holds_all_that_was_acknowledged_before_and_nothing_half(served):
    assert served["restored"].well
    with served["server"].client(served["token"]) as client:
        found = client.get("/Observation", params={"_count": 0, "_total": "accurate"}).json()
        for id in served["before"]:
            assert client.get(f"/Observation/{id}").status_code == 200
        there = [client.get(f"/Observation/{id}").status_code for id in served["written"]]
    assert len(served["before"]) <= found["total"] <= len(served["written"])
    assert there == [200] * found["total"] + [404] * (len(there) - found["total"])


def test_tokens_users_history_and_audit_go_on(served):
    server = served["server"]
    with server.client(served["token"]) as client:
        assert _bare(client.get("/Patient/ada/_history").json()) == _bare(served["history"])
        assert client.get("/Patient/cleo").status_code == 410
        looked = client.get("/AuditEvent", params={"entity": "Patient/ada", "_total": "accurate"})
        assert looked.json()["total"] >= 2
        assert client.get("/Patient", params={"family": "ben"}).json()["total"] == 1
    with server.browser("dora", PASSWORD) as browser:
        assert browser.get("/account").response.status_code == 200


def _bare(bundle):
    return [json.dumps(each["resource"]) for each in bundle["entry"] if "resource" in each]


def test_the_log_goes_on_where_the_backup_ends(served):
    server, made = served["server"], served["made"]
    # What was signed after the backup is not in it, and its key never signs an older state.
    assert served["restored"].name is not None
    with server.client(served["token"]) as client:
        assert client.post("/Observation", json=observation("ben", 1)).status_code == 201
    settings = Settings(data=server.data, keys=server.keys)
    keys = FileKeys(settings.keys)
    with closing(Snapshot(settings.data, page_key(settings.data, keys))) as snapshot:
        assert snapshot.size() > made.manifest.leaves
        root = asyncio.run(merkle.root(made.manifest.leaves, snapshot.tile))
    assert base64.b64encode(root).decode() == made.manifest.root
    assert verify_data(settings, Asked()).well


def test_before_its_first_start_a_restored_log_is_well_and_keeps_the_host_of_its_name(served):
    said, wrong = served["condition"]
    assert wrong == []
    new, old = served["keys"]
    assert f"; key {new}" in said
    assert served["restored"].name == new.name != old.name
    assert new.name.partition("/log/")[0] == old.name.partition("/log/")[0] != "127.0.0.1:8080"


def test_the_command_says_what_it_saved_and_the_audit_tells_of_it(served, tmp_path):
    server, file = served["server"], tmp_path / "x.backup"
    folders = ["--data", str(server.data), "--keys", str(server.keys)]
    told = commanded("backup", str(file), *folders)
    assert told.exit_code == 0, told.output
    assert f"Saved {file} ({file.stat().st_size:,} bytes)" in told.output
    refused = commanded("backup", str(file), *folders)
    assert refused.exit_code == 2

    with server.client(served["token"]) as client:
        events = client.get("/AuditEvent", params={"_sort": "-date", "_count": 200}).json()
    told_of = [
        (each["resource"]["type"]["code"], each["resource"]["subtype"][0]["code"])
        for each in events["entry"]
        if each["resource"]["type"]["code"] in ("110106", "110107")
    ]
    assert told_of.count(("110106", "backup")) == 1
    assert told_of.count(("110107", "restore")) == 1


def commanded(*arguments):
    app = group("salus", "")
    command(app)(commands.backup)
    command(app)(commands.restore)
    return CliRunner().invoke(app, arguments)
