"""The recipes of docs/smart.md, pasted into a shell, with a person at the browser in between."""

import json
import re

import httpx
import pytest

from salus.demo.command import NAME
from salus.demo.people import PEOPLE
from salus.settings import default_data, default_keys
from tests.clients.shell import ROOT, blocks, paste
from tests.secured import PASSWORD, Launch, answer

PAGE = "docs/smart.md"
HERE = "http://127.0.0.1:8080"
LAUNCH = blocks(PAGE, "## Launch it", "\nAn **EHR launch**")
BACKEND = blocks(PAGE, "A **backend service**", "\n## ")
BACK = "THE ADDRESS FROM THE BROWSER"


def folders(data, keys):
    return f"--data {data} --keys {keys}"


@pytest.fixture
def pasted(demo, tmp_path):
    """Paste a block into a terminal beside the demo, whose address and folders are its own."""

    def run(script, named=False):
        written = folders(f"~/.local/share/{NAME}", f"~/.local/state/{NAME}/keys")
        told = script.replace(HERE, demo.base).replace(written, folders(demo.data, demo.keys))
        own = {"SALUS_DATA": str(demo.data), "SALUS_KEYS": str(demo.keys)} if named else {}
        return paste(told, tmp_path, demo.environment | own)

    return run


def test_the_folders_of_the_demo_and_who_signs_in_are_told_as_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    told = folders(default_data(NAME), default_keys(NAME)).replace(str(tmp_path), "~")
    text = (ROOT / PAGE).read_text(encoding="utf-8")

    assert told in LAUNCH[0]
    assert f"`{PEOPLE[0].account}` with the password `{PEOPLE[0].password}`" in text


def test_a_launch_by_hand_works_as_it_is_written(demo, patients, pasted):
    first, copied, second, _ = LAUNCH

    url, verifier = pasted(first + "\necho $VERIFIER").out.strip().splitlines()[-2:]
    back = demo.browser("doctor").authorize(url, patients[1])
    assert back.startswith("http://127.0.0.1/back?code=")

    known = f"BASE={demo.base}\nVERIFIER={verifier}\n{copied.replace(BACK, back)}"
    printed = pasted(known + second)
    token, found = map(json.loads, re.split(r"(?<=})\n", printed.out.strip(), maxsplit=1))

    assert printed.statuses == [200, 200]
    assert token["patient"] == patients[1]
    subjects = {entry["resource"]["subject"]["reference"] for entry in found["entry"]}
    assert subjects == {f"Patient/{patients[1]}"}


def test_on_a_server_of_ones_own_somebody_is_made_who_can_launch(secured, tmp_path):
    own = {"SALUS_DATA": str(secured.data), "SALUS_KEYS": str(secured.keys)}
    printed = paste(LAUNCH[3].replace(HERE, secured.base), tmp_path, secured.environment | own)
    link = printed.out.rpartition("http")[1] + printed.out.rpartition("http")[2].strip()
    secured.app("own", redirect_uris=("https://app.example/back",))
    launch = Launch.of(secured, "own", "launch/patient patient/*.rs")

    assert set(printed.statuses) <= {200, 201}
    assert len(printed.statuses) == 2
    with secured.browser() as browser:
        browser.submit(browser.get(link), password=PASSWORD, again=PASSWORD)
    with secured.browser("nora") as browser:
        page = browser.submit(browser.get(launch.url), patient="ben")
        assert "code" in answer(browser.submit(page, action="allow"))


def test_a_backend_service_reads_by_the_key_made_for_it(demo, pasted, tmp_path):
    register, sample, *_ = BACKEND
    (tmp_path / "nightly.py").write_text(sample.replace(HERE, demo.base))

    pasted(register, named=True)
    found = json.loads(pasted("python -W error nightly.py").out)

    assert [each["resource"]["resourceType"] for each in found["entry"]] == ["Observation"]


def test_a_backend_service_reads_by_a_key_of_its_own(demo, pasted, tmp_path):
    _, sample, own, *_ = BACKEND
    changed = (
        sample.replace(HERE, demo.base)
        .replace("nightly.jwk", "service.pem")
        .replace("nightly", "service")
        .replace("(json.load(file))", "(file.read())\nkey.ensure_kid()")
    )
    (tmp_path / "service.py").write_text(changed)

    pasted(own, named=True)
    found = json.loads(pasted("python -W error service.py").out)

    assert [each["resource"]["resourceType"] for each in found["entry"]] == ["Observation"]


def test_an_app_without_scopes_of_its_own_has_no_limit_but_its_profile(demo, patients, tmp_path):
    demo.register("unlimited", "--redirect-uri", "http://127.0.0.1/back")
    whose = ("--client", "unlimited", "--user", "doctor", "--patient", patients[1])

    assert demo.token("patient/*.cruds", *whose)
    with pytest.raises(AssertionError, match="salus: "):
        demo.token("system/*.rs", *whose)
    with pytest.raises(AssertionError, match="registered with the scopes that it may be granted"):
        key = str(tmp_path / "boundless.jwk")
        demo.register("boundless", "--profile", "backend", "--make-key", key)


def test_the_token_endpoint_of_the_recipes_is_the_one_that_is_announced(demo):
    told = httpx.get(f"{demo.url}/.well-known/smart-configuration").json()

    assert told["token_endpoint"] == f"{demo.base}/oauth/token"
    assert told["authorization_endpoint"] == f"{demo.base}/oauth/authorize"
