"""Keys wrapped in a real PKCS#11 token (SoftHSM2): they never leave it, and its faults are told."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pkcs11
import pytest
from pkcs11 import Attribute

from fhir_server.storage.keys import page_key
from fhir_server.storage.keyservices.choice import KeyService, provider
from fhir_server.storage.keyservices.pkcs11 import TokenKeys
from fhir_server.storage.rotation import renew_service_key
from fhir_server.storage.store import StoreError, Unavailable
from fhir_server.storage.vault import Vault

PLACES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so")
MODULE = next((Path(each) for each in PLACES if Path(each).is_file()), None)
KEY, FOR = b"k" * 32, b"salus intermediate 1 for data"
PIN = "2468"

if MODULE is None or shutil.which("softhsm2-util") is None:
    if os.environ.get("SALUS_CI") == "1":
        pytest.fail("SoftHSM2 is missing: apt-get install softhsm2", pytrace=False)
    pytest.skip("SoftHSM2 is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """Makes tokens. The library reads where they are once in a process, so there is one place."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")

    def make(label):
        run("--init-token", "--free", "--label", label, "--so-pin", "1357", "--pin", PIN)
        return label

    yield make
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


def run(*arguments):
    subprocess.run(["softhsm2-util", *arguments], check=True, capture_output=True)


@pytest.fixture
def pin(tmp_path):
    file = tmp_path / "pin"
    file.write_text(f"{PIN}\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def token(tokens, request):
    return tokens(request.node.name[:32])


@pytest.fixture
def keys(token, pin):
    return TokenKeys(MODULE, token, "salus", pin)


def test_a_key_comes_back_for_what_it_was_wrapped_for(keys, token, pin):
    wrapped = keys.wrap(KEY, FOR)
    assert KEY not in wrapped
    assert len(wrapped) == 4 + 4 + 12 + 32 + 16
    assert TokenKeys(MODULE, token, "salus", pin).unwrap(wrapped, FOR) == KEY
    with pytest.raises(StoreError, match="wrapped for something else") as refusal:
        keys.unwrap(wrapped, b"another purpose")
    assert not isinstance(refusal.value, Unavailable)


def test_the_key_never_leaves_the_token(keys):
    keys.wrap(KEY, FOR)
    (outer,) = keys._session.get_objects({Attribute.LABEL: "salus"})
    assert not outer[Attribute.EXTRACTABLE]
    assert outer[Attribute.SENSITIVE] and outer[Attribute.NEVER_EXTRACTABLE]
    with pytest.raises(pkcs11.exceptions.AttributeSensitive):
        outer[Attribute.VALUE]


def test_a_key_that_could_leave_is_refused(keys):
    keys.wrap(KEY, FOR)
    keys._session.generate_key(
        pkcs11.KeyType.AES,
        256,
        label="salus",
        id=b"\0\0\0\2",
        store=True,
        template={Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False},
    )
    with pytest.raises(StoreError, match="could leave the token"):
        keys.wrap(KEY, FOR)


@pytest.mark.parametrize("change", [slice(0, -1), slice(0, 30), slice(0, 4), slice(4, None)])
def test_a_damaged_key_is_refused(keys, change):
    wrapped = keys.wrap(KEY, FOR)
    with pytest.raises(StoreError) as refusal:
        keys.unwrap(wrapped[change], FOR)
    assert not isinstance(refusal.value, Unavailable)


def test_rotation_makes_a_version_and_the_former_still_opens(keys):
    before = keys.wrap(KEY, FOR)
    assert "delete the secret key labelled salus with id 00000001" in keys.renew()
    after = keys.wrap(KEY, FOR)
    assert (before[4:8], after[4:8]) == (b"\0\0\0\1", b"\0\0\0\2")
    assert keys.unwrap(before, FOR) == keys.unwrap(after, FOR) == KEY


def test_after_rotation_the_former_version_may_be_deleted(keys, tmp_path):
    folder, data = tmp_path / "keys", tmp_path / "data"
    page, vault = page_key(data, keys), Vault.open(folder, keys)
    id, secret = vault.fresh(), vault.wrap(b"seed", b"totp of ann")
    blob = vault.cipher(id).encrypt(b"n" * 12, b"content", b"")
    vault.close()
    renew_service_key(folder, data, keys)
    (former,) = keys._session.get_objects({Attribute.LABEL: "salus", Attribute.ID: b"\0\0\0\1"})
    former.destroy()

    vault = Vault.open(folder, keys)
    assert vault.cipher(id).decrypt(b"n" * 12, blob, b"") == b"content"
    assert vault.unwrap(secret, b"totp of ann") == b"seed"
    assert page_key(data, keys) == page
    vault.close()


def test_another_token_or_label_does_not_open_it(keys, tokens, token, pin):
    wrapped = keys.wrap(KEY, FOR)
    other = TokenKeys(MODULE, tokens("another"), "salus", pin)
    with pytest.raises(StoreError, match="has no version 1"):
        other.unwrap(wrapped, FOR)
    other.wrap(KEY, FOR)
    with pytest.raises(StoreError, match="does not open this"):
        other.unwrap(wrapped, FOR)
    with pytest.raises(StoreError, match="has no version 1"):
        TokenKeys(MODULE, token, "other", pin).unwrap(wrapped, FOR)


def test_a_wrong_pin_is_shown_to_the_token_once(keys, pin, monkeypatch):
    wrapped = keys.wrap(KEY, FOR)
    keys._forget()
    pin.write_text("wrong")
    opened = []
    monkeypatch.setattr(pkcs11, "lib", lambda name, real=pkcs11.lib: opened.append(1) or real(name))
    for _ in range(5):
        with pytest.raises(StoreError, match=r"refuses the PIN .* correct it there") as refusal:
            keys.unwrap(wrapped, FOR)
        assert not isinstance(refusal.value, Unavailable)
    assert opened == [1]  # as after one failure
    pin.write_text(PIN)
    assert keys.unwrap(wrapped, FOR) == KEY


def test_a_token_that_is_not_there_is_unavailable_until_it_is(tokens, pin):
    keys = TokenKeys(MODULE, "not yet", "salus", pin)
    with pytest.raises(Unavailable, match="does not serve"):
        keys.wrap(KEY, FOR)
    tokens("not yet")
    assert keys.unwrap(keys.wrap(KEY, FOR), FOR) == KEY


def test_a_token_that_hangs_holds_nobody(keys):
    wrapped = keys.wrap(KEY, FOR)
    keys._timeout, release = 0.2, threading.Event()
    busy = threading.Thread(target=lambda: keys._line.ask(lambda: release.wait(5) and b"", 10))
    busy.start()
    start = time.monotonic()
    with pytest.raises(Unavailable, match=r"has not answered for 0\.2 s"):
        keys.unwrap(wrapped, FOR)
    assert time.monotonic() - start < 2
    release.set()
    busy.join()
    keys._timeout = 5
    assert keys.unwrap(wrapped, FOR) == KEY


def test_threads_share_a_token(keys):
    made, faults = [], []

    def work():
        try:
            for _ in range(20):
                wrapped = keys.wrap(KEY, FOR)
                made.append(keys.unwrap(wrapped, FOR))
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not faults
    assert made == [KEY] * 80


def test_the_settings_choose_it(token, pin, tmp_path):
    service = KeyService("pkcs11", pkcs11_module=MODULE, pkcs11_token=token, pkcs11_pin_file=pin)
    made = provider(service, tmp_path)
    assert made.where == f"the PKCS#11 token {token}, key salus"
    assert made.unwrap(made.wrap(KEY, FOR), FOR) == KEY
    with pytest.raises(StoreError, match="SALUS_PKCS11_MODULE is not set"):
        provider(KeyService("pkcs11"), tmp_path)


def test_a_library_that_is_none_is_named(token, pin, tmp_path):
    (tmp_path / "none.so").write_bytes(b"no library")
    with pytest.raises(StoreError, match="SALUS_PKCS11_MODULE"):
        TokenKeys(tmp_path / "none.so", token, "salus", pin).wrap(KEY, FOR)
