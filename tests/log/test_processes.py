"""The witness and the signer as processes: what they refuse, and what a crash cannot make them
forget."""

from __future__ import annotations

import json

import pytest

from fhir_server.log import note as notes
from fhir_server.log.merkle import leaf_hash
from fhir_server.log.note import LOG, Note, SigningKey
from fhir_server.log.witness import Request
from tests.log.processes import Process
from tests.log.trees import Log, leaves

KEY = SigningKey("log.example/a", LOG, b"\1" * 32)
OTHER = SigningKey("log.example/b", LOG, b"\2" * 32)
GROWN = Log(leaves(300))
REWRITTEN = Log([*leaves(5), leaf_hash(b"rewritten"), *leaves(300, 6)])


@pytest.fixture
def witness(tmp_path):
    state = ("--state", str(tmp_path / "witness"), "--name", "witness.example/w")
    logs = (part for key in (KEY, OTHER) for part in ("--log", str(key.verifier)))
    process = Process(tmp_path, "witness", *state, *logs).start()
    yield process
    process.stop()


def test_a_witness_follows_a_log_and_nothing_that_contradicts_it(witness, tmp_path):
    """Growth; then, before and after a kill -9: the log rewritten and signed with its real key,
    forked, and cut; then growth again."""
    first = witness.post("/add-checkpoint", submitted(0, 20))
    assert (first.status_code, first.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    (signature,) = notes.signatures(first.text)
    said = witness.verifier.verify(GROWN.checkpoint(KEY.name, 20).text, signature)
    assert (said.time or 0) > 1_700_000_000
    assert witness.post("/add-checkpoint", submitted(20, 257)).status_code == 200
    assert witness.post("/add-checkpoint", submitted(0, 3, REWRITTEN, OTHER)).status_code == 200
    before = witness.verifier

    cosigns_nothing_else(witness)
    witness.kill()
    witness.start()
    cosigns_nothing_else(witness)

    assert witness.verifier == before
    assert witness.post("/add-checkpoint", submitted(257, 300)).status_code == 200
    assert witness.post("/add-checkpoint", submitted(3, 300, REWRITTEN, OTHER)).status_code == 200
    assert witness.stop() == 0
    kept = json.loads((tmp_path / "witness" / "signed.json").read_text())
    assert notes.parse(kept[KEY.name].encode()).text == GROWN.checkpoint(KEY.name).text
    said = "ALARM: the log was rewritten, or somebody sent a false proof: Not proven to begin"
    assert said in witness.said
    assert "ALARM: the log was rewritten, cut or forked: Another root was signed" in witness.said
    assert "log.example/a: signed up to 257 leaves" in witness.said
    kept = (each.name[:5] for each in (tmp_path / "witness").glob("*-*.txt"))
    assert sorted(kept) == ["fork-", "refus"]  # each once


def cosigns_nothing_else(witness):
    rewritten = witness.post("/add-checkpoint", submitted(257, 300, REWRITTEN))
    assert (rewritten.status_code, rewritten.text) == (
        422,
        "Not proven to begin with the 257 leaves before\n",
    )
    forked = witness.post("/add-checkpoint", submitted(257, 257, REWRITTEN))
    assert (forked.status_code, forked.text) == (409, "Another root was signed for 257 leaves\n")
    for old, size in ((0, 300), (0, 20), (20, 20)):
        stale = witness.post("/add-checkpoint", submitted(old, size))
        assert (stale.status_code, stale.text) == (409, "257\n")
        assert stale.headers["content-type"] == "text/x.tlog.size"


@pytest.fixture
def signer(tmp_path):
    (tmp_path / "token").write_text("t" * 40)
    folders = {"--state": "signer", "--key": "log.key", "--token-file": "token"}
    arguments = [part for name, at in folders.items() for part in (name, str(tmp_path / at))]
    process = Process(tmp_path, "signer", *arguments, "--name", KEY.name).start()
    yield process
    process.stop()


def test_a_signer_signs_what_was_appended_and_nothing_else(signer):
    known = {"authorization": f"Bearer {'t' * 40}"}
    first = signer.post("/sign-checkpoint", to_sign(0, 20), **known)
    (signature,) = notes.signatures(first.text)
    assert signer.verifier.verify(GROWN.checkpoint(KEY.name, 20).text, signature)
    assert signer.post("/sign-checkpoint", to_sign(20, 257), **known).status_code == 200

    signs_nothing_else(signer, known)
    signer.kill()
    signer.start()
    signs_nothing_else(signer, known)

    assert signer.post("/sign-checkpoint", to_sign(257, 300), **known).status_code == 200
    assert "ALARM: the log was rewritten, cut or forked: The log had 257 leaves" in signer.said
    assert "A request came without the right token" in signer.said


def signs_nothing_else(signer, known):
    rewritten = signer.post("/sign-checkpoint", to_sign(257, 300, REWRITTEN), **known)
    assert rewritten.status_code == 422
    smaller = signer.post("/sign-checkpoint", to_sign(20, 20), **known)
    assert (smaller.status_code, smaller.text) == (409, "257\n")
    for headers in ({}, {"authorization": "Bearer nonsense"}, {"authorization": "t" * 40}):
        stranger = signer.post("/sign-checkpoint", to_sign(257, 300), **headers)
        assert (stranger.status_code, stranger.headers["www-authenticate"]) == (401, "Bearer")


def submitted(old, size, log=GROWN, key=KEY):
    text = log.checkpoint(key.name, size).text
    note = Note(text, (key.sign(text),))
    return Request(old, tuple(log.consistency(old, size)), note.encode()).encode()


def to_sign(old, size, log=GROWN):
    text = log.checkpoint(KEY.name, size).text
    return Request(old, tuple(log.consistency(old, size)), text.encode()).encode()
