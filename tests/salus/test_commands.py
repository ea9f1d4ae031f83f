"""What the operator's commands say, and what they refuse, as whoever types them sees it."""

import pytest

from salus.advice import NOT_ADMINISTERED
from tests.secured import Secured

ASKING = (
    ("user", "list"),
    ("user", "add", "maria"),
    ("client", "list"),
    ("client", "register", "app", "--redirect-uri", "https://app.example/back"),
    ("token", "--scope", "system/*.rs"),
)


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
def test_a_misspelt_folder_is_not_made(tmp_path, command):
    server = Secured(tmp_path)
    told = server.command(*command)

    assert told.returncode == 2
    assert f"There is no data in {server.data}" in told.stderr
    assert not server.data.exists()


def test_whoever_names_no_folder_of_data_is_told_where_a_server_has_its_own(secured, tmp_path):
    told = secured.command("user", "list", "--data", str(tmp_path / "misspelt"))

    assert told.returncode == 2
    assert f"There is no data in {tmp_path / 'misspelt'}" in told.stderr
    assert f"a server runs on {secured.data}" in told.stderr


def test_the_last_administrator_stays_unless_that_is_meant(tmp_path):
    server = Secured(tmp_path)
    for name in ("root", "second"):
        server.user(name, administrator=True)
    server.user("maria", "Practitioner/maria")
    first = server.command("user", "disable", "second")
    refused = [server.command("user", each, "Root") for each in ("disable", "remove")]
    other = server.command("user", "disable", "maria")
    meant = server.command("user", "disable", "root", "--yes")

    assert [each.returncode for each in (first, *refused, other, meant)] == [0, 2, 2, 0, 0]
    assert {each.stderr for each in refused} == {
        "salus: root is the last administrator: add another first with `salus user add NAME "
        "--admin`, or say --yes\n"
    }


def test_a_server_that_nobody_administers_says_how_to_mend_that(tmp_path):
    server = Secured(tmp_path)
    server.user("root", administrator=True)
    server.start()
    server.command("user", "disable", "root", "--yes")
    server.stop()
    silent = server.log.read_text()
    server.start()
    examined = server.command("doctor")
    server.stop()

    folders = f" --data {server.data} --keys {server.keys}"
    assert NOT_ADMINISTERED not in silent
    assert f"Warning: {NOT_ADMINISTERED}: " in server.log.read_text()
    assert f"user add NAME --admin{folders}\n" in server.log.read_text()
    assert f"Could be tighter: {NOT_ADMINISTERED}\n" in examined.stdout
    assert "user add NAME --admin\n" in examined.stdout
