"""Administrators invite people and register apps; nobody else sees these pages."""

from __future__ import annotations

import re
import secrets

import httpx
import pytest

from salus.operator import requests
from smart_auth import clients
from tests.salus.console.world import APP, PASSWORD, Form, is_in


async def _administrator(world):
    await world.account("root", None, administrator=True)
    browser = world.browser()
    await browser.sign_in("root")
    return browser


def _last(browser):
    """The index of the last form: the one that adds something."""
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


def test_disabling_is_asked_about_first(tell):
    async def story(world):
        browser = await _administrator(world)
        await world.account()
        await world.client()
        other = world.browser()
        await other.sign_in()
        for path, index, still in (
            ("/admin/people", 0, lambda: is_in(other)),
            ("/admin/apps", 0, lambda: _starts(world)),
        ):
            page = await browser.get(path)
            assert ("action", "disable") not in Form(page.text).buttons
            page = await browser.send(index, action="sure")
            assert re.search(
                r"<h1>Disable (dr\.may|Chart &lt;i&gt;App&lt;/i&gt;)\?</h1>", page.text
            )
            assert await still()
            await browser.send(action="disable")
            assert not await still()

    async def _starts(world):
        return (await world.browser().authorize()).status_code == 200

    tell(story)


@pytest.mark.parametrize("action", ["sure", "disable"])
def test_the_operators_own_client_is_not_disabled_here(tell, action):
    async def story(world):
        browser = await _administrator(world)
        await world.client("salus-operator", name="Operator")
        page = await browser.get("/admin/apps")
        assert ("action", "sure") not in Form(page.text).buttons
        page = await browser.send(0, action=action)
        assert (page.status_code, "cannot be disabled here" in page.text) == (400, True)
        assert not (await clients.client(world.authority, "salus-operator")).disabled

    tell(story)


def test_what_an_app_may_at_most_is_said_in_words_too(tell):
    async def story(world):
        browser = await _administrator(world)
        await world.client("some", scopes=("patient/Observation.rs", "patient/Condition.cud"))
        await world.client("any")
        await world.client("whole", name="Whole", scopes=("patient/*.rs",))
        text = (await browser.get("/admin/apps")).text
        assert "<dt>May see at most</dt><dd>Everything in the record</dd>" in text
        text = text.partition(">Whole<")[0]
        said = dict(re.findall(r"<dt>([^<]+)</dt><dd[^>]*>([^<]*)</dd>", text))
        assert said["May see at most"] == "Test results, vital signs and other findings"
        assert said["May add, change or delete at most"] == "Health problems and diagnoses"
        assert said["Scopes"] == "patient/Observation.rs patient/Condition.cud"
        assert said["At most"] == "whatever a user allows"

    tell(story)


def test_whoever_invites_for_a_resource_that_is_not_there_is_told(secured):
    admin = f"admin-{secrets.token_hex(4)}"
    asked = requests.AddUser(name=admin, administrator=True, password=PASSWORD)
    secured.operator(asked, requests.UserShown)
    with httpx.Client(base_url=secured.base, follow_redirects=True) as browser:

        def send(page, index, **fields):
            form = Form(page.text).forms[index]
            return browser.post(form.pop(""), data=form | fields)

        send(browser.get("/sign-in"), 0, name=admin, password=PASSWORD)
        notes = {}
        for who in ("Practitioner/nobody", ""):
            page = browser.get("/admin/people")
            name = f"new-{secrets.token_hex(4)}"
            page = send(page, -1, name=name, who=who, action="add")
            assert 'id="link"' in page.text
            notes[who] = "Mind: There is no Practitioner/nobody yet." in page.text

    assert notes == {"Practitioner/nobody": True, "": False}


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
