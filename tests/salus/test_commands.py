"""What the operator's commands say, and what they refuse, as whoever types them sees it."""

import pytest

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
