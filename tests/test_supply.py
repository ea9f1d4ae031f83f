"""What Salus is made of is told whole, and that nobody could be asked about it is never taken for
good news."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
SUPPLY = Path(f"{sys.prefix}-supply")


@pytest.fixture(scope="session")
def tools():
    """The environment of the tools, made where there is none yet."""
    if not (SUPPLY / ".installed").exists():
        made = subprocess.run(
            ["make", f"VENV={sys.prefix}", f"{SUPPLY}/.installed"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            assert os.environ.get("SALUS_CI") != "1", made.stderr
            pytest.skip("the tools of `make supply` cannot be installed here")
    return SUPPLY / "bin"


def plain(name):
    return name.lower().replace("_", "-").replace(".", "-")


def pins():
    lines = [line.partition("#")[0].strip() for line in LOCK.read_text().splitlines()]
    return {
        plain(name): version
        for name, _, version in (each.partition("==") for each in lines if each)
    }


def audit(*arguments, python=sys.executable, **environment):
    return subprocess.run(
        [python, ROOT / "supply" / "audit.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.slow  # it makes an environment of its own
def test_the_sbom_lists_every_pinned_package_in_its_version(tools, tmp_path):
    file = tmp_path / "sbom.json"
    subprocess.run(
        [
            tools / "cyclonedx-py",
            "environment",
            *("--pyproject", ROOT / "pyproject.toml"),
            *("--spec-version", "1.6", "--output-format", "JSON", "--validate"),
            *("--output-file", file),
            sys.executable,
        ],
        check=True,
    )

    sbom = json.loads(file.read_bytes())
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    assert sbom["metadata"]["component"]["name"] == "salus-fhir"
    listed = {plain(each["name"]): each["version"] for each in sbom["components"]}
    assert pins().items() <= listed.items()


def test_every_package_is_pinned_to_one_version():
    for name, version in pins().items():
        assert name and version and "*" not in version


def record(id, name, *events, versions=(), ecosystem="PyPI", **more):
    affected = {
        "package": {"name": name, "ecosystem": ecosystem},
        "ranges": [{"type": "ECOSYSTEM", "events": list(events)}],
        "versions": list(versions),
    }
    return {"id": id, "affected": [affected], **more}


FROM_THE_START = {"introduced": "0"}


def copy(folder, *records):
    file = folder / "osv.zip"
    with zipfile.ZipFile(file, "w") as packed:
        for number, each in enumerate(records):
            packed.writestr(f"{number}.json", json.dumps(each))
    return file


def test_a_copy_of_the_database_is_read_where_no_service_can_be_asked(tmp_path):
    lock = tmp_path / "lock"
    lock.write_text("# pinned\nJinja2==3.1.6\nmsgspec==0.22.0  # fast\n")
    file = copy(
        tmp_path,
        record("A-1", "jinja2", FROM_THE_START, {"fixed": "3.1.7"}),
        record("A-2", "jinja2", FROM_THE_START, {"fixed": "3.1.6"}),
        record("A-3", "jinja2", {"introduced": "3.2"}),
        record("A-4", "jinja2", FROM_THE_START, {"last_affected": "3.1.6"}),
        record("A-5", "msgspec", versions=["0.22.0"]),
        record("A-6", "msgspec", FROM_THE_START, withdrawn="2026-01-01T00:00:00Z"),
        record("A-7", "msgspec", FROM_THE_START, ecosystem="npm"),
        record("A-8", "other", FROM_THE_START),
    )

    told = audit(lock, "--database", file)

    assert told.returncode == 1
    assert told.stdout.splitlines() == [
        "jinja2 3.1.6: A-1, fixed in 3.1.7",
        "jinja2 3.1.6: A-4, not fixed yet",
        "msgspec 0.22.0: A-5, not fixed yet",
        "3 known vulnerabilities in 2 pinned packages.",
    ]


def test_nothing_known_is_said_of_a_database_that_was_read(tmp_path):
    told = audit(LOCK, "--database", copy(tmp_path, record("A-8", "other", FROM_THE_START)))

    assert told.returncode == 0
    assert told.stdout == f"0 known vulnerabilities in {len(pins())} pinned packages.\n"


@pytest.mark.parametrize("content", [None, b"", b"no zip"])
def test_a_database_that_cannot_be_read_is_no_good_news(tmp_path, content):
    file = tmp_path / "osv.zip"
    if content is not None:
        file.write_bytes(content)
    told = audit(LOCK, "--database", file)

    assert told.returncode == 2
    assert told.stderr.startswith("NOT AUDITED: ")


def test_an_empty_database_is_no_good_news(tmp_path):
    told = audit(LOCK, "--database", copy(tmp_path))

    assert (told.returncode, "holds no record" in told.stderr) == (2, True)


@pytest.mark.slow
def test_a_service_that_cannot_be_reached_is_no_good_news(tools):
    nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
    told = audit(LOCK, python=tools / "python", **nowhere)

    assert told.returncode == 2
    assert told.stderr.startswith("NOT AUDITED: ")
    assert "--database" in told.stdout
