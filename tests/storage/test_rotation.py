"""Keys are replaced under a server that reads, and what was wrapped before opens nothing then."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import threading
import time
from contextlib import suppress

import apsw
import pytest

from fhir_server.storage import vault as vaults
from fhir_server.storage.keydb import KEYS_DB
from fhir_server.storage.keys import KEY_FILE, FileKeys, page_key
from fhir_server.storage.keyservices.transit import TransitKeys
from fhir_server.storage.rotation import renew_intermediates, renew_service_key
from fhir_server.storage.store import StoreError, Unavailable
from fhir_server.storage.vault import SPREAD, Vault
from tests.storage.keyservices.servers import Transit

NONCE = b"n" * 12


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def keys(folder):
    return FileKeys(folder)


@pytest.fixture
def made(folder, keys, data):
    """A vault's folder, its page key, and what was sealed under 300 of its keys."""
    page = page_key(data, keys)
    vault = Vault.open(folder, keys)
    blobs = {id: vault.cipher(id).encrypt(NONCE, id, b"") for id in fresh(vault, 300)}
    secret = vault.wrap(b"seed", b"totp of ann")
    vault.close()
    return page, blobs, secret


def fresh(vault, count):
    return [vault.fresh() for _ in range(count)]


def opens(folder, keys, made, data):
    """Whether everything is as before."""
    page, blobs, secret = made
    vault = Vault.open(folder, keys)
    try:
        assert page_key(data, keys) == page
        assert all(vault.cipher(id).decrypt(NONCE, blob, b"") == id for id, blob in blobs.items())
        assert vault.unwrap(secret, b"totp of ann") == b"seed"
    finally:
        vault.close()


def table(folder, sql):
    conn = apsw.Connection(str(folder / KEYS_DB))
    try:
        return conn.execute(sql).fetchall()
    finally:
        conn.close()


def test_a_new_key_file_opens_everything_and_the_former_nothing(folder, keys, made, data):
    before = (folder / KEY_FILE).read_bytes()
    wrapped = [row for (row,) in table(folder, "SELECT wrapped FROM intermediate")]
    told = renew_service_key(folder, data, keys)
    assert told == (SPREAD + 1, "")
    opens(folder, keys, made, data)
    after = (folder / KEY_FILE).read_bytes()
    assert len(after) == len(before) == 40
    assert after != before
    held = (folder / KEYS_DB).read_bytes()
    assert not any(each in held for each in wrapped)
    (folder / KEY_FILE).write_bytes(before)
    with pytest.raises(StoreError, match="name the right folder"):
        Vault.open(folder, keys)
    with pytest.raises(StoreError, match="name the right folder"):
        page_key(data, keys)


def test_what_a_former_key_file_wrapped_directly_still_opens(folder, keys, made, data):
    old = keys.wrap(b"seed", b"totp of bob")
    for _ in range(3):
        renew_service_key(folder, data, keys)
    vault = Vault.open(folder, keys)
    assert vault.unwrap(old, b"totp of bob") == b"seed"
    with pytest.raises(StoreError, match="damaged, or was wrapped for something else"):
        vault.unwrap(old, b"totp of ann")
    vault.close()


def test_an_interrupted_rotation_loses_nothing_and_is_completed(
    folder, keys, made, data, monkeypatch
):
    for place in range(2 * (SPREAD + 2)):
        left = [place]

        def failing(self, key, context, real=FileKeys.wrap, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Unavailable("the test stops it")
            return real(self, key, context)

        with monkeypatch.context() as broken:
            broken.setattr(FileKeys, "wrap", failing)
            with suppress(Unavailable):
                renew_service_key(folder, data, keys)
        opens(folder, keys, made, data)
    renew_service_key(folder, data, keys)
    assert (folder / KEY_FILE).stat().st_size == 40
    opens(folder, keys, made, data)


def test_the_service_of_vault_rotates_and_its_former_version_may_go(folder, tmp_path, data):
    token = tmp_path / "token"
    token.write_text(Transit.token)
    token.chmod(0o600)
    with Transit() as served:
        keys = TransitKeys(served.address, "salus", token)
        vault = Vault.open(folder, keys)
        id, page = vault.fresh(), page_key(data, keys)
        blob = vault.cipher(id).encrypt(NONCE, b"content", b"")
        vault.close()
        told = renew_service_key(folder, data, keys)
        assert "min_decryption_version" in told.remaining
        served.oldest = 2
        vault = Vault.open(folder, keys)
        assert vault.cipher(id).decrypt(NONCE, blob, b"") == b"content"
        assert page_key(data, keys) == page
        vault.close()


def test_keys_move_from_a_file_to_a_service(folder, keys, made, data, tmp_path):
    old = keys.wrap(b"seed", b"totp of bob")
    token = tmp_path / "token"
    token.write_text(Transit.token)
    token.chmod(0o600)
    with Transit() as served:
        service = TransitKeys(served.address, "salus", token)
        with pytest.raises(StoreError, match="salus keys rotate --from"):
            Vault.open(folder, service)
        served.fault, served.times = 503, None
        with pytest.raises(Unavailable):
            renew_service_key(folder, data, service, keys)
        served.fault = None
        renew_service_key(folder, data, service, keys)
        renew_service_key(folder, data, service, keys)  # again: as after an interruption
        (folder / KEY_FILE).unlink()
        opens(folder, service, made, data)
        vault = Vault.open(folder, service)
        assert vault.unwrap(old, b"totp of bob") == b"seed"
        vault.close()


def test_new_intermediates_leave_no_former_one_for_data(folder, keys, made, data):
    wrapped = [row for (row,) in table(folder, "SELECT wrapped FROM key")]
    told = []
    assert renew_intermediates(folder, keys, lambda *done: told.append(done)) == 300
    assert told[-1] == (300, 300)
    opens(folder, keys, made, data)
    assert table(folder, "SELECT number, purpose, current FROM intermediate ORDER BY number") == [
        (5, "secrets", 0),
        *((number, "data", 1) for number in range(6, 10)),
        (10, "secrets", 1),
    ]
    held = (folder / KEYS_DB).read_bytes()
    assert not any(each in held for each in wrapped)


def test_a_folder_without_keys_is_named(folder, keys, data):
    with pytest.raises(StoreError, match="There are no keys in"):
        renew_service_key(folder, data, keys)


def rotating(folder, data, done):
    """What another process does meanwhile."""
    keys = FileKeys(folder)
    for _ in range(3):
        renew_service_key(folder, data, keys)
        renew_intermediates(folder, keys)
    done.set()


def test_a_server_reads_and_writes_while_keys_rotate(folder, keys, made, data, monkeypatch):
    """Another process rotates; here nearly every read goes to the file, since little is kept."""
    monkeypatch.setattr(vaults, "CACHED", 16)
    vault = Vault.open(folder, keys, cache_seconds=0.5)
    _, blobs, secret = made
    blobs, faults, stopped = dict(blobs), [], threading.Event()
    done = multiprocessing.get_context("spawn").Event()

    def reads():
        chosen = random.Random(7)
        while not stopped.is_set():
            try:
                id = chosen.choice(list(blobs))
                assert vault.cipher(id).decrypt(NONCE, blobs[id], b"") == id
                new = vault.fresh()
                blobs[new] = vault.cipher(new).encrypt(NONCE, new, b"")
                assert vault.unwrap(secret, b"totp of ann") == b"seed"
                other = vault.wrap(b"other", b"b")
                assert vault.unwrap(other, b"b") == b"other"
            except Exception as fault:
                faults.append(fault)
            time.sleep(0.001)

    async def story():
        tended = asyncio.create_task(vault.keep_fresh())
        reading = asyncio.create_task(asyncio.to_thread(reads))
        other = multiprocessing.get_context("spawn").Process(
            target=rotating, args=(folder, data, done)
        )
        other.start()
        await asyncio.to_thread(other.join, 60)
        await asyncio.sleep(1)
        stopped.set()
        await reading
        tended.cancel()
        await asyncio.gather(tended, return_exceptions=True)

    asyncio.run(story())
    vault.close()
    assert done.is_set()
    assert not faults
    assert len(blobs) > 400
    opens(folder, keys, (made[0], blobs, secret), data)
