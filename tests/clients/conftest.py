"""What independent clients need: the demo's server with accounts, a browser, npm's fhirclient."""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.clients.demonstration import Demonstration

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
FHIRCLIENT_JS = "2.6.3"


def needed(what: str, there: bool) -> None:
    """Skip a test whose judge is not installed; under SALUS_CI=1 fail, because there it is."""
    if not there:
        if os.environ.get("SALUS_CI") == "1":
            pytest.fail(f"needs {what}")
        pytest.skip(f"needs {what}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium. Only for a module: while it is there, its event loop occupies the
    thread."""
    needed(f"Chromium at {CHROMIUM}", CHROMIUM.exists())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def fhirclient_js(request: pytest.FixtureRequest) -> Path:
    """The browser build of npm's fhirclient, as it is published, fetched once into the cache: it
    bundles what it needs, so nothing it depends on is installed."""
    assert request.config.cache is not None
    folder = request.config.cache.mkdir(f"fhirclient-js-{FHIRCLIENT_JS}")
    build = folder / "package" / "build" / "fhir-client.min.js"
    if not build.exists():
        needed("npm", shutil.which("npm") is not None)
        package = f"fhirclient@{FHIRCLIENT_JS}"
        options = ["--pack-destination", str(folder)]
        done = subprocess.run(
            ["npm", "pack", package, *options], capture_output=True, text=True, timeout=300
        )
        packed = folder / f"fhirclient-{FHIRCLIENT_JS}.tgz"
        needed(f"npm pack of {package}: {done.stderr[-300:]}", packed.exists())
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
    return build


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demonstration]:
    """One demo for all clients; each registers what it needs under a name of its own."""
    server = Demonstration(tmp_path_factory.mktemp("demo")).start()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def patients(demo: Demonstration) -> list[str]:
    """Ids of the demo's patients, that of the account `patient` first."""
    with demo.fhir(demo.token("system/Patient.rs")) as fhir:
        found = [each["resource"]["id"] for each in fhir.get("/Patient").json()["entry"]]
    page = httpx.get(f"{demo.base}/demo/ehr?user=patient")
    own = page.text.partition("&amp;patient=")[2].partition('"')[0]
    assert own in found
    return sorted(found, key=lambda id: id != own)
