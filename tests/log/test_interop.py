"""The reference implementations of the standards accept what our log makes and refuse it altered,
and ours judges theirs alike.

They are those of the standards' authors, in Go: golang.org/x/mod/sumdb (note, tlog) and
github.com/transparency-dev/formats (checkpoints, cosignatures, tlog-proof); see interop/main.go.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from base64 import b64decode, b64encode
from pathlib import Path

import pytest

from fhir_server.log import checkpoint as checkpoints
from fhir_server.log import note as notes
from fhir_server.log import receipt as receipts
from fhir_server.log import tiles
from fhir_server.log.merkle import leaf_hash, salted_leaf, verify_consistency
from fhir_server.log.note import LOG, WITNESS, Malformed, Note, SigningKey, Untrusted, Verifier
from fhir_server.log.receipt import Policy, Receipt
from tests.log.trees import Log

KEY = SigningKey("log.example/a", LOG, b"\1" * 32)
WITNESSES = tuple(SigningKey(f"w{each}.example", WITNESS, bytes([each]) * 32) for each in (2, 3))
SALT = bytes(range(16))
CONTENTS = [b'{"id":"%d"}' % each for each in range(700)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Answers questions, many at once; the program is built where Go is installed."""
    if shutil.which("go") is None:
        reason = "needs Go, to build the reference implementations"
        if os.environ.get("SALUS_CI") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    program = tmp_path_factory.mktemp("interop") / "interop"
    source = Path(__file__).parent / "interop"
    subprocess.run(["go", "build", "-C", source, "-o", program, "."], check=True, timeout=300)

    def asked(questions):
        lines = "".join(f"{json.dumps(each, default=text_of)}\n" for each in questions)
        ran = subprocess.run([program], input=lines, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in ran.stdout.splitlines()]

    return asked


def text_of(data):
    return b64encode(data).decode()


@pytest.fixture(scope="module")
def log():
    return Log([salted_leaf(SALT, content) for content in CONTENTS])


def note_of(log, size):
    text = log.checkpoint(KEY.name, size).text
    return Note(text, (KEY.sign(text), *(each.sign(text, 1_786_000_000) for each in WITNESSES)))


def trusted():
    return {
        "Log": str(KEY.verifier),
        "Witnesses": [str(each.verifier) for each in WITNESSES],
    }


def flipped(data):
    """The data with one bit flipped, at every 7th byte."""
    for at in range(0, len(data), 7):
        yield data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def verdicts(reference, questions):
    return ["Refused" not in each for each in reference(questions)]


def test_our_checkpoints_and_cosignatures_are_accepted_and_altered_ones_refused(reference, log):
    fair = [note_of(log, size).encode() for size in (0, 1, 256, 257, 700)]
    false = [each for note in fair[1:3] for each in flipped(note)]
    asked = [{"kind": "note", "note": each, **trusted()} for each in (*fair, *false)]
    assert verdicts(reference, asked) == [True] * len(fair) + [False] * len(false)


def test_our_receipts_are_accepted_and_altered_ones_refused(reference, log):
    """They do not look at the record, which is ours to judge, and take a hash that is spelled in
    another way; else the verdicts are the same, and ours is no for every alteration."""
    note = note_of(log, 300)
    whole = Receipt(5, SALT, CONTENTS[5], tuple(log.inclusion(5, 300)), note).encode()
    policy = Policy(KEY.verifier, tuple(each.verifier for each in WITNESSES), 2)
    altered = list(flipped(whole))
    leaf = {"leaf": salted_leaf(SALT, CONTENTS[5])}
    asked = [
        {"kind": "receipt", "receipt": each, **leaf, **trusted()} for each in (whole, *altered)
    ]
    theirs = verdicts(reference, asked)
    assert receipts.check(receipts.parse(whole), policy).leaf == 5
    for each in altered:
        with pytest.raises((Malformed, Untrusted)):
            receipts.check(receipts.parse(each), policy)
    assert theirs == [True, *(all(map(passed_over, lines(whole), lines(each))) for each in altered)]


def lines(data):
    return data.decode(errors="replace").split("\n")


def passed_over(line, altered):
    """Whether the reference implementation takes one line for the other."""
    if line == altered:
        return True
    words, others = line.split(" "), altered.split(" ")
    if words[0] == others[0] == "extra":
        return altered.replace(" ", "").isascii()
    try:
        return len(words) == 1 and b64decode(line) == b64decode(altered, validate=True)
    except ValueError:
        return False


def test_our_inclusion_proofs_are_accepted_and_altered_ones_refused(reference, log):
    asked, expected = [], []
    for size in (1, 2, 3, 8, 255, 256, 257, 513, 700):
        for index in {0, 1, size // 2, size - 2, size - 1} & set(range(size)):
            fair = {
                "kind": "inclusion",
                "leaf": salted_leaf(SALT, CONTENTS[index]),
                "index": index,
                "size": size,
                "root": log.roots[size],
                "proof": log.inclusion(index, size),
            }
            false = [
                {"leaf": leaf_hash(b"else")},
                {"root": log.roots[size - 1]},
                {"proof": [*fair["proof"], SALT * 2]},
            ]
            if size > 1:
                false += [{"index": (index + 1) % size}, {"proof": fair["proof"][1:]}]
            asked += [fair, *(fair | each for each in false)]
            expected += [True] + [False] * len(false)
    assert verdicts(reference, asked) == expected


def test_our_consistency_proofs_are_accepted_and_altered_ones_refused(reference, log):
    asked, expected = [], []
    for size in (2, 3, 8, 255, 256, 257, 513, 700):
        for old in {1, 2, size // 2, size - 1, 256} & set(range(1, size)):
            fair = {
                "kind": "consistency",
                "old": old,
                "oldRoot": log.roots[old],
                "size": size,
                "root": log.roots[size],
                "proof": log.consistency(old, size),
            }
            false = [
                {"oldRoot": log.roots[old - 1]},
                {"root": log.roots[size - 1]},
                {"proof": fair["proof"][1:]},
                {"proof": [*fair["proof"], SALT * 2]},
            ]
            asked += [fair, *(fair | each for each in false)]
            expected += [True] + [False] * len(false)
    assert verdicts(reference, asked) == expected


def test_our_paths_of_tiles_are_theirs(reference):
    paths = [tiles.path(each) for each in tiles.places(300_000)][::50]
    paths += ["0/x001/x234/067.p/8", "2/005"]
    wrong = ["0/x000/001", "0/1", "0/001.p/0", "0/001.p/256", "0/001.p/08", "00/001"]
    assert verdicts(reference, [{"kind": "path", "path": each} for each in paths + wrong]) == [
        tiles.place(each) is not None for each in paths + wrong
    ]
    assert all(map(tiles.place, paths))
    assert not any(map(tiles.place, wrong))


@pytest.mark.parametrize(("size", "index", "old"), [(1, 0, 1), (300, 257, 256), (700, 0, 511)])
def test_theirs_are_accepted_by_ours_and_altered_ones_refused(reference, size, index, old):
    (answer,) = reference([{"kind": "make", "size": size, "index": index, "old": old}])
    made = answer["Made"]
    log = Log([salted_leaf(b"", b"%d" % each) for each in range(size)])
    note = notes.parse(b64decode(made["Note"]))
    key, witness = Verifier.parse(made["Log"]), Verifier.parse(made["Witness"])
    checkpoint, _ = checkpoints.opened(note, key)
    assert checkpoint == log.checkpoint(key.name)
    assert [each.by for each in notes.verified(note, [key, witness])] == [key, witness]

    whole, policy = b64decode(made["Receipt"]), Policy(key, (witness,), 1)
    receipt = receipts.parse(whole)
    assert receipt.encode() == whole
    assert receipt.proof == tuple(log.inclusion(index))
    assert receipts.check(receipt, policy).content == b"%d" % index
    for false in flipped(whole):
        with pytest.raises((Malformed, Untrusted)):
            receipts.check(receipts.parse(false), policy)

    proof = [b64decode(each) for each in made["Consistency"] or ()]
    before = b64decode(made["OldRoot"])
    assert proof == log.consistency(old)
    assert verify_consistency(old, size, proof, before, checkpoint.root)
    paths = [path.removeprefix("tile/8/") for path in made["Paths"]]
    assert sorted(paths) == sorted(map(tiles.path, tiles.places(size)))
