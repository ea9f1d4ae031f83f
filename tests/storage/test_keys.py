"""Keys are wrapped, lie apart from the data, and a start without the right ones is refused."""

from __future__ import annotations

import re
import stat

import pytest

from fhir_server.storage.keys import KEY_FILE, PAGE_KEY, FileKeys, page_key
from fhir_server.storage.store import StoreError


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def keys(tmp_path):
    return FileKeys(tmp_path / "keys")


def refuses(data, keys, words):
    with pytest.raises(StoreError, match=re.escape(words)) as refusal:
        page_key(data, keys)
    return str(refusal.value)


def test_the_page_key_is_the_same_at_every_start(data, keys, tmp_path):
    first = page_key(data, keys)
    assert len(first) == 32
    assert page_key(data, FileKeys(tmp_path / "keys")) == first


def test_every_folder_has_a_page_key_of_its_own(data, keys, tmp_path):
    assert page_key(data, keys) != page_key(tmp_path / "other", keys)


def test_the_page_key_is_in_no_file_in_clear(data, keys, tmp_path):
    key = page_key(data, keys)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert sorted(file.name for file in files) == [PAGE_KEY, KEY_FILE]
    assert not any(
        key in file.read_bytes() or key.hex().encode() in file.read_bytes() for file in files
    )


def test_the_key_file_is_its_owners_alone(data, keys, tmp_path):
    page_key(data, keys)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "keys" / KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((data / PAGE_KEY).stat().st_mode) == 0o600


@pytest.mark.parametrize("where", ["data", "data/keys", ""])
def test_keys_and_data_may_not_lie_in_one_another(tmp_path, data, where):
    refuses(data, FileKeys(tmp_path / where), "must not lie in one another")
    assert not data.exists()


def test_a_missing_key_file_is_named(data, keys, tmp_path):
    page_key(data, keys)
    (tmp_path / "keys" / KEY_FILE).unlink()
    refuses(data, keys, f"{tmp_path / 'keys' / KEY_FILE} is missing")
    assert not (tmp_path / "keys" / KEY_FILE).exists()


def test_the_key_of_other_data_is_refused(data, keys, tmp_path):
    page_key(data, keys)
    others = FileKeys(tmp_path / "others")
    page_key(tmp_path / "elsewhere", others)
    refuses(data, others, "name the right folder with --keys")


def test_a_damaged_key_is_refused(data, keys, tmp_path):
    page_key(data, keys)
    file = tmp_path / "keys" / KEY_FILE
    held = bytearray(file.read_bytes())
    held[-1] ^= 1
    file.write_bytes(held)
    refuses(data, keys, "does not open this data")
    file.write_bytes(b"short")
    refuses(data, keys, "is no key of Salus")


def test_a_damaged_wrapped_key_is_refused(data, keys):
    page_key(data, keys)
    whole = (data / PAGE_KEY).read_bytes()
    (data / PAGE_KEY).write_bytes(whole[:-1])
    refuses(data, keys, "does not open this data")
    (data / PAGE_KEY).write_bytes(b"")
    refuses(data, keys, "A wrapped key is damaged")


def test_a_key_file_that_others_can_read_is_refused(data, keys, tmp_path):
    page_key(data, keys)
    (tmp_path / "keys" / KEY_FILE).chmod(0o640)
    refuses(data, keys, "chmod 600")


def test_data_without_its_wrapped_key_is_not_given_a_new_one(data, keys):
    page_key(data, keys)
    (data / PAGE_KEY).unlink()
    (data / "salus.db").write_bytes(b"data")
    refuses(data, keys, f"{data / PAGE_KEY} is missing")
    assert not (data / PAGE_KEY).exists()


def test_a_wrapped_key_cannot_stand_in_for_another(keys):
    wrapped = keys.wrap(b"k" * 32, b"pages")
    assert keys.unwrap(wrapped, b"pages") == b"k" * 32
    with pytest.raises(StoreError, match="does not open"):
        keys.unwrap(wrapped, b"owner Patient/1")
