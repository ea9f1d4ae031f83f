"""The log's key and a witness are elsewhere: receipts carry their word, and with the data host's
files and keys alone nobody can give the log another past."""

from __future__ import annotations

import json
import time
from contextlib import closing
from random import Random

import httpx
import pytest

from fhir_server.audit.proven import Signed
from fhir_server.log import checkpoint, note
from fhir_server.log.receipt import Policy, check, parse
from fhir_server.storage.keys import FileKeys, page_key
from fhir_server.storage.sqlite.schema import connect
from fhir_server.storage.vault import Vault
from tests.audit.tampering import Attack, rewrite
from tests.audit.worlds import World
from tests.log.processes import Process
from tests.secured import Secured

ORIGIN = "fhir.example/log"
PATIENT = {"resourceType": "Patient"}
ALERT = "http://dicom.nema.org/resources/ontology/DCM|110113"


@pytest.fixture
def signer(tmp_path):
    folder = tmp_path / "signer"
    files = ("--key", str(folder / "log.key"), "--token-file", str(folder / "token"))
    process = Process(folder, "signer", "--state", str(folder / "s"), *files, "--name", ORIGIN)
    yield process.start()
    process.stop()


@pytest.fixture
def witness(tmp_path, signer):
    folder = tmp_path / "witness"
    names = ("--name", "witness.example/w", "--log", str(signer.verifier))
    process = Process(folder, "witness", "--state", str(folder / "s"), *names)
    yield process.start()
    process.stop()


@pytest.fixture
def server(tmp_path, signer, witness):
    made = Secured(
        tmp_path / "server",
        SALUS_LOG_PUBLIC="true",
        SALUS_LOG_SIGNER=signer.url,
        SALUS_LOG_SIGNER_KEY=str(signer.verifier),
        SALUS_LOG_SIGNER_TOKEN=str(tmp_path / "signer" / "token"),
        SALUS_LOG_WITNESS=f"{witness.verifier} {witness.url}",
        SALUS_LOG_PUBLISH_FILE=str(tmp_path / "published.txt"),
    )
    (tmp_path / "server").mkdir()
    return made


def test_a_rewritten_log_is_signed_by_nobody(tmp_path, server, signer, witness):
    server.start()
    with server.client(server.token()) as fhir:
        ids = [fhir.post("/Patient", json=PATIENT).json()["id"] for _ in range(9)]
        asked = fhir.get(f"/Patient/{ids[0]}/$proof").json()["parameter"]
    receipt = next(each["valueString"] for each in asked if each["name"] == "receipt")
    policy = Policy(signer.verifier, (witness.verifier,), needed=1)
    assert check(parse(receipt.encode()), policy).cosigned[0].by == witness.verifier
    public = httpx.get(f"{server.base}/audit/checkpoint", trust_env=False)
    state, _ = checkpoint.opened(note.parse(public.content), signer.verifier)
    assert server.stop() == 0

    rewritten(server, Signed(state, ""))
    server.start()
    until_alarmed(server)
    with server.client(server.token()) as fhir:
        assert fhir.get(f"/Patient/{ids[0]}").status_code == 200, "service goes on"
        assert fhir.get(f"/Patient/{ids[0]}/$proof").status_code == 503
        found = fhir.get("/AuditEvent", params={"type": ALERT}).json()["entry"]
    alarms = [e["resource"]["subtype"][-1]["code"] for e in found]
    assert "log-alarm" in alarms
    assert server.stop() == 0
    assert "The signer refuses" in server.log.read_text()
    assert "ALARM: the log was rewritten, cut or forked" in signer.said
    known = ("--log", str(signer.verifier), "--witness", str(witness.verifier))
    published = ("--checkpoint", str(tmp_path / "published.txt"))
    done = server.command("audit", "verify", "--json", *known, *published)
    report = json.loads(done.stdout)
    assert (done.returncode, report["first"]["kind"]) == (1, "rewritten")


def rewritten(server, signed):
    """What somebody does who has the data host, its files and its keys: one record is another, the
    log is as if it had always been so, and what the store knew of its signatures is gone."""
    provider = FileKeys(server.keys)
    with closing(Vault.open(server.keys, provider)) as vault:
        key = page_key(server.data, provider)
        with closing(connect(server.data / "salus.db", key, writes=True)) as conn:
            rewrite(Attack(conn, World(server.data, vault, [signed], set()), Random(3)))
            conn.execute("DELETE FROM kept WHERE space = 'log' AND key NOT GLOB 'key/*'")


def until_alarmed(server):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        metrics = httpx.get(f"{server.base}/metrics", trust_env=False).text
        if "salus_log_alarms_total 1.0" in metrics:
            return
        time.sleep(0.1)
    raise AssertionError(server.log.read_text())
