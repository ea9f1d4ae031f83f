"""`salus keys`: what an operator sees of rotation, backup and return, and what a server reads
meanwhile."""

from __future__ import annotations

import re
import threading
import time
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from fhir_server.storage.keydb import KEYS_DB
from fhir_server.storage.keys import KEY_FILE, FileKeys
from fhir_server.storage.rotation import renew_intermediates, renew_service_key
from fhir_server.storage.sqlite.folder import LOCK
from fhir_server.storage.store import Unavailable
from fhir_server.storage.vault import Vault
from salus.commands.keyring import app
from salus.keyring import key_provider, keys_allowed, protection, tighter, unopened
from salus.settings import Settings, SettingsError
from tests.secured import Secured, patient
from tests.storage.keyservices.servers import Transit

FHIR = {"content-type": "application/fhir+json"}
PASS = "a passphrase of the test"
UNSAVED = "No backup of the keys was ever made"


class Told(NamedTuple):
    code: int
    out: str
    err: str


class Operated(Secured):
    """A server whose keys the operator looks after."""

    def keys_command(self, *arguments, input=None, **environment):
        own = {"SALUS_DATA": str(self.data), "SALUS_KEYS": str(self.keys), "COLUMNS": "200"}
        told = CliRunner().invoke(app, arguments, input, {**own, **environment})
        assert told.exception is None or isinstance(told.exception, SystemExit), told.exception
        return Told(told.exit_code, told.stdout, told.stderr)

    def write(self, token, id):
        with self.client(token) as client:
            answer = client.put(f"Patient/{id}", content=patient(id), headers=FHIR)
        assert answer.status_code in (200, 201), answer.text

    def reads(self, token, id):
        with self.client(token) as client:
            answer = client.get(f"Patient/{id}")
        return answer.status_code, answer.json().get("id")

    def audited(self):
        """What the audit tells about keys, in order."""
        with self.client(self.token("system/AuditEvent.rs")) as client:
            found = client.get("AuditEvent", params={"_count": 200, "_sort": "date"}).json()
        events = [each["resource"] for each in found["entry"]]
        return [
            each["outcomeDesc"]
            for each in events
            if any(code["code"] == "keys" for code in each.get("subtype", ()))
        ]


@pytest.fixture
def server(tmp_path):
    served = Operated(tmp_path)
    served.start()
    yield served
    served.stop()


@pytest.fixture
def folders(tmp_path):
    """The folders of a server that does not run."""
    made = Operated(tmp_path)
    Vault.open(made.keys, FileKeys(made.keys)).close()
    made.data.mkdir()
    (made.data / LOCK).touch()
    return made


@pytest.fixture
def passphrase(tmp_path):
    file = tmp_path / "passphrase"
    file.write_text(PASS)
    file.chmod(0o600)
    return str(file)


def test_keys_rotate_under_load_and_the_audit_tells_it(server):
    token = server.token("system/*.cruds")
    server.write(token, "ann")
    before = (server.keys / KEY_FILE).read_bytes()
    answers, stop = [], threading.Event()

    def load():
        number = 0
        while not stop.is_set():
            number += 1
            server.write(token, f"p{number}")
            answers.append(server.reads(token, "ann"))

    thread = threading.Thread(target=load)
    thread.start()
    told = [
        server.keys_command("rotate"),
        server.keys_command("rotate", "--intermediates"),
        server.keys_command("rotate", "--data-keys"),
        server.keys_command("rotate"),
    ]
    stop.set()
    thread.join()

    assert [each.code for each in told] == [0, 0, 0, 0], told
    assert "5 intermediate keys are wrapped anew by the file" in told[0].out
    assert re.search(r"There are new intermediate keys; \d+ data keys are wrapped", told[1].out)
    assert re.search(r"\d+ owners get a new data key at their next write", told[2].out)
    assert answers and set(answers) == {(200, "ann")}
    after = (server.keys / KEY_FILE).read_bytes()
    assert after != before and len(after) == 40
    assert server.audited() == [
        "key service's key replaced",
        "intermediate keys replaced",
        "data keys renewed",
        "key service's key replaced",
    ]
    server.stop()
    server.start()
    assert server.reads(token, "ann") == (200, "ann")
    assert server.reads(token, "p1") == (200, "p1")


def test_status_tells_what_there_is(folders):
    told = folders.keys_command("status")
    assert told.code == 0
    assert f"Key service:       the file {folders.keys / KEY_FILE}" in told.out
    assert re.search(r"Intermediate keys: +5, all open\n", told.out)
    assert re.search(r"Last backup: +none\n", told.out)
    renew_intermediates(folders.keys, FileKeys(folders.keys))
    told = folders.keys_command("status")
    assert re.search(r"Intermediate keys: +6, all open \(1 of before, for secrets\)\n", told.out)
    (folders.keys / KEY_FILE).unlink()
    lost = folders.keys_command("status")
    assert lost.code == 2 and f"{folders.keys / KEY_FILE} is missing" in lost.err


def test_lost_keys_come_back_from_their_backup(server, tmp_path, passphrase):
    token = server.token("system/*.cruds")
    server.write(token, "ann")
    file = str(tmp_path / "keys.backup")
    told = server.keys_command("backup", file, "--passphrase-file", passphrase)
    assert told.code == 0
    assert re.search(r"can be restored until 20\d\d-\d\d-\d\d \d\d:\d\d UTC", told.out)
    running = server.keys_command("restore", file, "--passphrase-file", passphrase)
    assert running.code == 2 and "is in use by" in running.err
    server.stop()
    for each in server.keys.iterdir():
        each.unlink()
    lost = server.keys_command("status")
    assert lost.code == 2 and "There are no keys in" in lost.err

    wrong = server.keys_command("restore", file, input="another passphrase\n")
    restored = server.keys_command("restore", file, input=f"{PASS}\n")
    assert wrong.code == 2 and "the passphrase is another" in wrong.err
    assert restored.code == 0
    assert re.search(r"\d+ data keys are there; 0 of the backup stay destroyed", restored.out)
    server.start()
    assert server.reads(token, "ann") == (200, "ann")
    assert server.audited() == ["keys backed up", "keys restored"]


def test_a_backup_lies_neither_with_the_data_nor_under_a_short_passphrase(folders, tmp_path):
    inside = folders.keys_command("backup", str(folders.data / "keys.backup"))
    short = folders.keys_command("backup", str(tmp_path / "b"), input="short\nshort\n")
    assert (inside.code, short.code) == (2, 2)
    assert "name a place outside the data folder" in inside.err
    assert "at least 12 characters" in short.err
    assert not (tmp_path / "b").exists()


def test_a_backup_takes_the_place_of_no_file_and_a_passphrase_of_no_typing(folders, tmp_path):
    there = tmp_path / "yesterday"
    there.write_bytes(b"a backup")
    refused = folders.keys_command("backup", str(there), input=f"{PASS}\n{PASS}\n")
    silent = folders.keys_command("backup", str(tmp_path / "b"), input="")
    assert (refused.code, silent.code) == (2, 2)
    assert "is there already" in refused.err
    assert there.read_bytes() == b"a backup"
    assert "name a file that has it with --passphrase-file" in silent.err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--intermediates", "--data-keys"), "Choose one of"),
        (("--from", "file"), "SALUS_KEY_PROVIDER (file) another"),
        (("--from", "nothing"), "one of file, pkcs11, vault, aws-kms"),
    ],
)
def test_what_cannot_be_meant_is_refused(folders, arguments, words):
    told = folders.keys_command("rotate", *arguments)
    assert told.code == 2
    assert words in told.err


def test_a_misspelt_folder_is_not_made(tmp_path):
    server = Operated(tmp_path)
    for command in ("rotate",), ("backup", str(tmp_path / "b")), ("status",):
        told = server.keys_command(*command)
        assert told.code == 2
        assert "There is no data in" in told.err or "There are no keys in" in told.err
    assert not server.data.exists() and not server.keys.exists()


@pytest.mark.parametrize("command", ["status", "rotate", "backup", "restore"])
def test_every_command_has_examples(command):
    told = CliRunner().invoke(app, [command, "--help"])
    assert told.exit_code == 0
    assert f"salus keys {command}" in told.stdout


# --- where keys may be ---------------------------------------------------------------------------


def settings(tmp_path, **more):
    made = {"data": tmp_path / "data", "keys": tmp_path / "keys", "behind_proxy": True}
    return Settings(**{**made, "base_url": "https://fhir.example", **more})


def test_a_key_file_beside_a_server_for_others_is_refused_unless_meant(tmp_path):
    assert not keys_allowed(settings(tmp_path))
    with pytest.raises(
        SettingsError, match=r"beyond this machine \(0\.0\.0\.0\) .* --keys-on-this"
    ):
        keys_allowed(settings(tmp_path, host="0.0.0.0"))
    assert keys_allowed(settings(tmp_path, host="0.0.0.0", keys_on_this_machine=True))
    assert not keys_allowed(settings(tmp_path, host="0.0.0.0", key_provider="vault"))
    assert not keys_allowed(settings(tmp_path, host="127.0.0.1", keys_on_this_machine=True))


def test_settings_reach_the_key_service(tmp_path):
    chosen = settings(
        tmp_path, key_provider="aws-kms", aws_kms_key="one", aws_kms_former_keys="two, three"
    )
    assert chosen.key_service.aws_kms_former_keys == ("two", "three")
    assert key_provider(chosen).where == "AWS KMS, key one"
    with pytest.raises(ValueError, match="must be at least twice SALUS_KEY_SERVICE_SECONDS"):
        settings(tmp_path, key_cache_seconds=9)
    assert settings(tmp_path, key_cache_seconds=10).key_cache_seconds == 10
    assert key_provider(chosen, "file").where == f"the file {tmp_path / 'keys' / KEY_FILE}"


def test_doctor_asks_the_key_service(folders, tmp_path):
    asked = folders.settings
    assert unopened(asked) is None
    assert [each.wrong for each in tighter(asked, time.time())] == [UNSAVED]
    token = tmp_path / "token"
    token.write_text(Transit.token)
    token.chmod(0o600)
    with Transit() as served:
        moved = Settings(
            data=folders.data,
            keys=folders.keys,
            key_provider="vault",
            vault_address=served.address,
            vault_token_file=token,
        )
        assert "was wrapped by the provider file" in str(unopened(moved))
        renew_service_key(folders.keys, folders.data, key_provider(moved), FileKeys(folders.keys))
        assert unopened(moved) is None
        served.fault = 503
        away = unopened(moved)
        assert isinstance(away, Unavailable)
        assert str(away).startswith("HashiCorp Vault at")
    (folders.keys / KEYS_DB).write_bytes(b"damaged" * 1000)
    assert str(unopened(asked)).endswith("restore it with `salus keys restore`")


def test_doctor_tells_what_could_be_better_about_keys(folders, tmp_path):
    (unsaved, old) = tighter(folders.settings, time.time() + 400 * 86_400)
    assert unsaved.wrong == UNSAVED
    assert old.wrong == "The key that wraps all others was last replaced 400 days ago"
    served = settings(tmp_path, host="0.0.0.0", keys_on_this_machine=True)
    (here, unsaved) = tighter(served, time.time())
    assert unsaved.wrong == UNSAVED
    assert here.wrong == "Whoever takes this machine has the data and the key that opens it"


def test_doctor_tells_when_the_keys_were_backed_up(folders, tmp_path, passphrase):
    assert dict(protection(folders.settings)) == {
        "wrapped by": f"the file {folders.keys / KEY_FILE}",
        "key backup": "none",
    }
    told = folders.keys_command("backup", str(tmp_path / "b"), "--passphrase-file", passphrase)
    assert told.code == 0
    assert re.fullmatch(r"20.{14} UTC", dict(protection(folders.settings))["key backup"])
    assert list(tighter(folders.settings, time.time() + 7 * 86_400)) == []
    (old,) = tighter(folders.settings, time.time() + 8 * 86_400 + 60)
    assert old.wrong == "The last backup of the keys is of 8 days ago"
    assert list(protection(settings(tmp_path / "nothing"))) == []


def test_doctor_says_once_that_the_keys_do_not_open(folders):
    (folders.keys / KEY_FILE).unlink()
    told = folders.command("doctor")
    assert told.returncode == 1
    assert told.stdout.count("is missing") == 1
    assert f"Wrong: The store does not open: {folders.keys / KEY_FILE} is missing" in told.stdout
