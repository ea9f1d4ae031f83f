"""`salus doctor` says who of signer and witnesses is silent, and how data and keys are protected."""

from __future__ import annotations

import re
import time

from fhir_server.log.note import WITNESS, SigningKey
from tests.secured import Secured

WITNESSED = SigningKey("witness.example/w", WITNESS, b"\2" * 32)


def troubles(server) -> float:
    with server.client("") as client:
        told = client.get(f"{server.base}/metrics").text
    return float(re.search(r"^salus_log_troubles (\S+)$", told, re.MULTILINE)[1])


def test_doctor_names_a_witness_that_does_not_cosign_and_says_what_is_not_published(tmp_path):
    server = Secured(
        tmp_path,
        SALUS_LOG_WITNESS=f"{WITNESSED.verifier} http://127.0.0.1:1",
        SALUS_LOG_PUBLISH_FILE=str(tmp_path / "nowhere" / "published.txt"),
    )
    server.start()
    try:
        until = time.monotonic() + 20
        while troubles(server) < 2 and time.monotonic() < until:
            time.sleep(0.2)
        told = server.command("doctor")
    finally:
        server.stop()

    assert told.returncode == 1, told.stdout
    since = r"since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"
    for wrong in (
        r"The witness witness\.example/w does not cosign",
        "Checkpoints cannot be published",
    ):
        assert re.search(rf"^Wrong: {wrong} {since}", told.stdout, re.MULTILINE), told.stdout
    assert told.stdout.count("Remedy: see why in the server's own log") == 2
    assert re.search(r"pages\s+│\s+encrypted by aegis256\b", told.stdout)
    assert re.search(r"wrapped by\s+│\s+the file ", told.stdout)
    assert re.search(r"key backup\s+│\s+none\b", told.stdout)


def test_doctor_says_that_keys_were_never_backed_up_and_that_nothing_is_wrong(tmp_path):
    server = Secured(tmp_path)
    server.start()
    try:
        told = server.command("doctor")
    finally:
        server.stop()

    assert told.returncode == 0, told.stdout
    assert "Could be tighter: No backup of the keys was ever made\n" in told.stdout
    assert "Nothing is wrong" in told.stdout
