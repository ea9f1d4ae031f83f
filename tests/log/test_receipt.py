"""A receipt proves, without a server, that a record is in the log as it is; an altered one nothing."""

from __future__ import annotations

import pytest

from fhir_server.log import receipt as receipts
from fhir_server.log.merkle import salted_leaf
from fhir_server.log.note import LOG, WITNESS, Malformed, Note, SigningKey, Untrusted
from fhir_server.log.receipt import Policy, Receipt, check
from tests.log.trees import Log, leaves

SALT = bytes(range(16))
CONTENT = b'{"resourceType":"AuditEvent",\n\n"id":"1"}'  # with an empty line
KEY = SigningKey("log.example/a", LOG, b"\1" * 32)
WITNESSES = tuple(SigningKey(f"w{each}.example", WITNESS, bytes([each]) * 32) for each in (2, 3, 4))
FIRST, SECOND, THIRD = (each.verifier for each in WITNESSES)


@pytest.fixture(scope="module")
def log():
    made = Log(leaves(7))
    made.append(salted_leaf(SALT, CONTENT))
    for leaf in leaves(500, 8):
        made.append(leaf)
    return made


@pytest.fixture
def receipt(log):
    text = log.checkpoint(KEY.name).text
    signatures = (KEY.sign(text), *(each.sign(text, 1_000_000_000) for each in WITNESSES[:2]))
    return Receipt(7, SALT, CONTENT, tuple(log.inclusion(7)), Note(text, signatures))


def test_a_receipt_comes_back_as_it_was_and_proves_its_record(receipt):
    found = receipts.parse(receipt.encode())
    assert found == receipt
    proven = check(found, Policy(KEY.verifier, (FIRST, SECOND, THIRD), 2))
    assert (proven.leaf, proven.content, proven.checkpoint.size) == (7, CONTENT, 508)
    assert [(each.by.name, each.time) for each in proven.cosigned] == [
        ("w2.example", 1_000_000_000),
        ("w3.example", 1_000_000_000),
    ]


def test_a_receipt_has_the_shape_of_the_standard(receipt):
    lines = receipt.encode().decode().split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1].startswith("extra ")
    assert lines[2] == "index 7"
    assert lines[3 + len(receipt.proof)] == ""
    assert lines[4 + len(receipt.proof) :][:2] == ["log.example/a", "508"]
    assert receipt.extra == b"salus-record/v1\n000102030405060708090a0b0c0d0e0f\n" + CONTENT


def test_a_notice_has_no_salt(log):
    notice = b'{"erased":"leaves 3 to 5"}'
    grown = Log([*leaves(7), salted_leaf(b"", notice)])
    text = grown.checkpoint(KEY.name).text
    made = Receipt(7, b"", notice, tuple(grown.inclusion(7)), Note(text, (KEY.sign(text),)))
    assert check(receipts.parse(made.encode()), Policy(KEY.verifier)).content == notice


def test_every_altered_byte_of_a_receipt_is_found(receipt):
    """A byte of the checkpoint's unknown signatures may change: they prove nothing."""
    data, policy = receipt.encode(), Policy(KEY.verifier, (FIRST, SECOND), 2)
    for at in range(len(data)):
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises((Malformed, Untrusted)):
            check(receipts.parse(altered), policy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"content": b"{}"}, "the record, its place or the proof was changed"),
        ({"salt": bytes(16)}, "the record, its place or the proof was changed"),
        ({"salt": b""}, "the record, its place or the proof was changed"),
        ({"leaf": 6}, "The record is not the one at leaf 6 of the 508"),
        ({"leaf": 508}, "The record is not the one at leaf 508 of the 508"),
        ({"proof": ()}, "the record, its place or the proof was changed"),
    ],
)
def test_what_is_not_so_is_not_proven(receipt, change, words):
    with pytest.raises(Untrusted) as refusal:
        check(receipt._replace(**change), Policy(KEY.verifier))
    assert words in str(refusal.value)


def test_a_checkpoint_of_another_log_or_key_proves_nothing(receipt):
    other = SigningKey("log.example/b", LOG, b"\1" * 32).verifier
    with pytest.raises(Untrusted, match=r"of log\.example/a, not of log\.example/b"):
        check(receipt, Policy(other))
    stranger = SigningKey(KEY.name, LOG, b"\7" * 32).verifier
    with pytest.raises(Untrusted, match="No signature is by a known key"):
        check(receipt, Policy(stranger))


def test_as_many_witnesses_as_the_reader_demands(receipt):
    assert len(check(receipt, Policy(KEY.verifier, (FIRST, THIRD), 1)).cosigned) == 1
    with pytest.raises(Untrusted, match="1 of the witnesses that you trust cosigned, and you dem"):
        check(receipt, Policy(KEY.verifier, (FIRST, THIRD), 2))
    assert check(receipt, Policy(KEY.verifier, (THIRD,), 0)).cosigned == ()


def test_a_witness_under_two_names_counts_once(receipt):
    """One secret key may be behind two names; it is still one witness."""
    twin = SigningKey("twin.example", WITNESS, WITNESSES[0].secret)
    text = receipt.note.text
    both = receipt._replace(note=receipt.note.signed([twin.sign(text, 5)]))
    assert len(check(both, Policy(KEY.verifier, (FIRST, twin.verifier), 1)).cosigned) == 1
    with pytest.raises(Malformed, match="More witnesses are demanded than are named"):
        Policy(KEY.verifier, (FIRST, twin.verifier), 2)


def test_the_log_is_no_witness_of_itself():
    with pytest.raises(Malformed, match="is the key of a log, not of a witness"):
        Policy(KEY.verifier, (KEY.verifier,), 1)
    with pytest.raises(Malformed, match="is the key of a witness, not of a log"):
        Policy(FIRST)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"tlog-proof@v1", b"tlog-proof@v2"),
        (b"index 7", b"index 07"),
        (b"index 7", b"index -1"),
        (b"index 7\n", b""),
        (b"extra ", b"extra  "),
        (b"\n\n", b"\n"),
    ],
)
def test_what_is_not_spelled_as_a_receipt_is_none(receipt, old, new):
    with pytest.raises(Malformed):
        receipts.parse(receipt.encode().replace(old, new, 1))


@pytest.mark.parametrize(
    "extra",
    [
        b"salus-record/v2\n\n{}",
        b"salus-record/v1\n00\n{}",
        b"salus-record/v1\nzz\n{}",
        b"salus-record/v1\n000102030405060708090A0B0C0D0E0F\n{}",
        b"salus-record/v1\n",
    ],
)
def test_a_record_has_one_spelling(receipt, extra, monkeypatch):
    monkeypatch.setattr(Receipt, "extra", extra)
    with pytest.raises(Malformed):
        receipts.parse(receipt.encode())
