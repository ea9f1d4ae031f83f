"""A resource is validated on a page, without scripts, and nothing of it is left behind."""

from __future__ import annotations

import os
import re
from time import monotonic

import pytest

from salus.console.words import coded
from tests.salus.console.test_accessible import (
    CHROMIUM,
    SHEET,
    need_no_scripts,
    needs_chromium,
    say_what_they_are,
)
from tests.secured import PASSWORD, Secured

TEXT = (
    '{\n  "resourceType": "Patient",\n  "gender": "F",\n  "name": [{"family": "Unlikelyname"}]\n}'
)
VITAL_SIGNS = "http://hl7.org/fhir/StructureDefinition/vitalsigns"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Secured(tmp_path_factory.mktemp("served")).start()
    made.user("may", "Practitioner/may")
    yield made
    made.stop()


def sent(browser, text="", file=None, **fields):
    """The page after its form was sent as browsers send it."""
    page = browser.get("/validate")
    csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)[1]
    parts = {"csrf": csrf, "text": text, "profile": "", **fields}
    files = {name: (None, value) for name, value in parts.items()}
    files["file"] = ("p.json", file or b"", "application/json")
    return browser.client.post("/validate", files=files)


def test_only_who_is_signed_in_sees_it(server):
    with server.browser() as nobody:
        assert "<h1>Sign in</h1>" in nobody.get("/validate").text
    with server.browser("may") as clinician:
        page = clinician.get("/validate")
        assert page.response.status_code == 200
        assert "script" not in page.response.headers["content-security-policy"]
        assert page.response.headers["cache-control"] == "no-store"
        say_what_they_are({"validate": page.text})
        need_no_scripts({"validate": page.text})


def test_issues_are_beside_their_lines(server):
    with server.browser("may") as browser:
        answer = sent(browser, TEXT)
        assert answer.status_code == 200
        assert "1 error, 1 remark besides" in answer.text
        assert '<a href="#line-3">Line 3</a>' in answer.text
        line = re.search(r'<li id="line-3" class="told">(.*?)</li>', answer.text, re.S)[1]
        assert "must be one of: female, male, other, unknown" in line
        say_what_they_are({"validated": answer.text})
        need_no_scripts({"validated": answer.text})


def test_who_is_signed_in_finds_the_page_in_the_header(server):
    with server.browser("may") as browser:
        assert '<a href="/validate">Validate</a>' in browser.get("/account").text


def test_an_empty_form_is_answered_with_what_to_do(server):
    with server.browser("may") as browser:
        answer = sent(browser, "  ")
        assert "There is nothing to validate: paste a resource, or choose a file." in answer.text
        assert "There is nothing to validate" not in sent(browser, TEXT).text


def test_names_in_what_is_said_are_code_and_nothing_of_them_is_markup(server):
    with server.browser("may") as browser:
        text = sent(browser, '{"resourceType": "Patient", "foo": 1}').text
        assert "<code>Patient</code> has no element <code>foo</code>" in text
    assert str(coded("`a<b>` & `c`")) == "<code>a&lt;b&gt;</code> &amp; <code>c</code>"


def test_a_file_counts_before_the_text_and_a_profile_is_held_to(server):
    with server.browser("may") as browser:
        observation = b'{"resourceType": "Observation", "status": "final", "code": {"text": "x"}}'
        both = sent(browser, TEXT, observation).text
        assert "0 errors" in both
        assert "The file was looked at, not the text that stood beside it." in both
        assert "The file was looked at" not in sent(browser, "", observation).text
        answer = sent(browser, "", observation, profile=VITAL_SIGNS)
        assert "<code>Observation.subject</code> is required" in answer.text


def test_a_file_that_is_no_text_is_refused_at_once_and_not_shown(server):
    with server.browser("may") as browser:
        begun = monotonic()
        answer = sent(browser, TEXT, os.urandom(900_000))
        assert monotonic() - begun < 2
        assert answer.status_code == 200
        assert "This file is no text in UTF-8, so it is no resource in JSON." in answer.text
        assert len(answer.text) < 20_000
        assert 'id="line-1"' not in answer.text


def test_a_profile_that_nobody_knows_is_told_beside_its_field(server):
    with server.browser("may") as browser:
        answer = sent(browser, TEXT, profile=VITAL_SIGNS + "x")
        assert '<p id="unknown" class="wrong">No profile of this url is installed' in answer.text
        assert f"The profile {VITAL_SIGNS}x that was asked for is not known here" in answer.text
        assert "2 errors, 1 remark besides" in answer.text
        say_what_they_are({"validated": answer.text})
        assert 'id="unknown"' not in sent(browser, TEXT, profile=VITAL_SIGNS).text


def test_a_resource_a_line_is_told_as_that(server):
    with server.browser("may") as browser:
        answer = sent(browser, '{"resourceType": "Patient"}\n{"resourceType": "Basic"}\n')
        assert "This is a resource a line (NDJSON)" in answer.text


def test_a_line_with_advice_only_looks_unlike_one_with_an_error(server):
    with server.browser("may") as browser:
        answer = sent(browser, TEXT)
        assert '<li id="line-1" class="told advised">' in answer.text
        assert '<li id="line-3" class="told">' in answer.text


def test_what_was_sent_is_text_and_no_markup(server):
    with server.browser("may") as browser:
        answer = sent(browser, '{"resourceType": "</textarea><b>Patient"}')
        assert "<b>Patient" not in answer.text


def test_a_forged_form_and_one_that_is_too_large_are_refused(server):
    with server.browser("may") as browser:
        assert sent(browser, TEXT, csrf="another").status_code == 403
        large = sent(browser, "x" * (1024 * 1024))
        assert large.status_code == 413
        assert "A resource may have at most 1 MB here. Go back and send less" in large.text
        csrf = re.search(r'name="csrf" value="([^"]+)"', browser.get("/validate").text)[1]
        answer = browser.client.post("/validate", data={"csrf": csrf, "text": TEXT})
        assert answer.status_code == 400


def test_what_is_sent_by_nobody_is_not_read(server):
    with server.browser() as nobody:
        begun = monotonic()
        body = b"--b0\r\nContent-Disposition: form-data; " + b'a="x";' * 150_000 + b"\r\n\r\nx\r\n"
        kind = {"content-type": "multipart/form-data; boundary=b0"}
        answer = nobody.client.post("/validate", content=body, headers=kind)
        assert "<h1>Sign in</h1>" in answer.text or answer.headers["location"].startswith("/")
        assert monotonic() - begun < 5


def test_nothing_that_was_sent_is_kept(server):
    with server.browser("may") as browser:
        sent(browser, TEXT)
    with server.client(server.token()) as client:
        assert client.get("/Patient?name=Unlikelyname").json()["total"] == 0
        assert "Unlikelyname" not in client.get("/AuditEvent?_sort=-date&_count=50").text
    for path in server.data.parent.rglob("*"):
        if path.is_file():
            assert b"Unlikelyname" not in path.read_bytes(), path


def test_a_person_validates_in_a_browser_without_scripts(server):
    needs_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM))
        context = chromium.new_context(java_script_enabled=False, base_url=server.base)
        page = context.new_page()
        page.goto("/validate")
        page.get_by_label("Name").fill("may")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_label("The resource, as JSON").fill(TEXT)
        page.get_by_role("button", name="Validate").click()
        page.get_by_role("link", name="Line 3").click()
        assert page.url.endswith("#line-3")
        assert page.locator("#line-3").get_by_text("must be one of").is_visible()
        if folder := os.environ.get("SALUS_PICTURES"):
            page.screenshot(path=f"{folder}/validate.png", full_page=True)
        narrow = chromium.new_page(viewport={"width": 320, "height": 512})
        sheet = f"<style>{SHEET}</style>"
        narrow.set_content(re.sub('<link rel="stylesheet"[^>]*>', sheet, page.content()))
        assert narrow.evaluate("document.documentElement.scrollWidth") <= 320
        chromium.close()
