"""A backup holds everything in one state and can be read by nobody without the keys; what is
restored from it is what was backed up, without what was erased since."""

import asyncio
import json
import shutil
from contextlib import closing
from types import SimpleNamespace

import pytest

from conformance import definitions
from fhir_server.erasure.finishing import EXPIRED, Finisher
from fhir_server.erasure.patient import begin, look
from fhir_server.log.tombstone import parse
from fhir_server.search.index import Index
from fhir_server.storage.keys import PAGE_KEY, FileKeys, page_key
from fhir_server.storage.rotation import renew_intermediates, renew_service_key
from fhir_server.storage.sqlite import SqliteStore, foreign, migrations, proving
from fhir_server.storage.sqlite.codec import pack_id, unpack_id
from fhir_server.storage.sqlite.copying import REBUILT, Snapshot
from fhir_server.storage.sqlite.schema import FILE
from fhir_server.storage.store import StoreError
from fhir_server.storage.vault import Vault
from salus.app import _core, open_server
from salus.backup.folder import UNFINISHED, refuse_unfinished
from salus.backup.make import PARTIAL
from salus.deep import disagreements
from salus.problem import Problem
from smart_auth.grant import Grant
from tests.salus.backup.folders import (
    back,
    clinic_in,
    contents,
    copied,
    everything,
    group_in,
    killed,
    opened,
    saved,
    settings_of,
)

REFUSED = (Problem, StoreError)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """A folder with two patients, backed up; nothing changes it."""
    folder = tmp_path_factory.mktemp("clinic")
    settings = clinic_in(folder)
    group_in(folder, patients(settings))
    saved(settings, folder / "one.backup")
    return folder


@pytest.fixture(scope="module")
def index(clinic):
    settings = settings_of(clinic)
    return Index(definitions.load(), settings.fhir_base, settings.zone)


def with_store(settings, index, story):
    """What an async function does with the store in a folder."""

    async def told():
        keys = FileKeys(settings.keys)
        pages = page_key(settings.data, keys)
        with closing(Vault.open(settings.keys, keys)) as vault:
            store = await SqliteStore.open(settings.data, pages, vault, extraction=index.version)
            try:
                return await story(store, vault)
            finally:
                await store.close()

    return asyncio.run(told())


def patients(settings):
    """The ids and family names of the patients in a folder."""
    with opened(settings) as conn:
        sql = (
            "SELECT r.id, w.code FROM resource r JOIN kind k ON k.k = r.type JOIN text t"
            " ON t.pk = r.pk JOIN phrase w USING (w) JOIN param p ON p.p = w.p"
            " WHERE k.name = 'Patient' AND p.param = 'family' AND r.ver > 0 ORDER BY r.t"
        )
        return [(unpack_id(id), name) for id, name in conn.execute(sql)]


# --- what is in it -----------------------------------------------------------------------------


def test_what_is_restored_is_what_was_backed_up(clinic, tmp_path, index):
    restored = settings_of(clinic, str(tmp_path / "data"))
    made = back(restored, clinic / "one.backup")

    require_same(restored, settings_of(clinic))
    assert made.well
    assert made.report.stands is not None
    assert (made.removed, made.patients) == ((0, 0, 0, 0), 0)

    async def deep(store, vault):
        return [*store.check()], [each async for each in disagreements(store, index)]

    assert with_store(restored, index, deep) == ([], [])


def require_same(restored, before):
    """Everything is there, and besides only the event of the restore."""
    now, then = contents(restored), contents(before)
    events, earlier = now.pop("event"), then.pop("event")
    assert now == then
    assert [each for each in events if each in earlier] == earlier
    assert len(events) == len(earlier) + 1


def test_every_table_is_copied_or_made_of_what_is_copied(clinic):
    settings = settings_of(clinic)
    with closing(Snapshot(settings.data, page_key(settings.data, FileKeys(settings.keys)))) as one:
        copied = {each.name for each in one.copy().tables}
    with opened(settings) as conn:
        sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        there = {name for (name,) in conn.execute(sql)}
    assert copied | REBUILT == there
    assert not copied & REBUILT


def test_nothing_that_names_anybody_can_be_read_in_it(clinic):
    data = (clinic / "one.backup").read_bytes()
    found = patients(settings_of(clinic))
    assert len(found) == 2
    for id, name in found:
        for secret in (id.encode(), pack_id(id), name.encode(), name.lower().encode()):
            assert secret not in data
    line = data.split(b"\n", 2)[1]
    assert set(json.loads(line)) == {
        "salus",
        "made",
        "schema",
        "tables",
        "leaves",
        "root",
        "key",
    }


def test_a_backup_is_written_to_a_new_file_outside_both_folders(clinic, tmp_path):
    settings = copied(clinic, tmp_path)
    there = tmp_path / "there.backup"
    there.write_bytes(b"precious")
    for place in (
        there,
        settings.data / "x.backup",
        settings.keys,
        tmp_path / "no folder" / "x.backup",
    ):
        with pytest.raises(Problem):
            saved(settings, place)
    assert there.read_bytes() == b"precious"
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["there.backup"]

    folder = tmp_path / "backups"
    folder.mkdir()
    made = saved(settings, folder)
    assert [made.file] == list(folder.iterdir())
    assert made.file.suffix == ".backup"
    assert made.file.stat().st_mode & 0o077 == 0


def test_where_there_is_too_little_room_nothing_is_begun(clinic, tmp_path, monkeypatch):
    full = SimpleNamespace(free=1_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: full)
    with pytest.raises(Problem, match="has 1,000 free"):
        saved(settings_of(clinic), tmp_path / "x.backup")
    with pytest.raises(Problem, match="has 1,000 free"):
        back(settings_of(clinic, str(tmp_path / "data")), clinic / "one.backup")
    assert list(tmp_path.iterdir()) == []


# --- what is refused -----------------------------------------------------------------------------


def refused(settings, file, **more):
    """Why a backup is not restored; nothing is left of trying."""
    with pytest.raises(REFUSED) as refusal:
        back(settings, file, **more)
    assert not settings.data.exists() or not any(settings.data.iterdir())
    return str(refusal.value)


def test_a_damaged_or_shortened_backup_is_refused(clinic, tmp_path):
    data = (clinic / "one.backup").read_bytes()
    settings = settings_of(clinic, str(tmp_path / "data"))
    file = tmp_path / "bad.backup"
    key = data.index(b'"key":"') + 20
    leaves = data.index(b'"leaves":') + 9
    for place in (
        2,
        leaves,
        key,
        key + 1,
        key + 50,
        data.index(b"\n{") + 300,
        len(data) // 2,
        len(data) - 1,
    ):
        flipped = bytearray(data)
        flipped[place] ^= 4 if place != key else 0x80
        file.write_bytes(flipped)
        refused(settings, file)
    for length in (0, 100, 1_000, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:length])
        refused(settings, file)
    assert "There is no backup" in refused(settings, tmp_path / "nowhere")


def test_other_keys_are_refused_with_what_is_needed(clinic, tmp_path):
    other = settings_of(tmp_path)
    FileKeys(other.keys).wrap(bytes(32), b"begins a key file")
    Vault.open(other.keys, FileKeys(other.keys)).close()
    assert "are not those of this backup" in refused(other, clinic / "one.backup")
    empty = settings_of(tmp_path, keys="empty")
    assert "There are no keys in" in refused(empty, clinic / "one.backup")
    assert not (tmp_path / "empty").exists()


def test_keys_older_than_the_backup_are_refused_with_the_key_backup_that_is_needed(
    clinic, tmp_path
):
    settings = copied(clinic, tmp_path)
    shutil.copytree(settings.keys, tmp_path / "older")
    clinic_in(tmp_path, patients=3, first=3)
    made = saved(settings, tmp_path / "two.backup")

    older = settings_of(tmp_path, "restored", "older")
    said = refused(older, made.file)
    assert "under 1 keys that are not in" in said
    assert f"Restore the key backup that was made at {made.manifest.when}" in said
    assert back(settings_of(tmp_path, "restored"), made.file).well


def test_a_folder_that_holds_anything_is_not_restored_into(clinic, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "letter.txt").write_text("precious")
    settings = settings_of(clinic, str(tmp_path / "data"))
    with pytest.raises(Problem, match="is not empty"):
        back(settings, clinic / "one.backup")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError):
        back(settings_of(clinic, str(tmp_path / "empty")), _cut(clinic, tmp_path))
    assert list((tmp_path / "empty").iterdir()) == []
    assert (tmp_path / "data" / "letter.txt").read_text() == "precious"
    with pytest.raises(REFUSED):
        back(settings_of(clinic), clinic / "one.backup")
    assert (clinic / "data" / FILE).exists()


def _cut(clinic, folder):
    """A backup without its end."""
    file = folder / "cut.backup"
    file.write_bytes((clinic / "one.backup").read_bytes()[:-1])
    return file


# --- what changed since -------------------------------------------------------------------------


def test_keys_that_were_rotated_since_open_a_backup_of_before(clinic, tmp_path):
    settings = copied(clinic, tmp_path)
    renew_intermediates(settings.keys, FileKeys(settings.keys), lambda done, total: None)
    renew_service_key(settings.keys, settings.data, FileKeys(settings.keys))
    restored = settings_of(tmp_path, "restored")
    assert back(restored, clinic / "one.backup").well
    assert contents(restored)["resource"] == contents(settings)["resource"]


def test_a_backup_of_an_older_schema_is_brought_to_this_one_and_a_newer_is_refused(
    clinic, tmp_path, monkeypatch
):
    settings = settings_of(clinic, str(tmp_path / "data"))
    monkeypatch.setattr("salus.backup.restore.VERSION", 1)
    assert "was made by a newer Salus" in refused(settings, clinic / "one.backup")

    wider = "ALTER TABLE kept ADD COLUMN note TEXT DEFAULT 'none'"
    monkeypatch.setattr(foreign, "TABLES", f"{foreign.TABLES};{wider}")

    def widened(conn, keys):
        conn.execute(wider)

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, widened))
    for module in (migrations, proving, "salus.backup.restore"):
        where = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{where}.VERSION", 3)
    assert back(settings, clinic / "one.backup").well
    with opened(settings) as conn:
        assert conn.pragma("user_version") == 3
        assert conn.execute("SELECT DISTINCT note FROM kept").fetchall() == [("none",)]


# --- what was erased since -----------------------------------------------------------------------


def erased(settings, index, id):
    """Erase a patient as the commands do; the notice that says so."""

    async def story(store, vault):
        pages = page_key(settings.data, FileKeys(settings.keys))
        core = _core(settings, index, pages)
        grant = Grant.operator("a test")

        async def work(tx):
            return await begin(tx, core.beyond, id, "asked for", grant, await look(tx, core, id))

        await store.transaction(work, write=True)
        await Finisher(store, core, vault).finish_all()
        return await _notices(store, vault)

    return with_store(settings, index, story)[0]


def shows(settings, id, name):
    """Whether somebody can be found in a folder whose keys are all at hand."""
    held = everything(settings)
    return any(
        each in held for each in (name.encode(), name.lower().encode(), repr(pack_id(id)).encode())
    )


@pytest.mark.parametrize("how", ["destroyed keys", "a newer log", "a newer log and older keys"])
def test_a_patient_who_was_erased_after_the_backup_stays_erased(clinic, tmp_path, index, how):
    settings = copied(clinic, tmp_path)
    (id, name), (other_id, other) = patients(settings)
    assert name != other
    shutil.copytree(settings.keys, tmp_path / "older")
    said = erased(settings, index, id)

    keys = "older" if "older" in how else "keys"
    log_of = None if how == "destroyed keys" else settings.data
    restored = settings_of(tmp_path, "restored", keys)
    made = back(restored, clinic / "one.backup", log_of)

    assert made.well
    assert with_store(restored, index, _checked) == []
    assert (made.patients, made.removed.events) == (1, 0)
    assert made.removed.versions == sum(last - first + 1 for first, last in said.leaves)
    assert not shows(restored, id, name)
    assert shows(restored, other_id, other)
    assert [each for each, _ in patients(restored)] == [other_id]
    assert set(said.keys) <= with_store(restored, index, _destroyed)
    told = {leaf for each in with_store(restored, index, _notices) for leaf in covered(each)}
    assert told >= covered(said)

    async def group(store, vault):
        found = await store.transaction(lambda tx: tx.history("Group", None, 10))
        return [json.loads(each.body)["member"] for each in found]

    versions = with_store(restored, index, group)
    assert len(versions) == (2 if log_of is None else 1)  # the newer folder has it without the name
    for members in versions:
        (member,) = members
        assert member == {"entity": {"reference": f"Patient/{other_id}", "display": other}}


def covered(said):
    """The leaves that a notice names."""
    return {leaf for first, last in said.leaves for leaf in range(first, last + 1)}


async def _checked(store, vault):
    return list(store.check())


async def _destroyed(store, vault):
    return {each.id for each in vault.destroyed()}


async def _notices(store, vault):
    found = await store.transaction(lambda tx: tx.notices())
    said = [parse(each.content) for each in found]
    return [each for each in said if each is not None]


def test_a_month_of_events_that_expired_after_the_backup_stays_expired(clinic, tmp_path, index):
    settings = copied(clinic, tmp_path)
    with opened(settings) as conn:
        ((id,), *_) = conn.execute("SELECT id FROM sealing WHERE owner LIKE 'audit/%'")
        events = conn.execute("SELECT count(*) FROM event").get

    async def expire(store, vault):
        vault.destroy([id], EXPIRED)

    with_store(settings, index, expire)
    made = back(settings_of(tmp_path, "restored"), clinic / "one.backup")
    assert made.well
    assert (made.events, made.removed.events, made.patients) == (0, events, 0)
    assert contents(settings_of(tmp_path, "restored"))["resource"] == contents(settings)["resource"]


def test_a_log_of_other_data_is_refused(clinic, tmp_path):
    ours = copied(clinic, tmp_path)
    other = clinic_in(tmp_path, 1, data="other")
    restored = settings_of(tmp_path, "restored")
    said = refused(restored, clinic / "one.backup", log_of=other.data)
    assert "does not go on where the one in the backup ends" in said
    assert "There is no data in" in refused(restored, clinic / "one.backup", log_of=tmp_path)
    assert back(restored, clinic / "one.backup", ours.data).well


def with_server(settings):
    """Start a server in a folder, and stop it."""

    async def go():
        async with open_server(settings):
            pass

    asyncio.run(go())


# --- what is interrupted -------------------------------------------------------------------------


def test_a_backup_that_is_killed_leaves_nothing_that_looks_whole(clinic, tmp_path):
    file = tmp_path / "x.backup"
    assert killed("backup", file, settings_of(clinic), "backup").wait(30) == -9
    assert [each.name for each in tmp_path.iterdir()] == [f"x.backup{PARTIAL}"]
    refused(settings_of(clinic, str(tmp_path / "data")), tmp_path / f"x.backup{PARTIAL}")

    saved(settings_of(clinic), file)
    assert [each.name for each in tmp_path.iterdir()] == ["x.backup"]


def test_a_restore_that_is_killed_is_refused_by_all_until_it_is_run_again(clinic, tmp_path):
    phases = ("copying", "proving")
    settings = [settings_of(clinic, str(tmp_path / each)) for each in phases]
    running = [
        killed("restore", clinic / "one.backup", each, phase)
        for each, phase in zip(settings, phases, strict=True)
    ]
    assert [each.wait(60) for each in running] == [-9, -9]
    for each in settings:
        assert (each.data / UNFINISHED).is_dir()
        with pytest.raises(Problem, match="was not finished"):
            with_server(each)
        assert not (each.data / PAGE_KEY).exists()

    for each in settings:
        assert back(each, clinic / "one.backup").well
        refuse_unfinished(each.data)
        assert {name.name for name in each.data.iterdir()} <= {FILE, PAGE_KEY, "salus.lock"}
    require_same(settings[0], settings_of(clinic))
