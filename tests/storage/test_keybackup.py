"""Key backups open by their passphrase or service, end after thirty days, and bring back nothing
that was destroyed since."""

from __future__ import annotations

import stat
from datetime import UTC, datetime

import apsw
import pytest

from fhir_server.storage.keybackup import back_up, needs_passphrase, restore
from fhir_server.storage.keydb import KEYS_DB
from fhir_server.storage.keys import KEY_FILE, FileKeys, page_key
from fhir_server.storage.keyservices.transit import TransitKeys
from fhir_server.storage.rotation import renew_intermediates, renew_service_key
from fhir_server.storage.store import Erased, StoreError, Unavailable
from fhir_server.storage.vault import Vault
from tests.storage.keyservices.servers import Transit

NONCE, DAY, PASS = b"n" * 12, 86_400, "a passphrase of the test"
NOW = 1_800_000_000


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    """What a passphrase costs is not tested."""
    monkeypatch.setattr("fhir_server.storage.keybackup.MEMORY", 64)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def keys(folder):
    return FileKeys(folder)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys.backup"


class World:
    """A key folder and what was sealed under its keys."""

    def __init__(self, folder, keys):
        self.folder, self.keys, self.blobs = folder, keys, {}

    def seal(self, count=3):
        vault = Vault.open(self.folder, self.keys)
        made = [vault.fresh() for _ in range(count)]
        self.blobs |= {id: vault.cipher(id).encrypt(NONCE, id, b"") for id in made}
        vault.close()
        return made

    def destroy(self, ids):
        vault = Vault.open(self.folder, self.keys)
        vault.destroy(ids, "erasure")
        vault.close()

    def opens(self, ids):
        vault = Vault.open(self.folder, self.keys)
        try:
            return [vault.cipher(id).decrypt(NONCE, self.blobs[id], b"") for id in ids] == list(ids)
        finally:
            vault.close()


@pytest.fixture
def world(folder, keys):
    return World(folder, keys)


def lose(folder):
    for file in folder.iterdir():
        file.unlink()


def test_keys_come_back_after_the_folder_is_lost(world, folder, keys, file):
    ids = world.seal()
    until = back_up(folder, keys, file, PASS, lambda: NOW)
    assert until == datetime.fromtimestamp(NOW + 30 * DAY, UTC)
    assert needs_passphrase(file)
    lose(folder)
    assert restore(file, folder, keys, PASS, lambda: NOW + 29 * DAY) == (3, 0)
    assert world.opens(ids)
    for each in KEYS_DB, KEY_FILE:
        assert stat.S_IMODE((folder / each).stat().st_mode) == 0o600


def test_a_backup_has_no_key_in_clear_and_is_its_owners_alone(world, folder, keys, file):
    world.seal()
    outer = (folder / KEY_FILE).read_bytes()[8:]
    back_up(folder, keys, file, PASS)
    assert outer not in file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_backup_is_refused_after_thirty_days(world, folder, keys, file):
    ids = world.seal()
    back_up(folder, keys, file, PASS, lambda: NOW)
    lose(folder)
    with pytest.raises(StoreError, match="was to be used until 2027-02-14"):
        restore(file, folder, keys, PASS, lambda: NOW + 30 * DAY)
    assert not (folder / KEYS_DB).exists()
    restore(file, folder, keys, PASS, lambda: NOW + 30 * DAY - 1)
    assert world.opens(ids)


def test_the_day_on_which_it_ends_cannot_be_changed(world, folder, keys, file):
    world.seal()
    back_up(folder, keys, file, PASS, lambda: NOW)
    ends = str(NOW + 30 * DAY).encode()
    assert ends in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(ends, str(NOW + 90 * DAY).encode()))
    with pytest.raises(StoreError, match="the passphrase is another, or the file is damaged"):
        restore(file, folder, keys, PASS, lambda: NOW + 40 * DAY)


@pytest.mark.parametrize(
    "damage",
    [
        lambda held: held[:-1],
        lambda held: held[:-1] + bytes((held[-1] ^ 1,)),
        lambda held: held[:40],
        lambda held: b"",
        lambda held: held.replace(b"SALUS", b"OTHER", 1),
    ],
    ids=["shortened", "a bit", "cut", "empty", "no backup"],
)
def test_a_damaged_backup_changes_nothing(world, folder, keys, file, damage):
    ids = world.seal()
    back_up(folder, keys, file, PASS)
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(StoreError):
        restore(file, folder, keys, PASS)
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before
    assert world.opens(ids)


def test_another_passphrase_does_not_open_it(world, folder, keys, file):
    world.seal()
    back_up(folder, keys, file, PASS)
    with pytest.raises(StoreError, match="the passphrase is another"):
        restore(file, folder, keys, "another passphrase")


def test_what_was_destroyed_since_stays_destroyed(world, folder, keys, file):
    gone, stays = world.seal(2)
    back_up(folder, keys, file, PASS)
    wrapped = rows(folder, "SELECT wrapped FROM key WHERE id = ?", gone)[0][0]
    world.destroy([gone])
    later = world.seal(1)
    assert restore(file, folder, keys, PASS) == (2, 1)
    assert world.opens([stays, *later])
    with pytest.raises(Erased):
        world.opens([gone])
    assert not any(wrapped in each.read_bytes() for each in folder.iterdir())


def rows(folder, sql, *bound):
    conn = apsw.Connection(str(folder / KEYS_DB))
    try:
        return conn.execute(sql, bound).fetchall()
    finally:
        conn.close()


def test_a_damaged_row_is_mended_and_what_came_later_stays(world, folder, keys, file):
    one, two = world.seal(2)
    back_up(folder, keys, file, PASS)
    later = world.seal(1)
    rows(folder, "UPDATE key SET wrapped = x'00' WHERE id = ?", one)
    rows(folder, "DELETE FROM key WHERE id = ?", two)
    assert restore(file, folder, keys, PASS) == (3, 0)
    assert world.opens([one, two, *later])


@pytest.mark.parametrize("lost", [True, False])
def test_a_backup_from_before_a_rotation_opens(world, folder, keys, file, tmp_path, lost):
    page = page_key(tmp_path / "data", keys)
    ids = world.seal()
    back_up(folder, keys, file, PASS)
    renew_service_key(folder, tmp_path / "data", keys)
    renew_intermediates(folder, keys)
    later = world.seal()
    if lost:
        (folder / KEYS_DB).unlink()
    restore(file, folder, keys, PASS)
    assert world.opens(ids if lost else [*ids, *later])
    assert page_key(tmp_path / "data", keys) == page
    assert world.opens(world.seal())
    assert rows(folder, "SELECT count(*) FROM intermediate WHERE current = 1") == [(5,)]


def test_nothing_is_restored_under_a_running_server(world, folder, keys, file):
    world.seal()
    back_up(folder, keys, file, PASS)
    vault = Vault.open(folder, keys)
    with pytest.raises(StoreError, match="are in use: stop the server first"):
        restore(file, folder, keys, PASS)
    vault.close()
    restore(file, folder, keys, PASS)


def test_a_damaged_file_of_keys_is_not_silently_replaced(world, folder, keys, file):
    world.seal()
    back_up(folder, keys, file, PASS)
    (folder / KEYS_DB).write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="move it away, restore, and erase again"):
        restore(file, folder, keys, PASS)


def test_when_backups_end_is_known_to_erasure(world, folder, keys, file):
    world.seal()
    vault = Vault.open(folder, keys)
    assert vault.backups_until() is None
    back_up(folder, keys, file, PASS, lambda: NOW)
    assert vault.backups_until() == NOW + 30 * DAY
    vault.close()


def test_under_a_key_service_a_backup_needs_no_passphrase(folder, tmp_path, file):
    token = tmp_path / "token"
    token.write_text(Transit.token)
    token.chmod(0o600)
    with Transit() as served:
        keys = TransitKeys(served.address, "salus", token)
        world = World(folder, keys)
        ids = world.seal()
        back_up(folder, keys, file, "", lambda: NOW)
        assert not needs_passphrase(file)
        lose(folder)
        served.fault = 503
        with pytest.raises(Unavailable):
            restore(file, folder, keys, "", lambda: NOW)
        served.fault = None
        assert restore(file, folder, keys, "", lambda: NOW) == (3, 0)
        assert world.opens(ids)


def test_a_folder_without_keys_is_named(folder, keys, file):
    with pytest.raises(StoreError, match="There are no keys in"):
        back_up(folder, keys, file, PASS)
    assert not file.exists()
