"""`salus conformance` runs suites against any server, and says what came of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import conformance.suites
from conformance.definitions import load
from conformance.json import parse
from conformance.suites import shipped
from conformance.validator import Validator
from tests.front import front, saying
from tests.salus.selftest.breakages import status

TOKEN = "a-token-that-nobody-may-see"


def salus(*arguments, cwd, **environment):
    kept = {n: v for n, v in os.environ.items() if not n.startswith("SALUS_")}
    return subprocess.run(
        [sys.executable, "-m", "salus", "conformance", *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        cwd=cwd,
        env={**kept, "COLUMNS": "160", "NO_COLOR": "1", **environment},
    )


def test_the_suites_are_listed(tmp_path):
    done = salus("list", cwd=tmp_path)
    assert done.returncode == 0
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows[0] == ["Suite", "Tests", "What it is about"]
    assert [row[0] for row in rows[1:]] == list(shipped())


def test_without_an_address_a_scratch_server_is_asked_and_nothing_is_left(tmp_path):
    (tmp_path / "tmp").mkdir()
    wrong = {"SALUS_PORT": "1", "SALUS_DATA": str(tmp_path / "mine")}  # of the real server
    done = salus("run", "delete", "patch", cwd=tmp_path, TMPDIR=str(tmp_path / "tmp"), **wrong)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"Delete +5 ", done.stdout)
    assert done.stdout.rstrip().endswith("10 passed, 0 failed, 0 skipped")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "mine").exists()


@pytest.fixture(scope="module")
def served():
    from salus.selftest.scratch import scratch

    with scratch() as ready:
        yield ready


def test_reports_are_written_and_are_valid(served, tmp_path):
    reports = ("--report", "out/reports", "--junit", "junit.xml", "--html", "page.html")
    done = salus(
        "run", "core", "--url", served.url, "--parallel", "4", *reports,
        cwd=tmp_path, SALUS_TOKEN=served.token,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    written = sorted((tmp_path / "out/reports").iterdir())
    assert len(written) == len(shipped())
    validator = Validator(load())
    for each in written:
        report = parse(each.read_bytes())
        assert (report["resourceType"], report["result"]) == ("TestReport", "pass")
        assert not validator.validate(report, warnings=False)
    suites = ElementTree.fromstring((tmp_path / "junit.xml").read_text())
    assert int(suites.get("tests")) == sum(len(each.tests) for each in shipped().values())
    assert served.token not in done.stdout
    for each in (*written, tmp_path / "junit.xml", tmp_path / "page.html"):
        assert served.token not in each.read_text()


def test_what_fails_is_told_and_the_exit_code_says_so(served, tmp_path):
    with front(served.url, status(200, 404)) as url:
        done = salus("run", "create-and-read", "--url", url, "--token", served.token, cwd=tmp_path)
    assert done.returncode == 1
    assert "fail Create, read and vread: An id that there is not" in done.stdout
    assert "The status is 404: The status is 200; expected: equals 404" in done.stdout
    assert done.stdout.rstrip().endswith("2 failed, 0 skipped")
    assert done.stdout.count("An id that there is not") == 1


def test_a_token_and_headers_are_sent_and_never_shown(tmp_path):
    (tmp_path / "s.json").write_text(
        json.dumps(
            {
                "resourceType": "TestScript",
                "name": "Echo",
                "test": [
                    {
                        "name": "echo",
                        "action": [
                            {"operation": {"url": "Patient/1"}},
                            {"assert": {"responseBody": "nothing", "operator": "contains"}},
                            {"assert": {"response": "okay"}},
                        ],
                    }
                ],
            }
        )
    )
    seen = []

    def echo(asked, ask):
        seen.append((asked.headers.get("authorization"), asked.headers.get("x-key")))
        told = {"resourceType": "Basic", "told": dict(asked.headers)}
        return saying(200, told)(asked, ask)

    with front("http://127.0.0.1:9/fhir", echo) as url:
        done = salus(
            "run", "s.json", "--url", url, "--token", TOKEN, "--header", "X-Key: another-secret",
            "--html", "page.html", "--junit", "j.xml", "--report", "r", cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 1
    assert (f"Bearer {TOKEN}", "another-secret") in seen
    written = [tmp_path / "page.html", tmp_path / "j.xml", *(tmp_path / "r").iterdir()]
    for text in (done.stdout, done.stderr, *(each.read_text() for each in written)):
        assert TOKEN not in text and "another-secret" not in text


def test_a_broken_file_of_a_folder_is_named_and_the_exit_code_says_so(served, tmp_path):
    suites = tmp_path / "suites"
    suites.mkdir()
    shipped_file = Path(conformance.suites.__file__).with_name("delete.json")
    (suites / "delete.json").write_bytes(shipped_file.read_bytes())
    asked = ("run", "suites", "--url", served.url, "--token", served.token)
    done = salus(*asked, cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "5 passed, 0 failed, 0 skipped")
    (suites / "bad.json").write_text("{")
    done = salus(*asked, cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "5 passed, 1 failed, 0 skipped")
    assert "bad.json: can be read" in done.stdout and "This is not JSON" in done.stdout


def test_what_is_asked_wrongly_is_explained(tmp_path):
    (tmp_path / "min.json").write_text('{"resourceType":"TestScript","name":"NoTests"}')
    for arguments, why in (
        (("run", "min.json"), "Nothing was run: there is no test in min.json"),
        (("run", "nothing"), "nothing is no file, no folder and no suite"),
        (("run", "core", "--url", "localhost"), "it begins with http(s)://"),
        (("run", "core", "--url", "http://u:p@x.example/fhir"), "use --token"),
        (("run", "core", "--url", "http://127.0.0.1:9/fhir"), "No server answers at"),
        (("run", "core", "--url", "http://x.example", "--client", "a"), "its private key: --key"),
        (("run", "core", "--destination", "2=http://x.example"), "name it with --url"),
        (("run", "core", "--set", "novalue"), "--set takes NAME=VALUE"),
        (("run", "core", "--header", "novalue"), "--header takes NAME: VALUE"),
        (("run", "core", "--html", "no/such/folder.html"), "There is no folder"),
    ):
        done = salus(*arguments, cwd=tmp_path)
        assert (done.returncode, why in done.stderr) == (2, True), (arguments, done.stderr)


def test_the_operator_s_own_server_is_asked_with_a_token_of_the_operator(secured, tmp_path):
    own = {"SALUS_DATA": str(secured.data), "SALUS_KEYS": str(secured.keys)}
    done = salus("run", "delete", "--url", secured.url, cwd=tmp_path, **own)
    assert (done.returncode, done.stderr) == (0, "")

    none = {"SALUS_DATA": str(tmp_path / "d"), "SALUS_KEYS": str(tmp_path / "k")}
    done = salus("run", "delete", "--url", secured.url, "--report", "r", cwd=tmp_path, **none)
    assert done.returncode == 1
    assert "No token was shown. If the server wants one: --token, SALUS_TOKEN," in done.stderr
    wrong = ("--url", secured.url, "--token", "expired")
    said = " ".join(salus("run", "delete", *wrong, cwd=tmp_path, **none).stderr.split())
    assert said.startswith("The server answers 401 although a token was shown")
    *_, written, verdict = done.stdout.splitlines()
    assert written == "written: 1 TestReports in r"
    assert re.fullmatch(r"0 passed, \d+ failed, \d+ skipped(; \d+ of them not done.*)?", verdict)


def test_tests_that_a_setup_kept_from_being_done_are_told_in_the_last_line(served, tmp_path):
    script = {
        "resourceType": "TestScript",
        "name": "Kept",
        "setup": {"action": [{"operation": {"url": "Patient/1", "sourceId": "nowhere"}}]},
        "test": [{"name": "one", "action": [{"assert": {"response": "okay"}}]}],
    }
    (tmp_path / "s.json").write_text(json.dumps(script))
    done = salus("run", "s.json", "--url", served.url, "--token", served.token, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == (
        "0 passed, 0 failed, 1 skipped; 1 of them not done, since a setup did not hold"
    )


def test_a_backend_service_asks_for_its_own_token(secured, tmp_path):
    backend = secured.backend("tester", "system/*.cruds")
    (tmp_path / "key.jwk").write_text(json.dumps(backend.key.as_dict(private=True)))
    done = salus(
        "run", "delete", "--url", secured.url, "--client", "tester", "--key", "key.jwk", cwd=tmp_path
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    done = salus(
        "run", "delete", "--url", secured.url, "--client", "nobody", "--key", "key.jwk", cwd=tmp_path
    )  # fmt: skip
    assert (done.returncode, "gives nobody no token" in done.stderr) == (2, True)
    done = salus(
        "run", "delete", "--url", secured.url, "--client", "tester", "--key", "nope.jwk", cwd=tmp_path
    )  # fmt: skip
    assert (done.returncode, "The key nope.jwk cannot be read: No such" in done.stderr) == (2, True)


def test_the_address_above_a_fhir_base_is_told_from_the_base(served, tmp_path):
    above = served.url.removesuffix("/fhir")
    done = salus("run", "delete", "--url", above, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    said = " ".join(done.stderr.split())
    assert f"There is no FHIR server at {above}, but one at {served.url}" in said
