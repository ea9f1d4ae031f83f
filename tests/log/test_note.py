"""Notes, keys and checkpoints are spelled as C2SP says, and only genuine signatures count."""

from __future__ import annotations

import pytest

from fhir_server.log import checkpoint as checkpoints
from fhir_server.log import note as notes
from fhir_server.log.checkpoint import Checkpoint
from fhir_server.log.merkle import EMPTY_ROOT
from fhir_server.log.note import (
    LOG,
    WITNESS,
    Malformed,
    Note,
    Signature,
    SigningKey,
    Untrusted,
    Verifier,
)

# The example of the reference implementation's documentation (golang.org/x/mod/sumdb/note).
SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6"
    "KE6RyyBwJnAM=\n"
)
NOTE = f"{TEXT}\n{LINE}".encode()


@pytest.fixture
def log():
    return SigningKey("log.example/a", LOG, b"\1" * 32)


@pytest.fixture
def witness():
    return SigningKey("witness.example/w", WITNESS, b"\2" * 32)


def test_the_reference_note_is_made_and_verified():
    key = SigningKey.parse(SECRET)
    assert (str(key.verifier), key.encode()) == (PUBLIC, SECRET)
    assert Note(TEXT, (key.sign(TEXT),)).encode() == NOTE
    note = notes.parse(NOTE)
    (found,) = notes.verified(note, [Verifier.parse(PUBLIC)])
    assert (note.text, found.by.name, found.time) == (TEXT, "PeterNeumann", None)


def test_a_note_comes_back_as_it_was():
    text = "one\n\n— no signature, since text follows\n\nlast\n"
    key = SigningKey("näme", LOG, b"\3" * 32)
    note = Note(text, (key.sign(text), Signature("other/x", b"1234", b"whatever")))
    assert notes.parse(note.encode()) == note
    assert notes.verified(note, [key.verifier])[0].by == key.verifier


def test_a_cosignature_says_when_it_was_made(log, witness):
    text = Checkpoint(log.name, 0, EMPTY_ROOT).text
    note = Note(text, (log.sign(text), witness.sign(text, 1_700_000_000)))
    ours = notes.verified(notes.parse(note.encode()), [log.verifier, witness.verifier])
    assert [(each.by.name, each.time) for each in ours] == [
        (log.name, None),
        (witness.name, 1_700_000_000),
    ]
    assert witness.sign(text, 1).blob[:8] == b"\0\0\0\0\0\0\0\1"


def test_another_time_than_was_signed_does_not_verify(log, witness):
    text = "a\n"
    signature = witness.sign(text, 1000)
    later = signature._replace(blob=(1001).to_bytes(8, "big") + signature.blob[8:])
    assert witness.verifier.verify(text, signature).time == 1000
    with pytest.raises(Untrusted, match=r"The signature of witness\.example/w does not verify"):
        witness.verifier.verify(text, later)


def test_a_time_that_no_calendar_has_is_refused(witness):
    latest = 253_402_300_799
    assert witness.verifier.verify("a\n", witness.sign("a\n", latest)).time == latest
    with pytest.raises(Untrusted, match="at a time that no calendar has"):
        witness.verifier.verify("a\n", witness.sign("a\n", latest + 1))


def test_signatures_of_unknown_keys_are_passed_over(log):
    stranger = SigningKey("stranger", LOG, b"\4" * 32)
    namesake = SigningKey(log.name, LOG, b"\5" * 32)  # the same name, another key
    note = Note("a\n", (stranger.sign("b\n"), namesake.sign("b\n"), log.sign("a\n")))
    assert [each.by for each in notes.verified(note, [log.verifier])] == [log.verifier]
    with pytest.raises(Untrusted, match="No signature is by a known key"):
        notes.verified(note, [SigningKey("else", LOG, b"\6" * 32).verifier])


def test_one_false_signature_of_a_known_key_spoils_the_note(log, witness):
    note = Note("a\n", (log.sign("a\n"), witness.sign("b\n", 5)))
    assert notes.verified(note, [log.verifier])
    with pytest.raises(Untrusted, match=r"The signature of witness\.example/w does not verify"):
        notes.verified(note, [log.verifier, witness.verifier])


def test_a_key_that_signs_twice_counts_once(log):
    note = Note("a\n", (log.sign("a\n"), log.sign("a\n")))
    assert len(notes.verified(note, [log.verifier, log.verifier])) == 1


def test_every_altered_byte_of_a_text_or_signature_is_refused(log):
    note = Note("log.example/a\n1\nAAAA\n", (log.sign("log.example/a\n1\nAAAA\n"),))
    data = note.encode()
    for at in range(len(data)):
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises((Malformed, Untrusted)):
            notes.verified(notes.parse(altered), [log.verifier])


def test_another_signature_of_the_same_key_takes_the_place_of_the_old(log, witness):
    note = Note("a\n", (log.sign("a\n"), witness.sign("a\n", 1)))
    newer = note.signed([witness.sign("a\n", 2)])
    assert newer.signatures == (log.sign("a\n"), witness.sign("a\n", 2))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n-- a AAAAAAAA\n",
        NOTE[:-1],
        NOTE.replace(b"\n\n", b"\n"),
        NOTE.replace(b"PeterNeumann ", b"Peter+Neumann "),
        NOTE.replace(b"PeterNeumann ", b" "),
        NOTE.replace(b"PeterNeumann ", "Peter\u2003Neumann ".encode()),
        NOTE.replace(b"AM=\n", b"AN=\n"),  # the same bytes in another spelling
        NOTE.replace(b"AM=\n", b"AM=\r\n"),
        NOTE.replace(b"If", b"I\0f"),
        NOTE.replace(b"If", b"\xff\xfe"),
        NOTE.replace(b"PeterNeumann x08go/", "PeterNeumann AAAA\n— a A".encode()),
        NOTE + LINE.encode() * 100,
    ],
)
def test_what_is_not_spelled_as_a_note_is_none(data):
    with pytest.raises(Malformed):
        notes.parse(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        PUBLIC.replace("c74f20a3", "c74f20a4"),
        PUBLIC.replace("c74f20a3", "C74F20A3"),
        PUBLIC.replace("PeterNeumann", "Peter"),
        PUBLIC[:-4],
        PUBLIC.replace("+ARpc", "+AhpC"),
        "PeterNeumann+c74f20a3",
        SECRET,
    ],
)
def test_what_is_no_verifier_key_is_refused(text):
    with pytest.raises(Malformed):
        Verifier.parse(text)


def test_a_public_key_is_no_signing_key():
    with pytest.raises(Malformed, match="This is no signing key"):
        SigningKey.parse(PUBLIC)
    with pytest.raises(Malformed, match="The id of the signing key"):
        SigningKey.parse(SECRET.replace("c74f20a3", "c74f20a4"))


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\nb"])
def test_a_key_without_a_proper_name_is_not_made(name):
    with pytest.raises(Malformed, match="The name of a key"):
        SigningKey.make(name, LOG)


def test_a_secret_is_not_shown(log):
    assert repr(log) == "SigningKey('log.example/a', 1)"


def test_a_checkpoint_comes_back_as_it_was():
    made = Checkpoint("log.example/a", 5, b"\7" * 32, ("extension",))
    assert (
        made.text == "log.example/a\n5\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\nextension\n"
    )
    assert checkpoints.parse(made.text) == made


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n5\n",
        "a\n5\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
        "\n5\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n",
        "a\n05\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n",
        "a\n-5\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n",
        "a\n٥\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n",
        "a\n9223372036854775808\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n",
        "a\n5\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc\n",
        "a\n5\nBwcH\n",
        "a\n5\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n\n",
        "a\n0\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n",
    ],
)
def test_what_is_not_spelled_as_a_checkpoint_is_none(text):
    with pytest.raises(Malformed):
        checkpoints.parse(text)


def test_a_checkpoint_is_opened_with_its_logs_key_only(log):
    text = Checkpoint(log.name, 5, b"\7" * 32).text
    note = Note(text, (log.sign(text),))
    assert checkpoints.opened(note, log.verifier)[0].head == (5, b"\7" * 32)
    other = SigningKey("log.example/b", LOG, log.secret)
    with pytest.raises(Untrusted, match=r"of log\.example/a, not of log\.example/b"):
        checkpoints.opened(Note(text, (other.sign(text),)), other.verifier)
