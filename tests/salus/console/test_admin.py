"""Administrators invite people and register apps; nobody else sees these pages."""

from __future__ import annotations

import re

import pytest

from tests.salus.console.world import APP, PASSWORD, is_in


async def _administrator(world):
    await world.account("root", None, administrator=True)
    browser = world.browser()
    await browser.sign_in("root")
    return browser


def _last(browser):
    """The index of the last form: the one that adds something."""
    from tests.salus.console.world import Form

    return len(Form(browser.text).forms) - 1


@pytest.mark.parametrize("path", ["/admin", "/admin/people", "/admin/apps"])
def test_only_administrators_see_these_pages(tell, path):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.get(path)
        assert "<h1>Sign in</h1>" in browser.text
        await browser.send(name="dr.may", password=PASSWORD)
        assert browser.page.status_code == 403
        await browser.get("/account/password")
        page = await browser.post(path, {"csrf": browser.form()["csrf"], "action": "add"})
        assert page.status_code == 403
        administrator = await _administrator(world)
        assert (await administrator.get(path)).status_code == 200

    tell(story)


def test_somebody_is_invited_by_a_link_that_is_shown_once(tell):
    async def story(world):
        browser = await _administrator(world)
        await browser.get("/admin")
        fields = {"name": "New.One", "who": "Practitioner/9", "display": "New One"}
        page = await browser.send(_last(browser), action="add", **fields)
        link = re.search(r'id="link">http://salus\.test(/welcome\?link=[^<]+)<', page.text)[1]
        page = await browser.get("/admin/people")
        assert link not in page.text
        guest = world.browser()
        await guest.get(link)
        await guest.send(password=PASSWORD, again=PASSWORD)
        assert await is_in(guest)
        made = await world.read("new.one")
        assert (made.who, made.display, made.administrator) == ("Practitioner/9", "New One", False)

    tell(story)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"name": "root"}, "There is an account root already"),
        ({"name": "two words"}, "A name has 1 to 100 letters"),
        ({"name": "new", "who": "Device/1"}, "An account is that of a Practitioner"),
    ],
)
def test_an_account_that_cannot_be_is_refused_with_the_reason(tell, fields, wrong):
    async def story(world):
        browser = await _administrator(world)
        await browser.get("/admin/people")
        page = await browser.send(_last(browser), action="add", **fields)
        assert page.status_code == 400
        assert wrong in page.text

    tell(story)


def test_an_account_is_disabled_at_once_and_not_ones_own(tell):
    async def story(world):
        browser = await _administrator(world)
        await world.account()
        other = world.browser()
        await other.sign_in()
        await browser.get("/admin/people")
        page = await browser.send(0, name="root", action="disable")
        assert page.status_code == 400
        await browser.send(0, name="dr.may", action="disable")
        assert not await is_in(other)
        await browser.send(0, name="dr.may", action="enable")
        await other.sign_in()
        assert await is_in(other)

    tell(story)


def test_an_app_is_registered_and_its_secret_shown_once(tell):
    async def story(world):
        browser = await _administrator(world)
        await browser.get("/admin/apps")
        fields = {"name": "My App", "client": "mine", "redirect_uris": APP, "kind": "secret"}
        page = await browser.send(_last(browser), action="add", **fields)
        secret = re.search(r'id="secret">([^<]+)<', page.text)[1]
        page = await browser.get("/admin/apps")
        assert secret not in page.text
        answer = await world.browser().http.post(
            "/oauth/token",
            data={"grant_type": "refresh_token", "refresh_token": "x"},
            auth=("mine", secret),
        )
        assert answer.json()["error"] == "invalid_grant"
        page = await browser.send(0, action="rotate")
        assert re.search(r'id="secret">([^<]+)<', page.text)[1] != secret
        [told, rotated] = world.happened("register")
        assert (told.client, told.account, told.detail) == ("mine", "root", "registered")
        assert rotated.detail == "secret rotated"

    tell(story)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"redirect_uris": "http://app.example.com/"}, "must be https"),
        ({"scopes": "patient/Nothing.rs"}, "There is no such type"),
        ({"scopes": "patient/Patient.sr"}, "grants by letters"),
        ({"client": "taken"}, "There is a client taken already"),
    ],
)
def test_an_app_that_cannot_be_is_refused_with_the_reason(tell, fields, wrong):
    async def story(world):
        browser = await _administrator(world)
        await world.client("taken")
        await browser.get("/admin/apps")
        sent = {"name": "My App", "redirect_uris": APP, **fields}
        page = await browser.send(_last(browser), action="add", **sent)
        assert page.status_code == 400
        assert wrong in page.text
        assert world.happened("register") == []

    tell(story)


def test_a_disabled_app_starts_no_request(tell):
    async def story(world):
        browser = await _administrator(world)
        await world.client()
        await browser.get("/admin/apps")
        await browser.send(0, action="disable")
        assert (await browser.authorize()).status_code == 400
        await browser.get("/admin/apps")
        await browser.send(0, action="enable")
        assert (await browser.authorize()).status_code == 200

    tell(story)
