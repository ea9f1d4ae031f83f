"""What is kept of checkpoints: the file that they are published to can be used however a write
ended, and a witness keeps what proves a fork whatever else it is sent."""

from __future__ import annotations

import asyncio
import os

import pytest

from fhir_server.log.checkpoint import Checkpoint
from fhir_server.log.merkle import Frontier, leaf_hash
from fhir_server.log.note import LOG, WITNESS, Note, SigningKey
from fhir_server.log.witness import Request
from salus.log.outlets import AppendedFile
from salus.log.state import EVIDENCE, Signed
from salus.log.verifying import _of_file
from salus.log.witness import witness
from salus.problem import Problem

ORIGIN = "fhir.example/log"
KEY = SigningKey.make(ORIGIN, LOG)


def roots():
    frontier, found = Frontier(), []
    for number in range(EVIDENCE + 9):
        frontier.append(leaf_hash(b"%d" % number))
        found.append(frontier.root())
    return found


ROOTS = roots()


def note(size, root=None):
    state = Checkpoint(ORIGIN, size, root or ROOTS[size - 1])
    return Note(state.text, (KEY.sign(state.text),))


def sizes(file):
    """The sizes that a file of checkpoints tells, and how many things in it are wrong."""
    found, false, _ = _of_file(file, [KEY.verifier], ())
    return [each.checkpoint.size for each in found], len(false)


@pytest.mark.parametrize("cut", [1, 2, 30, 105, 110, 140, 170])
def test_what_is_published_after_a_write_that_was_cut_short_can_be_used(tmp_path, cut):
    file = tmp_path / "published.txt"
    outlet = AppendedFile(file)
    asyncio.run(outlet.publish(note(1)))
    whole = file.stat().st_size
    asyncio.run(outlet.publish(note(2)))
    os.truncate(file, file.stat().st_size - cut)
    assert file.stat().st_size > whole or cut > 150
    asyncio.run(outlet.publish(note(3)))
    found, wrong = sizes(file)
    assert (found[0], found[-1]) == (1, 3)
    assert (len(found), wrong) in ((3, 0), (2, 1))


def test_what_is_no_checkpoint_in_a_file_is_told_and_the_rest_counts(tmp_path):
    file = tmp_path / "published.txt"
    one, other = note(1).encode().decode(), note(2).encode().decode()
    file.write_text(f"{one}\njunk\n\n{other}")
    assert sizes(file) == ([1, 2], 1)
    file.write_text(f"{one}\n{other}")
    assert sizes(file) == ([1, 2], 0)
    file.write_bytes(b"\xff\n\njunk\n")
    with pytest.raises(Problem):
        sizes(file)


def test_of_a_file_the_newest_checkpoint_that_is_cosigned_counts_and_others_are_a_note(tmp_path):
    file, by = tmp_path / "published.txt", SigningKey.make("w.example", WITNESS)

    def read(*published):
        file.write_bytes(b"\n".join(each.encode() for each in published))
        found, false, notes = _of_file(file, [KEY.verifier], [by.verifier])
        states = [(each.checkpoint.size, each.cosigned) for each in found]
        return states, [each.text for each in false], notes

    def seen(size, time=1_700_000_000):
        made = note(size)
        return made.signed([by.sign(made.text, time)])

    assert read(note(1), seen(2), note(3)) == (
        [(2, ("w.example",)), (1, ()), (3, ())],
        [],
        [
            f"In {file} 2 checkpoints are not cosigned by those named; "
            "the newest that is has 2 leaves."
        ],
    )
    assert read(seen(1), note(1)) == ([(1, ("w.example",)), (1, ())], [], [])
    found, false, notes = read(note(1), note(2))
    assert (found, len(false), notes) == ([], 2, [])
    assert "It is not cosigned by w.example" in false[0]
    forged = Note(note(2).text, (*note(2).signatures, seen(1).signatures[-1]))
    found, false, notes = read(seen(1), forged)
    assert (found, len(false), notes) == ([(1, ("w.example",))], 1, [])


def test_junk_does_not_keep_a_witness_from_keeping_what_proves_a_fork(tmp_path):
    signed, told = Signed(tmp_path), []
    signed.begin()
    app = witness(SigningKey.make("w", WITNESS), {ORIGIN: [KEY.verifier]}, signed, told.append)

    def asked(old, checkpoint, proof=()):
        answers = []

        async def receive():
            body = Request(old, proof, checkpoint.encode()).encode()
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            answers.append(message)

        scope = {"type": "http", "path": "/add-checkpoint", "method": "POST", "headers": []}
        asyncio.run(app(scope, receive, send))
        return answers[0]["status"]

    assert asked(0, note(5)) == 200
    for _ in range(3):
        assert asked(5, note(7), (os.urandom(32),)) == 422
    assert len(told) == 1
    assert "or somebody sent a false proof" in told[0]
    for size in range(7, EVIDENCE + 9):
        assert asked(5, note(size), (os.urandom(32),)) == 422
    assert len(list(tmp_path.glob("refused-*"))) == EVIDENCE

    forked = note(5, b"x" * 32)
    assert asked(5, forked) == 409
    (file,) = tmp_path.glob("fork-*")
    assert told[-1].startswith("ALARM: the log was rewritten, cut or forked: Another root")
    assert forked.encode() in file.read_bytes()
    assert note(5).encode() in file.read_bytes()
    signed.close()
