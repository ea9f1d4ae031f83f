"""What a witness and a signer hold to before they serve, and what a server hears from them."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing

import httpx
import pytest

from fhir_server.log import note as notes
from fhir_server.log.checkpoint import Checkpoint
from fhir_server.log.merkle import EMPTY_ROOT, leaf_hash
from fhir_server.log.note import LOG, WITNESS, Note, SigningKey
from fhir_server.log.signing import following
from fhir_server.log.witness import Refused, Request, Unreachable
from fhir_server.storage.store import StoreError
from salus.log import running, serving
from salus.log.client import RemoteSigner, RemoteWitness
from salus.log.signer import signer
from salus.log.state import SIGNED, Signed, begin_since, key_of
from salus.log.witness import witness
from salus.problem import Problem
from tests.log.trees import Log, leaves

KEY = SigningKey("log.example/a", LOG, b"\1" * 32)
COSIGNS = SigningKey("witness.example/w", WITNESS, b"\2" * 32)
TOKEN = "t" * 40
GROWN = Log(leaves(300))
REWRITTEN = Log([*leaves(5), leaf_hash(b"rewritten"), *leaves(300, 6)])


def note_of(size, log=GROWN):
    text = log.checkpoint(KEY.name, size).text
    return Note(text, (KEY.sign(text),))


@pytest.fixture
def told():
    return []


@pytest.fixture
def signed(tmp_path):
    with closing(Signed(tmp_path / "signed")) as made:
        made.begin()
        yield made


@pytest.fixture
def witness_app(signed, told):
    return witness(COSIGNS, {KEY.name: [KEY.verifier]}, signed, told.append, lambda: 1_000_000.5)


@pytest.fixture
def signer_app(tmp_path, told):
    with closing(Signed(tmp_path / "signer")) as made:
        made.begin()
        yield signer(KEY, TOKEN, made, told.append)


def posted(app, path, body, method="POST", **headers):
    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://witness") as client:
            return await client.request(method, path, content=body, headers=headers)

    return asyncio.run(ask())


def test_a_witness_answers_what_is_none_of_its_business(witness_app):
    assert posted(witness_app, "/else", b"").status_code == 404
    assert posted(witness_app, "/add-checkpoint", b"old x").status_code == 400
    assert posted(witness_app, "/add-checkpoint", b"x" * 65_537).status_code == 413
    got = posted(witness_app, "/add-checkpoint", b"", "GET")
    assert (got.status_code, got.headers["allow"]) == (405, "POST")
    assert posted(witness_app, "/", b"", "GET").text == f"{COSIGNS.verifier}\n"


def test_a_witness_that_cannot_write_its_state_does_not_sign(
    witness_app, signed, told, monkeypatch
):
    def full(file, content):
        raise OSError(28, "No space left on device")

    body = Request(0, (), note_of(20).encode()).encode()
    with monkeypatch.context() as broken:
        broken.setattr("salus.log.state.write_durably", full)
        answer = posted(witness_app, "/add-checkpoint", body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert (dict(signed.heads), len(told)) == ({}, 1)
    assert posted(witness_app, "/add-checkpoint", body).status_code == 200


def test_the_state_is_on_disk_before_the_cosignature_is_given(tmp_path, witness_app, signed):
    body = Request(0, (), note_of(20).encode()).encode()
    answer = posted(witness_app, "/add-checkpoint", body)
    assert notes.signatures(answer.text) == (COSIGNS.sign(note_of(20).text, 1_000_000),)
    written = json.loads((tmp_path / "signed" / SIGNED).read_bytes())
    assert written == {KEY.name: note_of(20).encode().decode()}


@pytest.mark.parametrize("certain", [False, True])
def test_refused_requests_are_kept_up_to_a_number_once_of_each_checkpoint(
    signed, monkeypatch, certain
):
    monkeypatch.setattr("salus.log.state.EVIDENCE", 3)
    requests = [b"old 1\n\n" + note_of(10 + each).encode() for each in range(5)]
    kept = [signed.keep(each, certain) for each in requests]
    assert [file is not None for file, _ in kept] == [True, True, True, False, False]
    assert [fresh for _, fresh in kept] == [True] * 5
    assert signed.keep(requests[0].replace(b"old 1", b"old 2"), certain) == (kept[0][0], False)


def test_a_first_start_makes_a_key_that_stays(tmp_path):
    file = tmp_path / "keys" / "witness.key"
    with closing(Signed(tmp_path / "state")) as signed:
        made = key_of(file, "witness.example/w", WITNESS, signed)
    assert file.stat().st_mode & 0o777 == 0o600
    with closing(Signed(tmp_path / "state")) as signed:
        assert key_of(file, "witness.example/w", WITNESS, signed) == made
        with pytest.raises(Problem, match=r"is the key of witness\.example/w, not of other"):
            key_of(file, "other", WITNESS, signed)
        with pytest.raises(Problem, match="is the key of a witness"):
            key_of(file, None, LOG, signed)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / SIGNED).unlink(), "there is no signed.json"),
        (lambda folder: (folder / "key").unlink(), "it is the key that signed before"),
        (lambda folder: (folder / "key").write_text("nonsense"), "holds no signing key"),
        (lambda folder: cut(folder / SIGNED), "is damaged"),
        (lambda folder: (folder / SIGNED).write_text("[]"), "is damaged"),
        (lambda folder: renamed(folder / SIGNED), "is damaged"),
    ],
)
def test_who_lost_what_was_signed_signs_no_more(tmp_path, damage, words):
    with closing(Signed(tmp_path)) as signed:
        key_of(tmp_path / "key", KEY.name, LOG, signed)
        signed.remember(GROWN.checkpoint(KEY.name, 20), note_of(20))
    damage(tmp_path)
    with pytest.raises(Problem, match=words), closing(Signed(tmp_path)) as signed:
        key_of(tmp_path / "key", KEY.name, LOG, signed)


def cut(file):
    file.write_bytes(file.read_bytes()[:50])


def renamed(file):
    file.write_text(file.read_text().replace(KEY.name, "log.example/b", 1))


def test_one_folder_has_one_witness(tmp_path, signed):
    with pytest.raises(StoreError, match="is in use by process"):
        Signed(tmp_path / "signed")


def test_a_key_from_elsewhere_comes_with_the_last_that_it_signed(tmp_path):
    key, last = tmp_path / "log.key", tmp_path / "checkpoint"
    key.write_text(KEY.encode())
    with closing(Signed(tmp_path / "state")) as signed:
        with pytest.raises(Problem, match="can begin with --since CHECKPOINT"):
            key_of(key, None, LOG, signed)
        text = note_of(257).text
        last.write_bytes(Note(text, (SigningKey(KEY.name, LOG, b"\5" * 32).sign(text),)).encode())
        with pytest.raises(Problem, match="is no checkpoint that"):
            begin_since(signed, key, last)
        last.write_bytes(note_of(257).encode())
        begin_since(signed, key, last)
        assert key_of(key, None, LOG, signed) == KEY
        with pytest.raises(Problem, match="is for a first start"):
            begin_since(signed, key, last)
    with closing(Signed(tmp_path / "state")) as signed:
        assert signed.heads[KEY.name].size == 257


def test_a_key_needs_a_name_to_be_made(tmp_path, signed):
    with pytest.raises(Problem, match="say of what with --name"):
        key_of(tmp_path / "key", None, LOG, signed)
    with pytest.raises(Problem, match="is no name for a key"):
        key_of(tmp_path / "key", "a b", LOG, signed)


def test_the_token_travels_over_https_only(tmp_path):
    with pytest.raises(Problem, match="travels over https only"):
        running.signer(
            "0.0.0.0:1", tmp_path, tmp_path / "k", tmp_path / "t", KEY.name, None, None, None, False
        )


@pytest.mark.parametrize("text", ["", "1", ":1", "host:", "host:x", "host:70000", "host:-1"])
def test_what_is_no_address_to_listen_on_is_refused(text):
    with pytest.raises(Problem, match="write HOST:PORT"):
        serving.listening(text, None, None)


def test_an_address_to_listen_on_is_read(tmp_path):
    assert serving.listening("[::1]:80", None, None).url == "http://[::1]:80"
    with pytest.raises(Problem, match="belong together"):
        serving.listening("a:1", tmp_path, None)


def test_a_server_asks_its_signer_and_its_witness(signer_app, witness_app):
    """As the publisher does; the two are asked anew from where they say they are."""

    async def published():
        clients = [httpx.AsyncClient(transport=httpx.ASGITransport(app)) for app in apps]
        signer = RemoteSigner("http://signer/", TOKEN, KEY.verifier, clients[0])
        witness = RemoteWitness("http://witness", COSIGNS.verifier, clients[1])
        for size in (20, 257, 300):
            checkpoint = GROWN.checkpoint(KEY.name, size)
            signature = await following(
                lambda old, proof, c=checkpoint: signer.sign(c, old, proof), 0, size, GROWN.tile
            )
            note = Note(checkpoint.text, (signature,))
            cosignature = await following(
                lambda old, proof, n=note: witness.cosign(n, old, proof), 0, size, GROWN.tile
            )
            note = note.signed([cosignature])
            assert len(notes.verified(note, [KEY.verifier, COSIGNS.verifier])) == 2
        for client in clients:
            await client.aclose()

    apps = (signer_app, witness_app)
    asyncio.run(published())


@pytest.mark.parametrize(
    ("size", "old", "token", "words"),
    [
        (300, 257, TOKEN, "answers 422: Not proven to begin with the 257 leaves before"),
        (257, 257, TOKEN, "answers 409: Another root was signed for 257 leaves"),
        (20, 20, TOKEN, "has seen 257 leaves"),
        (300, 257, "x", "answers 401: Unknown token"),
    ],
)
def test_a_refusal_says_who_refused_and_why(signer_app, size, old, token, words):
    async def asked():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(signer_app)) as client:
            honest = RemoteSigner("http://signer", TOKEN, KEY.verifier, client)
            await honest.sign(GROWN.checkpoint(KEY.name, 257), 0, [])
            other = RemoteSigner("http://signer", token, KEY.verifier, client)
            proof = REWRITTEN.consistency(old, size)
            await other.sign(REWRITTEN.checkpoint(KEY.name, size), old, proof)

    with pytest.raises(Refused, match=words):
        asyncio.run(asked())


def answering(status, text, content_type="text/plain"):
    return httpx.MockTransport(
        lambda _: httpx.Response(status, text=text, headers={"content-type": content_type})
    )


STRANGER = SigningKey(COSIGNS.name, WITNESS, b"\7" * 32)
EMPTY = Checkpoint(KEY.name, 0, EMPTY_ROOT)


@pytest.mark.parametrize(
    ("transport", "words"),
    [
        (answering(200, "hello"), "does not speak the protocol"),
        (answering(200, STRANGER.sign(EMPTY.text, 5).line), "does not sign with the key"),
        (answering(200, COSIGNS.sign("else\n", 5).line), "answers what is not true"),
        (answering(409, "x\n", "text/x.tlog.size"), "does not speak the protocol"),
        (answering(503, "busy"), "answers 503"),
        (None, "does not answer"),
    ],
)
def test_an_answer_that_is_none_counts_as_none(transport, words):
    async def asked():
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            witness = RemoteWitness("http://127.0.0.1:1", COSIGNS.verifier, client)
            await witness.cosign(Note(EMPTY.text, (KEY.sign(EMPTY.text),)), 0, [])

    with pytest.raises(Unreachable, match=words):
        asyncio.run(asked())
