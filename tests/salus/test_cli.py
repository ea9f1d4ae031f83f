"""The command line says what it does, and why it does not."""

import gzip
import os
import re
import socket

import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from salus import cli
from salus.cli import app
from salus.program import called
from salus.settings import read_settings, variables

COMMANDS = ("serve", "load", "demo", "doctor", "bench", "token", "settings")


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


def test_a_server_speaks_https_beyond_its_machine():
    told = salus("serve", "--host", "192.0.2.1")

    assert told.exit_code == 2
    assert "only https is served: name --tls-cert and --tls-key, or say --behind-proxy" in (
        told.output
    )


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


def test_load_takes_a_server_and_its_folder_while_it_runs(home):
    told = salus("load", "x.json", "--url", "http://127.0.0.1:1/fhir", "--data", home / "d")

    assert told.exit_code == 2
    assert f"No server has {home / 'd'} open" in told.output
    assert not (home / "d").exists()


def test_load_without_a_server_says_how_to_have_one(home):
    (home / "a.json").write_text('{"resourceType":"Patient"}')

    told = salus("load", "a.json", "--url", "http://127.0.0.1:1/fhir")

    assert told.exit_code == 2
    assert "No server answers at http://127.0.0.1:1/fhir" in told.output
    assert "salus serve`" in told.output


def test_doctor_looks_and_makes_nothing(home):
    told = salus("doctor", "--data", home / "d", "--keys", home / "k")

    assert told.exit_code == 1
    assert f"Wrong: There is no data in {home / 'd'}\n" in told.output
    assert "Remedy: name another with --data or SALUS_DATA, or start a server" in told.output
    assert "Nothing is wrong" not in told.output
    assert list(home.iterdir()) == []


def test_doctor_before_the_first_start_has_nothing_to_find(home):
    told = salus("doctor")

    assert told.exit_code == 0
    assert "There is no data yet" in told.output


def test_a_deep_look_ends_with_everything_compared(home):
    kept(home, patients(home / "a.ndjson", 0, 3))

    told = salus("doctor", "--deep", "--data", home / "d", "--keys", home / "k")

    assert told.exit_code == 0
    assert re.search(r"comparing indexes with resources \S+ 100%", told.output)


@pytest.mark.parametrize(
    ("started", "environment", "said"),
    [
        ("bin/salus", {}, "bin/salus"),
        ("bin/salus", {"PATH": "bin"}, "salus"),
        ("bin/salus", {"PATH": "other"}, "bin/salus"),
        ("bin/salus", {"UV_RUN_RECURSION_DEPTH": "1"}, "uv run salus"),
        ("package/__main__.py", {}, "bin/python -m salus"),
        ("package/__main__.py", {"PATH": "bin"}, "python -m salus"),
    ],
)
def test_a_hint_calls_the_program_as_it_was_started(home, monkeypatch, started, environment, said):
    for each in ("bin/salus", "bin/python", "other/salus"):
        (home / each).parent.mkdir(exist_ok=True)
        (home / each).touch(mode=0o755)
    for name, value in {"PATH": "empty", **environment}.items():
        monkeypatch.setenv(name, str(home / value) if name == "PATH" else value)
    monkeypatch.setattr("sys.argv", [str(home / started)])
    monkeypatch.setattr("sys.executable", str(home / "bin/python"))

    assert called() == said


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


def kept(home, *paths):
    return salus("load", *paths, "--data", home / "d", "--keys", home / "k")


def patients(path, first, last):
    lines = [f'{{"resourceType":"Patient","id":"p{n}"}}' for n in range(first, last)]
    path.write_text("\n".join(lines))
    return path


def test_doctor_counts_what_is_referred_to_but_not_there(home):
    file = home / "a.ndjson"
    known, unknown = (
        f'{{"resourceType":"Patient","id":"p{n}","managingOrganization":'
        f'{{"reference":"Organization/{name}"}}}}'
        for n, name in enumerate(("there", "nowhere"))
    )
    there = '{"resourceType":"Organization","id":"there","name":"Clinic"}'
    file.write_text("\n".join((there, known, unknown)))
    kept(home, file)

    told = salus("doctor", "--data", home / "d", "--keys", home / "k")

    assert told.exit_code == 0
    assert re.search(r"rows referred to but absent\W+1\W", told.output)


def test_doctor_finds_damage_and_says_what_to_do(home):
    kept(home, patients(home / "a.ndjson", 0, 300))
    file = home / "d" / "salus.db"
    with file.open("r+b") as pages:
        pages.seek(file.stat().st_size // 4)
        pages.write(os.urandom(file.stat().st_size // 2))

    told = salus("doctor", "--data", home / "d", "--keys", home / "k")

    assert told.exit_code == 1
    assert told.exception is None or isinstance(told.exception, SystemExit)
    assert "Wrong:" in told.output
    assert "Remedy: restore the last backup" in told.output


def test_doctor_tells_a_missing_key_from_its_remedy(home):
    kept(home, patients(home / "a.ndjson", 0, 1))
    (home / "k" / "salus.key").unlink()

    told = salus("doctor", "--data", home / "d", "--keys", home / "k")

    assert told.exit_code == 1
    assert f"Wrong: The store does not open: {home / 'k' / 'salus.key'} is missing" in told.output
    assert "Remedy: Bring it back, or name its folder with --keys" in told.output


def test_doctor_says_that_a_folder_is_a_file(home):
    (home / "d").touch()

    told = salus("doctor", "--data", home / "d", "--keys", home / "k")

    assert told.exit_code == 1
    assert f"{home / 'd'} is a file, where the data folder is needed" in told.output


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--data", "A", "--keys", "k"), "/A is a file, where a folder is needed: name another"),
        (("--data", "d", "--keys", "A"), "/A is a file, where a folder is needed: name another"),
        (("--data", "/proc/nope", "--keys", "k"), "/proc/nope cannot be made there"),
        (("--data", "d", "--keys", "k", "--failed", "/proc/x"), "/proc/x cannot hold what fails"),
    ],
)
def test_a_path_that_cannot_be_used_is_named_in_a_sentence(home, options, text):
    (home / "A").touch()

    told = salus("load", patients(home / "a.ndjson", 0, 1), *options)

    assert told.exit_code == 2
    assert text in told.output


def test_an_address_without_a_scheme_is_mended_in_words(home):
    told = salus("load", patients(home / "a.ndjson", 0, 1), "--url", "127.0.0.1:9000/fhir")

    assert told.exit_code == 2
    assert "write http://127.0.0.1:9000/fhir" in told.output


def test_a_damaged_file_does_not_keep_the_others_from_being_loaded(home):
    (home / "in").mkdir()
    whole = patients(home / "b.ndjson", 0, 40_000).read_bytes()
    (home / "in" / "a.ndjson.gz").write_bytes(gzip.compress(whole)[:40])
    (home / "in" / "c.ndjson").write_bytes(b'{"resourceType":"Patient","id":"other"}')

    told = kept(home, home / "in")

    assert told.exit_code == 1
    assert re.search(r"stored, now or before\s+│\s+1\b", told.output)
    assert "in/a.ndjson.gz cannot be read beyond line 0" in told.output
    assert "Nothing of it was loaded: get a whole copy" in told.output


def test_what_a_command_makes_can_be_read_by_its_owner_only(home):
    before = os.umask(0o022)
    try:
        kept(home, patients(home / "a.ndjson", 0, 1))
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)

    made = [each for folder in ("d", "k") for each in (home / folder).rglob("*")]
    assert made
    assert [each for each in (*made, home / "d", home / "k") if each.stat().st_mode & 0o077] == []


def test_settings_are_plain_lines_when_piped(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    lines = salus("settings").output.splitlines()

    assert "SALUS_PORT=8080  # port to listen on" in lines
    assert any(
        each.startswith("SALUS_REFERENCES=accept  # ") and each.endswith("(accept | check)")
        for each in lines
    )
    assert all(re.match(r"SALUS_[A-Z0-9_]+=\S+  # \S", each) for each in lines)


def test_a_wrong_option_is_named_as_it_was_typed():
    told = salus("serve", "--open", "--port", "0")

    assert told.exit_code == 2
    assert "--port must be 1 or more, not 0" in told.output


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_what_stands_in_square_brackets(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    told = salus(name, "--help").output

    for parameter in get_command(app).commands[name].params:
        help = (getattr(parameter, "help", None) or "").replace("\\[", "[")
        assert help in told


def test_names_of_settings_are_never_cut_in_a_narrow_terminal(capsys):
    known = list(variables(read_settings()))
    Console(width=60).print(cli._table(known))

    told = capsys.readouterr().out
    assert [each.name for each in known if each.name not in told] == []
