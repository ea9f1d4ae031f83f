"""A witness and a signer go with a log from state to state, and never back or aside."""

from __future__ import annotations

import pytest

from fhir_server.log import witness as rules
from fhir_server.log.checkpoint import NOTHING, Checkpoint
from fhir_server.log.merkle import leaf_hash
from fhir_server.log.note import LOG, Malformed, Note, SigningKey
from fhir_server.log.signing import LocalSigner, following
from fhir_server.log.witness import Refused, Request
from tests.log.trees import Log, leaves, now

KEY = SigningKey("log.example/a", LOG, b"\1" * 32)
LOGS = {KEY.name: [KEY.verifier]}
LOG_OF_40 = Log(leaves(40))
FORGED = Log([*leaves(3), leaf_hash(b"forged"), *leaves(40, 4)])


def asked(old, log=LOG_OF_40, size=None, proof=None, key=KEY, origin=KEY.name, **other):
    checkpoint = log.checkpoint(origin, size)
    if proof is None:
        proof = log.consistency(old, size) if old <= checkpoint.size else []
    note = Note(checkpoint.text, (key.sign(other.get("signed", checkpoint.text)),))
    return Request(old, tuple(proof), note.encode()).encode()


def refusal(body, heads=None, logs=LOGS):
    with pytest.raises(Refused) as found:
        rules.witnessed(body, logs, heads or {})
    refused = found.value
    return refused.status, str(refused), refused.size, refused.alarm


def at(size, log=LOG_OF_40):
    return {KEY.name: log.checkpoint(KEY.name, size).head}


@pytest.mark.parametrize(("old", "size"), [(0, 0), (0, 40), (1, 40), (16, 17), (39, 40), (40, 40)])
def test_what_follows_is_cosigned(old, size):
    accepted = rules.witnessed(asked(old, size=size), LOGS, at(old) if old else {})
    assert accepted.checkpoint == LOG_OF_40.checkpoint(KEY.name, size)


def test_a_request_has_the_shape_of_the_standard():
    body = asked(3).decode()
    assert body.startswith("old 3\n")
    assert body.split("\n\n")[1].startswith("log.example/a\n40\n")
    assert rules.parse(body.encode()).proof == tuple(LOG_OF_40.consistency(3))


def test_an_unknown_log_is_404_and_an_unknown_key_403():
    assert refusal(asked(0), logs={"else": [KEY.verifier]}) == (
        404,
        "This log is not witnessed here",
        None,
        False,
    )
    stranger = SigningKey(KEY.name, LOG, b"\2" * 32)
    assert refusal(asked(0, key=stranger))[:2] == (403, "No signature is by a known key")
    assert refusal(asked(0, signed="else\n"))[:2] == (
        403,
        "The signature of log.example/a does not verify",
    )


def test_another_last_size_is_409_with_the_right_one():
    assert refusal(asked(0), at(7)) == (409, "The log had 7 leaves", 7, False)
    assert refusal(asked(7)) == (409, "The log had 0 leaves", 0, False)
    assert refusal(asked(5, size=6), at(7)) == (409, "The log had 7 leaves", 7, False)


def test_an_old_size_beyond_the_checkpoint_is_400():
    assert refusal(asked(40, size=7), at(40))[:2] == (
        400,
        "The old size is greater than that of the checkpoint",
    )


def test_a_rewritten_log_with_the_right_key_is_refused_and_an_alarm():
    """Of every proof that the forger could give, none leads from what was cosigned."""
    for size in (30, 44):
        assert refusal(asked(20, FORGED, size), at(20)) == (
            422,
            "Not proven to begin with the 20 leaves before",
            None,
            True,
        )
    honest = LOG_OF_40.consistency(20)
    assert refusal(asked(20, FORGED, 40, proof=honest), at(20))[0] == 422
    assert refusal(asked(40, FORGED, 40), at(40)) == (
        409,
        "Another root was signed for 40 leaves",
        None,
        True,
    )


def test_a_false_proof_is_422():
    proof = LOG_OF_40.consistency(20)
    for false in ([], proof[1:], proof[::-1], [*proof, proof[0]]):
        assert refusal(asked(20, proof=false), at(20))[0] == 422
    assert refusal(asked(0, proof=proof))[0] == 422
    assert refusal(asked(40, proof=proof), at(40))[0] == 422


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0\n",
        b"old 0\n\n",
        asked(3).replace(b"old 3", b"old 03"),
        asked(3).replace(b"old 3", b"old -3"),
        asked(3).replace(b"old 3", b"new 3"),
        asked(3).replace(b"old 3", b"old3"),
        asked(3).replace(b"old 3\n", b"old 3\nAAAA\n"),
        asked(3, proof=[leaf_hash(b"")] * 64),
        asked(3).replace(b"\n40\n", b"\n040\n"),
        b"old 3\xff" + asked(3)[5:],
    ],
)
def test_what_is_no_request_is_400(body):
    assert refusal(body)[0] == 400


def test_a_signer_signs_what_follows_for_its_own_log_only():
    def unsigned(old, size, origin=KEY.name):
        proof = tuple(LOG_OF_40.consistency(old, size)) if old <= size else ()
        text = LOG_OF_40.checkpoint(origin, size).text
        return Request(old, proof, text.encode()).encode()

    head = LOG_OF_40.checkpoint(KEY.name, 20).head
    assert rules.signable(unsigned(20, 40), KEY.name, head).size == 40
    assert rules.signable(unsigned(0, 40), KEY.name, NOTHING).size == 40
    for body, status, alarm in (
        (unsigned(20, 40, "log.example/b"), 404, False),
        (unsigned(19, 40), 409, False),
        (unsigned(19, 19), 409, True),
        (b"old 0\n\n\xff", 400, False),
    ):
        with pytest.raises(Refused) as refused:
            rules.signable(body, KEY.name, head)
        assert (refused.value.status, refused.value.alarm) == (status, alarm)


class Kept:
    """Where a local signer keeps its state; it may fail."""

    def __init__(self):
        self.head, self.full = None, False

    async def load(self):
        return self.head

    async def store(self, head):
        if self.full:
            raise OSError("no space left")
        self.head = head


def test_a_local_signer_holds_to_what_it_signed():
    kept = Kept()
    signer = LocalSigner(KEY, kept.load, kept.store)
    first = LOG_OF_40.checkpoint(KEY.name, 20)
    assert now(signer.sign(first, 0, [])) == KEY.sign(first.text)
    assert kept.head == first.head
    again = LocalSigner(KEY, kept.load, kept.store)  # as after a restart
    with pytest.raises(Refused, match="Not proven to begin with the 20 leaves before"):
        now(again.sign(FORGED.checkpoint(KEY.name), 20, FORGED.consistency(20)))
    with pytest.raises(Refused, match="The log had 20 leaves"):
        now(again.sign(LOG_OF_40.checkpoint(KEY.name, 10), 10, []))
    with pytest.raises(Refused, match="The key here is of another log"):
        now(again.sign(LOG_OF_40.checkpoint("log.example/b"), 20, LOG_OF_40.consistency(20)))
    assert kept.head == first.head
    assert now(again.sign(LOG_OF_40.checkpoint(KEY.name), 20, LOG_OF_40.consistency(20)))


def test_a_local_signer_that_cannot_remember_does_not_sign():
    kept = Kept()
    kept.full = True
    with pytest.raises(OSError, match="no space left"):
        now(LocalSigner(KEY, kept.load, kept.store).sign(LOG_OF_40.checkpoint(KEY.name), 0, []))


def test_whoever_says_another_size_is_asked_once_more_from_there():
    tried = []

    async def ask(old, proof):
        tried.append(old)
        assert proof == LOG_OF_40.consistency(old)
        if old != 13:
            raise Refused(409, "stale", 13)
        return "signed"

    assert now(following(ask, 30, 40, LOG_OF_40.tile)) == "signed"
    assert tried == [30, 13]


def test_whoever_has_seen_a_greater_log_is_not_asked_again():
    async def ask(old, proof):
        raise Refused(409, "stale", 41)

    with pytest.raises(Refused, match="stale"):
        now(following(ask, 30, 40, LOG_OF_40.tile))


def test_a_request_that_is_none_says_why():
    with pytest.raises(Malformed, match="`old` and a size"):
        rules.parse(b"size 3\n\nx")
    assert Checkpoint(KEY.name, *NOTHING).text.startswith("log.example/a\n0\n")
