"""The program as a process: it starts, says where things are, refuses a second one, and stops."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import date

import httpx
import pytest

from conformance.json import encode
from salus.demo import clinic
from tests.ports import free_port

SECONDS = 60


def environment(home):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SALUS_")}
    return {**kept, "HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1"}


def salus(home, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "salus", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment(home),
        cwd=home,
        check=False,
    )


class Served:
    """A server in a process of its own, with everything below one folder."""

    def __init__(self, home, *command):
        self.home, self.port = home, free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.fhir = f"{self.base}/fhir"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "salus", *command, "--port", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(home),
            cwd=home,
        )

    def ready(self):
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            assert self.process.poll() is None, self.process.stdout.read()
            try:
                if httpx.get(f"{self.base}/health/ready", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        pytest.fail("the server did not start")

    def stop(self, how=signal.SIGTERM):
        """What it printed, and its exit code."""
        self.process.send_signal(how)
        output, _ = self.process.communicate(timeout=SECONDS)
        return output, self.process.returncode


@contextmanager
def served(home, *command):
    server = Served(home, *(command or ("serve", "--open")))
    try:
        server.ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


def total(server, query, **headers):
    answer = httpx.get(f"{server.fhir}/{query}", headers=headers, trust_env=False)
    return answer.json()["total"]


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def patients(home):
    """A file of the invented clinic, and how many resources are in it."""
    made = [encode(each) for each in clinic(6, date(2026, 1, 1))]
    path = home / "clinic.ndjson"
    path.write_bytes(b"\n".join(made))
    return path, sum(len(json.loads(each)["entry"]) for each in made)


def test_it_says_where_everything_is_and_stops_when_asked(home):
    with served(home) as server:
        output, code = server.stop()

    assert code == 0
    for place in (server.fhir, home / ".local/share/salus", home / ".local/state/salus/keys"):
        assert str(place) in output
    assert "Anybody on this machine can read and change everything" in output
    assert "Stopped" in output


def test_an_interrupt_stops_it_too(home):
    with served(home) as server:
        _, code = server.stop(signal.SIGINT)

    assert code == 0


def test_a_second_process_is_refused_and_told_of_the_first(home):
    with served(home) as server:
        second = salus(home, "serve", "--open", "--port", free_port())

        assert second.returncode == 2
        assert re.search(rf"in use by process {server.process.pid}\b", second.stderr)
        assert httpx.get(f"{server.base}/health/live", trust_env=False).status_code == 200


def test_what_was_loaded_outlives_a_kill_and_is_not_doubled(home, patients):
    path, count = patients
    with served(home) as server:
        first = salus(home, "load", path, "--url", server.fhir)
        server.stop(signal.SIGKILL)
    with served(home) as server:
        again = salus(home, "load", path, "--url", server.fhir)

        assert total(server, "Patient?_summary=count") == 6
        assert total(server, "Encounter?_summary=count") == 18
    for told in (first, again):
        assert told.returncode == 0, told.stdout + told.stderr
        assert re.search(rf"resources stored, now or before\s+│\s+{count}\b", told.stdout)
    assert not list(home.glob("*.failed.ndjson"))


def test_a_folder_is_loaded_without_a_server_and_then_examined(home, patients):
    path, count = patients
    folder = home / "elsewhere"

    loaded = salus(home, "load", path, "--data", folder, "--keys", home / "k")
    examined = salus(home, "doctor", "--deep", "--data", folder, "--keys", home / "k")

    assert loaded.returncode == 0, loaded.stdout + loaded.stderr
    assert re.search(rf"resources stored, now or before\s+│\s+{count}\b", loaded.stdout)
    assert examined.returncode == 0, examined.stdout + examined.stderr
    assert "Nothing is wrong" in examined.stdout


def test_what_the_server_refuses_is_told_and_the_rest_is_stored(home):
    (home / "a.ndjson").write_text(
        '{"resourceType":"Patient","gender":"female"}\n{"resourceType":"Patient","gender":"f"}\n'
    )
    with served(home) as server:
        told = salus(home, "load", "a.ndjson", "--url", server.fhir)

        assert total(server, "Patient?_summary=count") == 1
    assert "Not stored: a.ndjson, line 2: Patient.gender: " in told.stdout
    (failed,) = map(json.loads, (home / "a.failed.ndjson").read_text().splitlines())
    assert told.returncode == 1
    assert (failed["line"], failed["content"]["gender"]) == (2, "f")
    assert any(each.startswith("Patient.gender: ") for each in failed["reasons"])


def test_the_demo_is_there_the_second_time_too(home):
    folders = (
        "--data",
        home / ".local/share/salus-demo",
        "--keys",
        home / ".local/state/salus-demo/keys",
    )
    for _ in range(2):
        with served(home, "demo", "--patients", "3") as server:
            token = salus(home, "token", "--scope", "system/*.rs", *folders).stdout.strip()
            bearer = {"authorization": f"Bearer {token}"}
            assert total(server, "Patient?_summary=count", **bearer) == 3
            assert total(server, "Observation?code=8867-4&_summary=count", **bearer) >= 1
            assert httpx.get(f"{server.fhir}/Patient", trust_env=False).status_code == 401
            output, _ = server.stop()
            assert f"Launch an app in two clicks: {server.base}/demo/ehr" in output


def test_the_bare_address_says_what_is_where(home):
    with served(home) as server:
        told = httpx.get(server.base, trust_env=False).json()

    assert told.pop("software").startswith("Salus ")
    assert told == {
        "fhir": server.fhir,
        "metadata": f"{server.fhir}/metadata",
        "health": f"{server.base}/health",
        "metrics": f"{server.base}/metrics",
    }


def test_doctor_says_that_a_server_has_the_folder_and_that_it_answers(home):
    with served(home) as server:
        told = salus(home, "doctor")
        deep = salus(home, "doctor", "--deep")

    held = rf"in use by process {server.process.pid} on \S+, which"
    assert (told.returncode, deep.returncode) == (0, 2)
    assert re.search(rf"{held} answers; stop it to look inside", told.stdout)
    assert f"{server.fhir} (a server answers)" in told.stdout  # the folder tells where, not 8080
    assert "Wrong" not in told.stdout
    assert "stop that, then run the same command again" in deep.stderr


def test_load_names_the_fhir_base_that_was_meant(home, patients):
    path, _ = patients
    with served(home) as server:
        told = salus(home, "load", path, "--url", server.base)

    assert told.returncode == 2
    assert f"No FHIR base at {server.base}: {server.base}/metadata answers 404" in told.stderr
    assert f"did you mean {server.fhir}?" in told.stderr


def test_an_interrupted_load_says_what_it_did_and_how_to_go_on(home):
    made = [encode(each) for each in clinic(120, date(2026, 1, 1))]
    (home / "clinic.ndjson").write_bytes(b"\n".join(made))
    with served(home) as server:
        loading = subprocess.Popen(
            # One at a time, so that the server has a moment to say how far it is.
            [
                *(sys.executable, "-m", "salus", "load", "clinic.ndjson"),
                *("--url", server.fhir, "--in-flight", "1"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(home),
            cwd=home,
            # Who runs the tests in the background of a shell lets all of them ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        until = time.monotonic() + SECONDS
        while total(server, "Patient?_summary=count") == 0 and time.monotonic() < until:
            time.sleep(0.02)
        loading.send_signal(signal.SIGINT)
        told, _ = loading.communicate(timeout=SECONDS)
        again = salus(home, "load", "clinic.ndjson", "--url", server.fhir)

        assert total(server, "Patient?_summary=count") == 120
    assert loading.returncode == 130, told
    assert "Traceback" not in told
    assert "run the same command again: it goes on where it stopped" in told
    assert again.returncode == 0


def test_the_demo_keeps_its_clinic_and_touches_no_other_folder(home):
    first = salus(home, "demo", "--no-serve", "--patients", "2")
    again = salus(home, "demo", "--no-serve", "--patients", "3")
    (home / "own").mkdir()
    (home / "own" / "notes.txt").touch()
    other = salus(home, "demo", "--no-serve", "--data", home / "own")

    assert (first.returncode, again.returncode, other.returncode) == (0, 0, 2)
    assert first.stdout.splitlines()[-1] == again.stdout.splitlines()[-1]
    assert "--patients is ignored" in again.stdout
    assert "--patients is ignored" not in first.stdout
    assert "holds something that is no demo" in other.stderr
    assert [each.name for each in (home / "own").iterdir()] == ["notes.txt"]


def test_a_server_warns_when_others_can_look_into_its_folder(home):
    folder = home / "open"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with served(home, "serve", "--open", "--data", str(folder)) as server:
        output, _ = server.stop()

    assert f"can look into the data folder {folder}: chmod 700 {folder}" in output
    assert [each for each in folder.iterdir() if each.stat().st_mode & 0o077] == []
