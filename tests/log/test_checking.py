"""`salus audit check-receipt` says in plain words what a receipt proves, by its exit code too."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner, Result

from fhir_server.log.merkle import salted_leaf
from fhir_server.log.note import LOG, WITNESS, Note, SigningKey
from fhir_server.log.receipt import Receipt
from salus.commands.witness import add_to
from salus.log.checking import check_receipt, named, told
from salus.problem import Problem
from tests.log.trees import Log, leaves

KEY = SigningKey("log.example/a", LOG, b"\1" * 32)
WITNESSED = SigningKey("witness.example/w", WITNESS, b"\2" * 32)
CONTENT = b'{"resourceType":"AuditEvent"}'


def audit(*arguments: str) -> Result:
    """What `salus audit` says to this, and its exit code."""
    commands = typer.Typer()
    add_to(commands)
    return CliRunner().invoke(commands, arguments)


@pytest.fixture
def receipt(tmp_path):
    log = Log([*leaves(2), salted_leaf(bytes(16), CONTENT), *leaves(5, 3)])
    text = log.checkpoint(KEY.name).text
    note = Note(text, (KEY.sign(text), WITNESSED.sign(text, 1_786_000_000)))
    file = tmp_path / "visit.tlog-proof"
    file.write_bytes(Receipt(2, bytes(16), CONTENT, tuple(log.inclusion(2)), note).encode())
    return file


def test_a_cosigned_receipt_holds(receipt, tmp_path):
    keys = ("--log", str(KEY.verifier), "--witness", str(WITNESSED.verifier), "--witnesses", "1")
    content = tmp_path / "record.json"
    said = audit("check-receipt", str(receipt), *keys, "--content", str(content))
    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout == (
        "The receipt holds. This record, byte for byte (29 bytes), is leaf 2 (the first is 0) of "
        "the 8 that the log log.example/a had when its key signed this.\n"
        "witness.example/w vouches that it saw this log on 06 August 2026 at 07:06 UTC.\n"
        "So nobody can change or remove the record, or show others a log without it, unless the "
        "log's key and these witnesses work together.\n"
        "That what the record says is true, and that nothing was left out, is not proven by this.\n"
    )
    assert content.read_bytes() == CONTENT


def test_a_receipt_is_found_in_what_proof_answers(receipt, tmp_path):
    keys = ("--log", str(KEY.verifier), "--witness", str(WITNESSED.verifier))
    answer = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "leaf", "valueInteger": 2},
            {"name": "receipt", "valueString": receipt.read_text()},
        ],
    }
    proof = tmp_path / "proof.json"
    proof.write_text(json.dumps(answer))
    said = [audit("check-receipt", str(each), *keys) for each in (proof, receipt)]
    assert [(each.exit_code, each.stdout) for each in said] == [(0, said[1].stdout)] * 2
    proof.write_text(json.dumps(answer).replace("index 2", "index 3"))
    assert audit("check-receipt", str(proof), *keys).exit_code == 1
    for other in ({"parameter": []}, [], 7):
        proof.write_text(json.dumps(other))
        assert audit("check-receipt", str(proof), *keys).exit_code == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            {
                "resourceType": "Patient",
                "id": "ada",
                "meta": {"versionId": "2", "lastUpdated": "2026-01-05T09:30:00.000Z"},
            },
            "It is Patient/ada, version 2, of 2026-01-05T09:30:00.000Z.",
        ),
        (
            {"resourceType": "AuditEvent", "id": "19", "recorded": "2026-01-05T09:30:00Z"},
            "It is AuditEvent/19, of 2026-01-05T09:30:00Z.",
        ),
        ({"resourceType": "Patient", "id": "ada"}, "It is Patient/ada."),
        ({"kind": "erased"}, ""),
        ([], ""),
    ],
)
def test_a_receipt_says_which_record_it_is_of(content, sentence):
    assert named(json.dumps(content).encode()) == sentence


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {
                "subtype": [{"code": "read"}],
                "agent": [
                    {"who": {"reference": "Practitioner/may"}},
                    {"who": {"identifier": {"value": "chart"}}},
                    {"who": {"display": "salus.test"}},
                ],
                "entity": [{"what": {"reference": "Patient/ann"}}, {"name": "x"}],
            },
            "It says: read of Patient/ann by Practitioner/may, chart.",
        ),
        (
            {
                "subtype": [{"code": "operation", "display": "$everything"}],
                "agent": [{"who": {"identifier": {"value": "dr\u001b[2J"}}}],
                "entity": [{"what": {"reference": f"Basic/{n}"}} for n in range(7)],
            },
            "It says: operation $everything of Basic/0, Basic/1, Basic/2, Basic/3, Basic/4 and 2 "
            "more by dr[2J.",
        ),
        (
            {
                "subtype": [{"code": "110122", "display": "Login"}, {"code": "sign-in"}],
                "agent": [{"who": {"reference": "Patient/ann"}}],
            },
            "It says: Login, sign-in by Patient/ann.",
        ),
        ({"agent": [{}]}, ""),
        ({"resourceType": "Patient", "agent": []}, ""),
    ],
)
def test_a_receipt_of_an_event_says_what_was_done_of_what_and_by_whom(more, sentence):
    assert told(json.dumps({"resourceType": "AuditEvent", **more}).encode()) == sentence


def test_an_altered_receipt_does_not_hold(receipt, tmp_path):
    receipt.write_bytes(receipt.read_bytes().replace(b"index 2", b"index 3"))
    content = tmp_path / "record.json"
    said = audit(
        "check-receipt", str(receipt), "--log", str(KEY.verifier), "--content", str(content)
    )
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr == (
        "This receipt proves nothing. The record is not the one at leaf 3 of the 8 that the log "
        "signed: the record, its place or the proof was changed.\n"
    )
    assert not content.exists()


def test_a_receipt_that_no_trusted_witness_cosigned_says_so(receipt, capsys):
    assert check_receipt(receipt, str(KEY.verifier), [], None, None)
    assert "No witness that you trust vouches for it" in capsys.readouterr().out


def test_every_witness_that_is_named_is_demanded_unless_fewer_will_do(receipt, capsys):
    absent = SigningKey("else.example/w", WITNESS, b"\3" * 32)
    both = [str(WITNESSED.verifier), str(absent.verifier)]
    assert not check_receipt(receipt, str(KEY.verifier), both, None, None)
    assert "1 of the witnesses that you trust cosigned, and you demand 2" in capsys.readouterr().err
    assert check_receipt(receipt, str(KEY.verifier), both, 1, None)


@pytest.mark.parametrize(
    ("log", "witnesses", "needed", "words"),
    [
        ("nonsense", [], None, "nonsense is no verifier key"),
        (str(WITNESSED.verifier), [], None, "where that of a log is needed"),
        (str(KEY.verifier), [], 1, "More witnesses are demanded than are named"),
        (str(KEY.verifier), [str(KEY.verifier)], None, "is the key of a log, not of a witness"),
    ],
)
def test_a_policy_that_is_none_is_refused(receipt, log, witnesses, needed, words):
    with pytest.raises(Problem, match=words):
        check_receipt(receipt, log, witnesses, needed, None)


def test_what_is_no_receipt_is_said_to_be_none(tmp_path):
    (tmp_path / "x").write_bytes(b"hello")
    with pytest.raises(Problem, match="Nothing can be checked: A receipt begins with the line"):
        check_receipt(tmp_path / "x", str(KEY.verifier), [], None, None)
