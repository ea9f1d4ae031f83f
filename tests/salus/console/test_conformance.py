"""Administrators run the suites on a scratch store from a page, which needs no scripts."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest

from conformance.definitions import load
from conformance.json import parse
from conformance.suites import shipped
from conformance.validator import Validator
from tests.salus.console.test_accessible import (
    CHROMIUM,
    SHEET,
    need_no_scripts,
    needs_chromium,
    say_what_they_are,
)
from tests.secured import PASSWORD, Secured

EVERY = sum(len(each.tests) for each in shipped().values())
PATIENCE_SECONDS = 180


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "tmp").mkdir()
    made = Secured(folder, TMPDIR=str(folder / "tmp")).start()
    made.user("root", administrator=True)
    made.user("may", "Practitioner/may")
    yield made
    made.stop()


def scratch_folders(server):
    return list((server.data.parent / "tmp").glob("salus-conformance-*"))


def test_only_administrators_see_it(server):
    with server.browser() as nobody:
        assert "<h1>Sign in</h1>" in nobody.get("/conformance").text
    with server.browser("may") as clinician:
        page = clinician.get("/conformance")
        assert (page.response.status_code, "for administrators" in page.text) == (403, True)
        assert clinician.get("/conformance/salus-conformance.json").response.status_code == 403
    with server.browser("root") as administrator:
        page = administrator.get("/conformance")
        assert page.response.status_code == 200
        say_what_they_are({"conformance": page.text})
        need_no_scripts({"conformance": page.text})
        posted = administrator.client.post("/conformance", data={"csrf": "another"})
        assert posted.status_code == 403
        assert "Run the self-test" in administrator.get("/conformance").text


def finished(browser):
    """The page when all is run, and what was shown meanwhile."""
    seen = []
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        page = browser.get("/conformance")
        if "Refresh" not in page.response.headers:
            return page, seen
        seen.append(page.text)
        time.sleep(0.2)
    raise AssertionError(page.text[-3000:])


def test_the_suites_run_while_the_page_tells_how_far_they_are(server):
    with server.browser("root") as browser, server.client(server.token()) as client:
        client.post("/Patient", json={"resourceType": "Patient"})
        before = client.get("/_history").json()["entry"]
        browser.submit(browser.get("/conformance"))
        folders = len(scratch_folders(server))
        page, seen = finished(browser)
        assert any(re.search(rf"Running: \d+ of {EVERY} tests", text) for text in seen)
        assert any('class="tone waiting"' in text for text in seen)
        assert f"{EVERY} passed, 0 failed, 0 skipped" in page.text
        cells = re.findall(
            r'<li class="tone pass" title="[^"]+">.*?<span class="took">([\d,]+ ms)', page.text
        )
        assert len(cells) == EVERY
        say_what_they_are({"done": page.text, "running": seen[-1]})
        need_no_scripts({"done": page.text, "running": seen[-1]})
        assert client.get("/_history").json()["entry"] == before
    assert folders <= 1
    assert scratch_folders(server) == []


def test_the_result_can_be_downloaded(server):
    with server.browser("root") as browser:
        page, _ = finished(browser)
        links = re.findall(r'href="(/conformance/[^"]+)" download', page.text)
        assert len(links) == 3
        found = {Path(link).suffix: browser.get(link).response for link in links}
        for answer in found.values():
            assert answer.headers["content-disposition"].startswith("attachment")
        bundle = parse(found[".json"].content)
        assert len(bundle["entry"]) == len(shipped())
        validator = Validator(load())
        for entry in bundle["entry"]:
            assert entry["resource"]["result"] == "pass"
            assert not validator.validate(entry["resource"], warnings=False)
        suites = ElementTree.fromstring(found[".xml"].text)
        assert (suites.get("tests"), suites.get("failures")) == (str(EVERY), "0")
        assert not re.search(r"(src|href)=\"https?:|<script|@import|url\(", found[".html"].text)
        assert browser.get("/conformance/passwd").response.status_code == 400


def test_a_browser_without_scripts_runs_it(server):
    needs_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM))
        context = chromium.new_context(java_script_enabled=False, base_url=server.base)
        page = context.new_page()
        page.goto("/conformance")
        page.get_by_label("Name").fill("root")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name=re.compile("Run")).click()
        page.get_by_text(f"{EVERY} passed").wait_for(timeout=PATIENCE_SECONDS * 1000)
        assert page.get_by_role("heading", name="All tests").is_visible()
        if folder := os.environ.get("SALUS_PICTURES"):
            page.screenshot(path=f"{folder}/conformance.png", full_page=True)
        narrow = chromium.new_page(viewport={"width": 320, "height": 512})
        sheet = f"<style>{SHEET}</style>"
        narrow.set_content(re.sub('<link rel="stylesheet"[^>]*>', sheet, page.content()))
        assert narrow.evaluate("document.documentElement.scrollWidth") <= 320
        chromium.close()


def test_a_self_test_ends_with_its_server(tmp_path):
    (tmp_path / "tmp").mkdir()
    server = Secured(tmp_path, TMPDIR=str(tmp_path / "tmp")).start()
    server.user("root", administrator=True)
    with server.browser("root") as browser:
        browser.submit(browser.get("/conformance"))
        until = time.monotonic() + 60
        while not scratch_folders(server) and time.monotonic() < until:
            time.sleep(0.05)
    assert scratch_folders(server)
    server.kill()  # with no time to tidy up
    until = time.monotonic() + 60
    while scratch_folders(server) and time.monotonic() < until:
        time.sleep(0.1)
    assert scratch_folders(server) == []
    with pytest.raises(httpx.TransportError):
        httpx.get(server.base, trust_env=False)
