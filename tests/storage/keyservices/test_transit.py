"""Keys wrapped by HashiCorp Vault: contexts bind, versions rotate, and its faults are told apart."""

from __future__ import annotations

import base64
import json
import time

import pytest

from fhir_server.storage.keys import FileKeys
from fhir_server.storage.keyservices.choice import KeyService, provider
from fhir_server.storage.keyservices.transit import TransitKeys
from fhir_server.storage.store import StoreError, Unavailable
from tests.storage.keyservices.servers import Transit

KEY, FOR = b"k" * 32, b"salus intermediate 1 for data"


@pytest.fixture
def vault():
    with Transit() as served:
        yield served


@pytest.fixture
def token(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{Transit.token}\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def keys(vault, token):
    return TransitKeys(vault.address, "salus", token, timeout_seconds=0.5)


def test_a_key_comes_back_for_what_it_was_wrapped_for(keys):
    wrapped = keys.wrap(KEY, FOR)
    assert wrapped.startswith(b"VT1\nvault:v1:")
    assert KEY not in base64.b64decode(wrapped.split(b":")[2])
    assert keys.unwrap(wrapped, FOR) == KEY
    with pytest.raises(StoreError, match=r"answers 400 .*not what was wrapped") as refusal:
        keys.unwrap(wrapped, b"another purpose")
    assert not isinstance(refusal.value, Unavailable)


def test_a_vault_that_ignores_what_a_key_is_for_is_refused(token):
    with Transit(binds=False) as old:
        keys = TransitKeys(old.address, "salus", token)
        with pytest.raises(StoreError, match=r"does not bind .* Vault 1.13"):
            keys.wrap(KEY, FOR)


def test_that_it_binds_is_asked_once(keys, vault):
    for _ in range(3):
        keys.wrap(KEY, FOR)
    assert [path.split("/")[3] for path, *_ in vault.asked] == [
        "encrypt",
        "decrypt",
        "encrypt",
        "encrypt",
    ]


@pytest.mark.parametrize("change", [slice(0, -1), slice(0, 16), slice(0, 5), slice(4, None)])
def test_a_damaged_key_is_refused(keys, change):
    wrapped = keys.wrap(KEY, FOR)
    with pytest.raises(StoreError) as refusal:
        keys.unwrap(wrapped[change], FOR)
    assert not isinstance(refusal.value, Unavailable)


def test_what_a_key_file_wrapped_is_told_apart(keys, tmp_path):
    with pytest.raises(StoreError, match="set SALUS_KEY_PROVIDER to file, or move"):
        keys.unwrap(FileKeys(tmp_path / "keys").wrap(KEY, FOR), FOR)


def test_rotation_wraps_by_the_new_version_and_opens_the_former(keys, vault):
    before = keys.wrap(KEY, FOR)
    assert "raise min_decryption_version" in keys.renew()
    after = keys.wrap(KEY, FOR)
    assert after.startswith(b"VT1\nvault:v2:")
    assert keys.unwrap(before, FOR) == keys.unwrap(after, FOR) == KEY
    vault.oldest = 2
    assert keys.unwrap(after, FOR) == KEY
    with pytest.raises(StoreError, match="too old"):
        keys.unwrap(before, FOR)


def test_the_token_is_read_anew_each_time(keys, vault, token):
    wrapped = keys.wrap(KEY, FOR)
    vault.token = "s.renewed"
    with pytest.raises(StoreError, match=r"answers 403 .*give the token"):
        keys.unwrap(wrapped, FOR)
    token.write_text("s.renewed")
    assert keys.unwrap(wrapped, FOR) == KEY


@pytest.mark.parametrize(
    "mode, content, words",
    [
        (0o644, "s.1", "can be read by everybody"),
        (0o600, "", "is empty"),
        (None, "", "cannot be read"),
    ],
)
def test_a_token_file_is_held_to_be_secret(keys, token, mode, content, words):
    token.write_text(content)
    token.unlink() if mode is None else token.chmod(mode)
    with pytest.raises(StoreError, match=words):
        keys.wrap(KEY, FOR)


def test_the_namespace_is_sent(vault, token):
    vault.namespace = "clinic"
    keys = TransitKeys(vault.address, "salus", token, namespace="clinic")
    assert keys.unwrap(keys.wrap(KEY, FOR), FOR) == KEY
    with pytest.raises(StoreError, match=r"answers 404 .*enable the engine"):
        TransitKeys(vault.address, "salus", token).wrap(KEY, FOR)


@pytest.mark.parametrize(
    "fault", [412, 429, 472, 473, 500, 502, 503, "hang", "hang up", "nonsense"]
)
def test_what_may_pass_is_told_apart_and_passes(keys, vault, fault):
    wrapped = keys.wrap(KEY, FOR)
    vault.fault, vault.said = fault, json.dumps({"errors": ["Vault is sealed"]})
    start = time.monotonic()
    for ask in lambda: keys.unwrap(wrapped, FOR), lambda: keys.wrap(KEY, FOR):
        with pytest.raises(Unavailable, match="HashiCorp Vault at"):
            ask()
    assert time.monotonic() - start < 5
    vault.fault = None
    assert keys.unwrap(wrapped, FOR) == KEY


def test_a_status_nobody_knows_is_a_refusal(keys, vault):
    vault.fault = 418
    with pytest.raises(StoreError, match=r"answers 418 .*check its settings") as refusal:
        keys.wrap(KEY, FOR)
    assert not isinstance(refusal.value, Unavailable)


def test_the_settings_choose_it(vault, token, tmp_path):
    made = provider(
        KeyService("vault", vault_address=vault.address, vault_token_file=token), tmp_path
    )
    assert made.where == f"HashiCorp Vault at {vault.address}, key transit/salus"
    assert made.unwrap(made.wrap(KEY, FOR), FOR) == KEY
    for missing in (
        KeyService("vault", vault_token_file=token),
        KeyService("vault", vault_address=vault.address),
        KeyService("vault", vault_address="http://vault.example", vault_token_file=token),
    ):
        with pytest.raises(StoreError, match=r"SALUS_VAULT_(ADDRESS|TOKEN_FILE)"):
            provider(missing, tmp_path)


def test_a_certificate_that_is_none_is_named(vault, token, tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(StoreError, match="SALUS_VAULT_CA"):
        TransitKeys(vault.address, "salus", token, ca=tmp_path / "ca.pem")
