"""The command line says what it does, and why it does not."""

import socket

import pytest
from typer.testing import CliRunner

from salus.cli import app

COMMANDS = ("serve", "load", "demo", "doctor", "bench", "settings")


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def salus(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.mark.parametrize("command", COMMANDS[:-1])
def test_help_of_a_command_shows_examples(command):
    told = salus(command, "--help")

    assert told.exit_code == 0
    assert "Examples" in told.output
    assert f"salus {command}" in told.output


def test_the_version_is_printed():
    assert salus("--version").output.startswith("salus 0.")


def test_a_server_that_was_not_opened_does_not_serve():
    told = salus("serve")

    assert told.exit_code == 2
    assert "salus serve --open" in told.output


def test_an_open_server_refuses_an_address_of_others():
    told = salus("serve", "--open", "--host", "0.0.0.0")

    assert told.exit_code == 2
    assert "a loopback address only, not on 0.0.0.0" in told.output


def test_a_port_that_another_program_has_is_said(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = salus("serve", "--open", "--port", port, "--data", home / "d", "--keys", home / "k")

    assert told.exit_code == 2
    assert f"Cannot listen on 127.0.0.1:{port}" in told.output
    assert not (home / "d").exists()


def test_keys_inside_the_data_are_refused_by_every_command(home):
    for command in (("serve", "--open"), ("doctor",), ("demo",)):
        told = salus(*command, "--data", home / "d", "--keys", home / "d" / "k")

        assert told.exit_code == 2
        assert "inside the data folder" in told.output


def test_load_takes_a_server_or_a_folder(home):
    told = salus("load", "x.json", "--url", "http://127.0.0.1:1/fhir", "--data", home / "d")

    assert told.exit_code == 2
    assert "exclude each other" in told.output


def test_load_without_a_server_says_how_to_have_one(home):
    (home / "a.json").write_text('{"resourceType":"Patient"}')

    told = salus("load", "a.json", "--url", "http://127.0.0.1:1/fhir")

    assert told.exit_code == 1
    assert "No server answers at http://127.0.0.1:1/fhir" in told.output
    assert "salus serve --open" in told.output


def test_doctor_looks_and_makes_nothing(home):
    told = salus("doctor", "--data", home / "d", "--keys", home / "k")

    assert told.exit_code == 0
    assert "There is no data yet" in told.output
    assert list(home.iterdir()) == []


def test_doctor_finds_a_folder_that_others_can_read(home):
    (home / "d").mkdir(mode=0o755)

    told = salus("doctor", "--data", home / "d", "--keys", home / "k")

    assert told.exit_code == 1
    assert f"chmod 700 {home / 'd'}" in told.output


def test_bench_without_data_says_what_it_needs(monkeypatch):
    monkeypatch.delenv("SALUS_TEST_DATA", raising=False)

    told = salus("bench")

    assert told.exit_code == 2
    assert "name their folder with --folder" in told.output
