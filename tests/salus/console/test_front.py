"""The front door, for people in words and for programs as data; and addresses that lead nowhere."""

from __future__ import annotations

import httpx
import pytest

from tests.salus.console.test_accessible import Page

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def _links(text):
    return [found["href"] for found in Page(text).all("a")]


def test_a_browser_is_shown_what_is_where(tell):
    async def story(world):
        await world.account()
        await world.account("root", None, administrator=True)
        browser = world.browser()
        stranger = _links((await browser.get("/")).text)
        assert {"/sign-in", "/account/apps", "/admin"} <= set(stranger)
        assert "http://salus.test/fhir/metadata" in stranger
        assert "/demo/ehr" not in stranger
        await browser.sign_in()
        own = _links((await browser.get("/")).text)
        assert "/account" in own
        assert not {"/sign-in", "/admin"} & set(own)
        administrator = world.browser()
        await administrator.sign_in("root")
        assert "/admin" in _links((await administrator.get("/")).text)

    tell(story)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/fhir+json"])
def test_a_program_is_told_in_data(secured, accept):
    told = httpx.get(f"{secured.base}/", headers={"accept": accept})
    shown = httpx.get(f"{secured.base}/", headers=BROWSER)

    assert told.json()["fhir"] == secured.url
    assert told.headers["vary"] == shown.headers["vary"] == "Accept"
    assert "<h1>Salus</h1>" in shown.text


def test_an_address_that_leads_nowhere_is_a_page_in_a_browser_only(secured):
    shown = httpx.get(f"{secured.base}/accounts", headers=BROWSER)
    told = httpx.get(f"{secured.base}/accounts")
    sent = httpx.post(f"{secured.base}/accounts", headers=BROWSER)
    fhir = httpx.get(f"{secured.url}/Nothing", headers=BROWSER)

    assert (shown.status_code, "There is no such page" in shown.text) == (404, True)
    assert "script-src" not in shown.headers["content-security-policy"]
    assert (told.status_code, told.json()) == (404, {"detail": "Not Found"})
    assert (sent.status_code, sent.json()) == (404, {"detail": "Not Found"})
    assert fhir.headers["content-type"].startswith("application/fhir+json")
