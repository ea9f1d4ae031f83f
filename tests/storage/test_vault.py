"""Data keys lie wrapped, open locally, outlive a key service for a minute, and can be destroyed."""

from __future__ import annotations

import asyncio
import secrets
import stat
import threading

import apsw
import pytest

from fhir_server.storage.keydb import KEYS_DB
from fhir_server.storage.keys import FileKeys
from fhir_server.storage.store import Erased, StoreError, Unavailable
from fhir_server.storage.vault import POOL, SPREAD, Vault

NONCE = b"n" * 12


class Service:
    """A key service that can go away, or refuse; it counts what is asked of it."""

    def __init__(self, keys):
        self.keys, self.where = keys, "a service of the test"
        self.away = self.refuses = False
        self.calls = 0

    def wrap(self, key, context):
        self.answer()
        return self.keys.wrap(key, context)

    def unwrap(self, wrapped, context):
        self.answer()
        return self.keys.unwrap(wrapped, context)

    def keep_apart(self, data):
        self.keys.keep_apart(data)

    def answer(self):
        self.calls += 1
        if self.away:
            raise Unavailable("nobody answers at the test")
        if self.refuses:
            raise StoreError("the test refuses")


class Time:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def service(folder):
    return Service(FileKeys(folder))


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def opened(folder, service, time):
    """Opens the vault of the folder, as often as a test asks; all are closed at the end."""
    made = []

    def open(**options):
        made.append(Vault.open(folder, service, **{"clock": time, "monotonic": time, **options}))
        return made[-1]

    yield open
    for each in made:
        each.close()


def sealed(vault, id, content=b"content"):
    return vault.cipher(id).encrypt(NONCE, content, b"")


def content(vault, id, blob):
    return vault.cipher(id).decrypt(NONCE, blob, b"")


def rows(folder, statement, *bound):
    """What keys.db has, seen past the vault."""
    conn = apsw.Connection(str(folder / KEYS_DB))
    try:
        return conn.execute(statement, bound).fetchall()
    finally:
        conn.close()


def test_a_data_key_is_the_same_after_a_restart(opened):
    first = opened()
    id = first.fresh()
    blob = sealed(first, id)
    first.close()
    assert content(opened(), id, blob) == b"content"


def test_every_data_key_is_another(opened):
    vault = opened()
    ids = [vault.fresh() for _ in range(2 * POOL + 1)]
    assert {len(id) for id in ids} == {8}
    assert len(set(ids)) == len({sealed(vault, id) for id in ids}) == 2 * POOL + 1


def test_a_data_key_is_durable_before_it_is_given(opened, folder):
    id = opened().fresh()
    assert rows(folder, "SELECT count(*) FROM key WHERE id = ?", id) == [(1,)]


def test_many_owners_need_few_calls(opened, service):
    first = opened()
    made = [(id, sealed(first, id)) for id in (first.fresh() for _ in range(10_000))]
    assert service.calls == first.calls == 2 * (SPREAD + 1)
    first.close()
    service.calls = 0
    again = opened()
    assert all(content(again, id, blob) == b"content" for id, blob in made)
    assert service.calls == again.calls == SPREAD + 1 <= 10


def test_keys_made_ahead_and_not_used_do_not_stay(opened, folder):
    vault = opened()
    used = vault.fresh()
    assert rows(folder, "SELECT count(*) FROM key") == [(POOL,)]
    vault.close()
    assert rows(folder, "SELECT id FROM key") == [(used,)]


def test_what_a_killed_process_made_ahead_does_no_harm(opened, folder):
    opened().fresh()  # and is not closed, as if it had been killed
    vault = opened()
    id = vault.fresh()
    assert content(vault, id, sealed(vault, id)) == b"content"


def test_the_files_hold_no_key_in_clear_and_are_their_owners_alone(opened, folder, monkeypatch):
    made, real = [], secrets.token_bytes
    monkeypatch.setattr(secrets, "token_bytes", lambda size: made.append(real(size)) or made[-1])
    vault = opened()
    vault.fresh()
    keys = [each for each in made if len(each) == 32]
    assert len(keys) == POOL
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        held = file.read_bytes()
        assert not any(key in held for key in keys)


# --- destroying ----------------------------------------------------------------------------------


def test_a_destroyed_key_opens_nothing_and_is_remembered(opened, time):
    vault = opened()
    gone, kept = vault.fresh(), vault.fresh()
    blob = sealed(vault, kept)
    time.now = 1_700_000_000
    vault.destroy([gone], "erasure")
    with pytest.raises(Erased, match="was erased: its key was destroyed on 2023-11-14"):
        vault.cipher(gone)
    assert content(vault, kept, blob) == b"content"
    assert vault.destroyed() == [(gone, 1_700_000_000, "erasure")]
    vault.close()
    again = opened()
    with pytest.raises(Erased):
        again.cipher(gone)
    assert again.destroyed() == [(gone, 1_700_000_000, "erasure")]
    assert content(again, kept, blob) == b"content"


def test_a_destroyed_key_is_in_no_byte_of_the_folder(opened, folder):
    vault = opened()
    ids = [vault.fresh() for _ in range(4 * POOL)]
    gone = ids[::3]
    wrapped = [rows(folder, "SELECT wrapped FROM key WHERE id = ?", id)[0][0] for id in gone]
    assert all(each in (folder / KEYS_DB).read_bytes() for each in wrapped)
    for at in range(0, len(gone), 7):
        vault.destroy(gone[at : at + 7], "erasure")
    for file in folder.iterdir():
        held = file.read_bytes()
        left = [each for each in wrapped if each in held or each[12:28] in held]
        assert not left, (file, len(left))


def test_a_key_destroyed_by_another_process_is_forgotten_here(opened):
    here, there = opened(), opened()
    id = here.fresh()
    blob = sealed(here, id)
    there.destroy([id], "erasure")
    assert content(here, id, blob) == b"content"  # as long as nobody looked at the file
    asyncio.run(tended(here))
    with pytest.raises(Erased):
        here.cipher(id)


async def tended(vault, meanwhile=lambda: None):
    """The background of a vault for a moment."""
    task = asyncio.create_task(vault.keep_fresh())
    await asyncio.sleep(0.05)
    meanwhile()
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_an_unknown_key_is_refused_by_name(opened):
    with pytest.raises(StoreError, match="0000000000000001 is not in") as refusal:
        opened().cipher(bytes(7) + b"\1")
    assert not isinstance(refusal.value, Erased)


# --- tampering -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE key SET wrapped = (SELECT wrapped FROM key WHERE id = :other) WHERE id = :id",
        "UPDATE key SET wrapped = substr(wrapped, 1, 59) WHERE id = :id",
        "UPDATE key SET wrapped = substr(wrapped, 1, 8) WHERE id = :id",
        "UPDATE key SET wrapped = x'' WHERE id = :id",
        "UPDATE key SET intermediate = 1 + intermediate % 4 WHERE id = :id",
    ],
    ids=["swapped", "shortened", "cut", "emptied", "under another"],
)
def test_a_changed_row_is_refused(opened, folder, change):
    vault = opened()
    id, other = vault.fresh(), vault.fresh()
    blob = sealed(vault, other)
    vault.close()
    conn = apsw.Connection(str(folder / KEYS_DB))
    conn.execute(change, {"id": id, "other": other} if ":other" in change else {"id": id})
    conn.close()
    again = opened()
    with pytest.raises(StoreError, match=f"The wrapped data key {id.hex()} is damaged"):
        again.cipher(id)
    assert content(again, other, blob) == b"content"


def test_swapped_intermediate_keys_are_refused(opened, folder):
    opened().close()
    conn = apsw.Connection(str(folder / KEYS_DB))
    (one,), (two,) = conn.execute("SELECT wrapped FROM intermediate WHERE number < 3").fetchall()
    conn.execute("UPDATE intermediate SET wrapped = ? WHERE number = 1", (two,))
    conn.execute("UPDATE intermediate SET wrapped = ? WHERE number = 2", (one,))
    conn.close()
    with pytest.raises(StoreError, match="does not open this data"):
        opened()


def test_a_key_file_of_other_keys_is_refused(opened, folder, tmp_path, service):
    opened().close()
    others = FileKeys(tmp_path / "others")
    others.wrap(b"k" * 32, b"")
    service.keys = others
    with pytest.raises(StoreError, match="name the right folder with --keys"):
        opened()


def test_a_newer_file_is_refused(opened, folder):
    opened().close()
    rows(folder, "PRAGMA user_version = 2")
    with pytest.raises(StoreError, match="written by a newer Salus"):
        opened()


def test_a_file_that_is_no_database_is_refused(opened, folder):
    opened().close()
    (folder / KEYS_DB).write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="is damaged"):
        opened()


# --- the service goes away -----------------------------------------------------------------------


def test_without_the_service_keys_work_as_long_as_they_may_be_remembered(opened, service, time):
    vault = opened(cache_seconds=60)
    id, later = vault.fresh(), vault.fresh()
    blob = sealed(vault, id)
    service.away = True
    time.now += 59.9
    assert content(vault, id, blob) == b"content"
    sealed(vault, later)
    time.now += 0.1
    for each in lambda: vault.cipher(id), lambda: vault.wrap(b"s", b""), lambda: filled(vault):
        with pytest.raises(Unavailable, match="nobody answers"):
            each()
    service.away = False
    assert content(vault, id, blob) == b"content"


def filled(vault):
    """Ask for more keys than were made ahead."""
    for _ in range(POOL):
        vault.fresh()


def test_the_background_renews_before_the_time_is_over_and_recovers_by_itself(opened, service):
    async def story():
        vault = opened(monotonic=asyncio.get_running_loop().time, cache_seconds=0.8)
        id = vault.fresh()
        blob = sealed(vault, id)
        task = asyncio.create_task(vault.keep_fresh())
        await asyncio.sleep(1.2)
        asked = service.calls
        assert content(vault, id, blob) == b"content"
        assert service.calls == asked  # the caller asked the service nothing
        service.away = True
        await asyncio.sleep(1.2)
        with pytest.raises(
            Unavailable, match=r"has been away for longer .* Bring it back; Salus asks"
        ):
            vault.cipher(id)
        assert not vault._intermediates and not vault._recent  # nothing is left in memory
        service.away = False
        await asyncio.sleep(0.3)
        asked = service.calls
        assert content(vault, id, blob) == b"content"
        assert service.calls == asked
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())


def test_keys_are_made_ahead_in_the_background(opened):
    async def story():
        vault = opened()
        task = asyncio.create_task(vault.keep_fresh())
        await asyncio.sleep(0.05)
        for _ in range(3):
            for _ in range(POOL // 2 + 1):
                vault.fresh()
            async with asyncio.timeout(20):
                while len(vault._pool) <= POOL // 2:
                    await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())


@pytest.mark.parametrize("fault", ["away", "refuses"])
def test_a_start_without_the_service_is_refused(opened, service, fault):
    opened().close()
    setattr(service, fault, True)
    with pytest.raises(StoreError, match=r"nobody answers|the test refuses") as refusal:
        opened()
    assert isinstance(refusal.value, Unavailable) == (fault == "away")
    setattr(service, fault, False)
    opened()


def test_a_first_start_without_the_service_leaves_nothing_half_done(opened, service, folder):
    service.away = True
    with pytest.raises(Unavailable):
        opened()
    assert rows(folder, "SELECT count(*) FROM intermediate") == [(0,)]
    service.away = False
    opened()
    assert rows(folder, "SELECT count(*) FROM intermediate") == [(SPREAD + 1,)]


# --- small secrets -------------------------------------------------------------------------------


def test_a_secret_opens_for_what_it_was_wrapped_for(opened):
    first = opened()
    wrapped = first.wrap(b"seed", b"totp of ann")
    assert b"seed" not in wrapped
    first.close()
    vault = opened()
    assert vault.unwrap(wrapped, b"totp of ann") == b"seed"
    for damaged, context in (
        (wrapped, b"totp of bob"),
        (wrapped[:-1], b"totp of ann"),
        (wrapped[:9], b"totp of ann"),
    ):
        with pytest.raises(StoreError):
            vault.unwrap(damaged, context)
    with pytest.raises(StoreError, match="damaged"):
        vault.unwrap(b"", b"totp of ann")


def test_secrets_need_no_call(opened, service):
    vault = opened()
    asked = service.calls
    assert vault.unwrap(vault.wrap(b"seed", b"a"), b"a") == b"seed"
    assert service.calls == asked


def test_what_the_key_file_wrapped_before_still_opens(opened, folder):
    wrapped = FileKeys(folder).wrap(b"seed", b"totp of ann")
    vault = opened()
    assert vault.unwrap(wrapped, b"totp of ann") == b"seed"
    with pytest.raises(StoreError):
        vault.unwrap(wrapped, b"totp of bob")


def test_threads_share_a_vault(opened):
    vault = opened()
    blobs, faults = {}, []

    def work():
        try:
            for _ in range(300):
                id = vault.fresh()
                blobs[id] = sealed(vault, id)
                assert content(vault, id, blobs[id]) == b"content"
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not faults
    assert len(blobs) == 1200
