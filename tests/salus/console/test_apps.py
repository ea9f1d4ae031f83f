"""Connected apps: what one allowed, in plain words, and the end of it at once."""

from __future__ import annotations

import pytest

from tests.salus.console.world import APP, Form, answered, redeem

LAB = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"


async def _connect(world, browser, account="ann", client="app", **changed):
    """An app that was allowed what it asked; its tokens."""
    await browser.authorize(client, **changed)
    if "<h1>Sign in</h1>" in browser.text:
        await browser.sign_in(account)
    told = answered(await browser.send(action="allow"))
    return (await redeem(world, told["code"], client)).json()


@pytest.mark.requirement("F5", "V2", "Z5")
def test_an_app_that_is_disconnected_gets_nothing_more(tell):
    async def story(world):
        await world.account("ann", "Patient/ann")
        await world.client()
        await world.client("other", name="Other App")
        browser = world.browser()
        first = await _connect(world, browser)
        second = await _connect(world, browser)
        third = await _connect(world, browser, client="other")
        await browser.get("/account/apps")
        assert Form(browser.text).buttons == [("client", "app"), ("client", "other")]
        await browser.send(0, client="app")
        assert Form(browser.text).buttons == [("client", "other")]
        tokens = world.app.state.tokens
        for ended in (first, second):
            with pytest.raises(Exception, match="invalid_token"):
                await tokens.grant(ended["access_token"])
            answer = await world.browser().http.post(
                "/oauth/token",
                data={"grant_type": "refresh_token", "refresh_token": ended["refresh_token"]},
            )
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
        await tokens.grant(third["access_token"])
        [told] = world.happened("revoke")
        assert (told.client, told.account, told.who) == ("app", "ann", "Patient/ann")

    tell(story)


@pytest.mark.requirement("V2", "Z5")
def test_a_code_that_was_not_used_yet_ends_too(tell):
    async def story(world):
        await world.account("ann", "Patient/ann")
        await world.client()
        browser = world.browser()
        await browser.authorize()
        await browser.sign_in("ann")
        code = answered(await browser.send(action="allow"))["code"]
        await browser.get("/account/apps")
        await browser.send(0, client="app")
        answer = await redeem(world, code)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")

    tell(story)


@pytest.mark.requirement("V2")
def test_nobody_disconnects_what_another_allowed(tell):
    async def story(world):
        await world.account("ann", "Patient/ann")
        await world.account("bob", "Patient/bob")
        await world.client()
        ann, bob = world.browser(), world.browser()
        token = await _connect(world, ann)
        await bob.sign_in("bob")
        await bob.get("/account/apps")
        assert "No app is connected" in bob.text
        await bob.get("/account/password")
        await bob.post("/account/apps", {"csrf": bob.form()["csrf"], "client": "app"})
        await world.app.state.tokens.grant(token["access_token"])
        assert world.happened("revoke") == []

    tell(story)


def test_what_an_app_may_is_said_in_words(tell):
    async def story(world):
        await world.account("ann", "Patient/ann")
        await world.client()
        browser = world.browser()
        scope = f"patient/Condition.cruds patient/Observation.rs?category={LAB} offline_access"
        await _connect(world, browser, scope=scope)
        await browser.get("/account/apps")
        text = browser.text
        assert '<h2 id="app-1">Chart &lt;i&gt;App&lt;/i&gt;</h2>' in text
        see, _, change = text.partition("May see")[2].partition("May add, change or delete")
        assert "Health problems and diagnoses" in see
        assert "Laboratory results" in see
        assert "Health problems and diagnoses" in change
        assert "Laboratory results" not in change
        assert "Ann Able" in text
        assert "Yes, it goes on when you are signed out" in text
        assert "patient/" not in text
        assert APP not in text

    tell(story)
