"""Signing in: factors, how often one may guess, and for how long it lasts."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from smart_auth import accounts, invitations, passwords
from smart_auth.model import ACCOUNTS, HOUR, MINUTE, SECOND
from tests.salus.console.world import PASSWORD, answered, is_in, redeem

# --- password ------------------------------------------------------------------------------------


def test_a_name_is_typed_in_any_case_and_the_password_exactly(tell):
    async def story(world):
        await world.account("dr.may")
        browser = world.browser()
        assert (await browser.sign_in(" DR.May ", PASSWORD.upper())).status_code == 401
        await browser.send(name=" DR.May ", password=PASSWORD)
        assert await is_in(browser)
        [told] = world.happened("sign-in")
        assert (told.account, told.who, told.detail) == ("dr.may", "Practitioner/may", "pwd")

    tell(story)


@pytest.mark.requirement("40")
def test_an_unknown_name_is_answered_like_a_wrong_password(tell):
    async def story(world):
        await world.account("dr.may")
        await world.account("disabled")
        await accounts.disable(world.authority, "disabled")
        invited = "invited"
        await world.authority.keeper.transaction(
            lambda tx: accounts.create(world.authority, tx, invited), write=True
        )
        texts = set()
        for name in ("dr.may", "nobody", invited, "disabled"):
            password = PASSWORD if name == "disabled" else "wrong password of mine"
            browser = world.browser()
            page = await browser.sign_in(name, password)
            assert page.status_code == 401
            hidden = browser.form()["csrf"]
            texts.add(page.text.replace(name, "NAME").replace(hidden, ""))
        assert len(texts) == 1
        told = [(each.account, each.detail) for each in world.happened("sign-in-refused")]
        assert told == [("dr.may", "pwd"), (None, "pwd"), (invited, "pwd"), ("disabled", "pwd")]

    tell(story)


def test_an_unknown_name_costs_a_password_hash_too(tell, monkeypatch):
    async def story(world):
        seen = []
        verify = passwords._verify
        monkeypatch.setattr(passwords, "_verify", lambda *a: seen.append(a[0]) or verify(*a))
        await world.browser().sign_in("nobody", PASSWORD)
        assert seen == [None]

    tell(story)


def test_a_password_that_was_hashed_otherwise_is_hashed_anew(tell, monkeypatch):
    async def story(world):
        await world.account()
        before = (await world.read("dr.may")).password
        monkeypatch.setattr(
            passwords, "_HASHER", passwords.PasswordHasher(3, 8 * 1024, 1, type=passwords.Type.ID)
        )
        await world.browser().sign_in()
        after = (await world.read("dr.may")).password
        assert before != after
        assert after.startswith("$argon2id$v=19$m=8192,t=3,p=1$")
        assert await passwords.verified(after, PASSWORD)

    tell(story)


# --- cookies and forms ---------------------------------------------------------------------------


@pytest.mark.requirement("30")
def test_the_cookie_changes_at_sign_in_and_the_one_before_is_worth_nothing(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        browser.http.cookies.set("salus", "planted", domain="salus.test", path="/")
        await browser.sign_in()
        first = browser.http.cookies["salus"]
        assert first != "planted"
        await browser.get("/sign-out")
        await browser.send()
        browser.http.cookies.set("salus", first, domain="salus.test", path="/")
        assert not await is_in(browser)

    tell(story)


@pytest.mark.parametrize("base", ["http://salus.test", "https://salus.test"])
def test_cookies_are_out_of_reach_of_scripts_and_other_sites(tell, base):
    async def story(world):
        await world.account()
        browser = world.browser()
        page = await browser.http.get("/sign-in")
        browser.page = page
        form = browser.form() | {"name": "dr.may", "password": PASSWORD}
        answer = await browser.http.post(form.pop(""), data=form)
        found = [*page.headers.get_list("set-cookie"), *answer.headers.get_list("set-cookie")]
        names = {each.partition("=")[0] for each in found}
        secure = base.startswith("https")
        prefix = "__Host-salus" if secure else "salus"
        assert names == {prefix, f"{prefix}-browser", f"{prefix}-device"}
        for cookie in found:
            attributes = {each.strip().lower() for each in cookie.split(";")[1:]}
            assert {"httponly", "samesite=lax", "path=/"} <= attributes
            assert ("secure" in attributes) == secure
            assert not any(each.startswith("domain") for each in attributes)
        assert ("strict-transport-security" in page.headers) == secure

    tell(story, base)


@pytest.mark.requirement("30")
def test_nobody_is_signed_in_by_another_site(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.get("/sign-in")
        answer = await browser.http.post(
            "/sign-in", data={"name": "dr.may", "password": PASSWORD, "csrf": "guessed"}
        )
        assert answer.status_code == 403
        stranger = world.browser()
        await stranger.get("/sign-in")
        answer = await browser.http.post(
            "/sign-in",
            data=stranger.form() | {"name": "dr.may", "password": PASSWORD},
        )
        assert answer.status_code == 403
        assert not await is_in(browser)

    tell(story)


@pytest.mark.parametrize("path", ["//evil.example.org", "https://evil.example.org", "/\\evil"])
def test_after_signing_in_one_stays_here(tell, path):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.get("/sign-in", params={"next": path})
        form = browser.form() | {"name": "dr.may", "password": PASSWORD, "next": path}
        answer = await browser.http.post(form.pop(""), data=form)
        assert answer.headers["location"] == "/account"

    tell(story)


def test_a_page_that_needs_signing_in_comes_after_it(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.get("/account/apps")
        assert "<h1>Sign in</h1>" in browser.text
        await browser.send(name="dr.may", password=PASSWORD)
        assert "<h1>Connected apps</h1>" in browser.text

    tell(story)


# --- how long it lasts ---------------------------------------------------------------------------


def test_a_session_ends_when_nobody_uses_it(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.sign_in()
        for _ in range(3):
            world.clock.now += world.authority.policy.session_idle - SECOND
            assert await is_in(browser)
        world.clock.now += world.authority.policy.session_idle
        assert not await is_in(browser)

    tell(story)


def test_a_session_ends_after_its_longest_time_however_much_it_is_used(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.sign_in()
        began = world.clock.now
        while world.clock.now + 20 * MINUTE < began + 12 * HOUR:
            world.clock.now += 20 * MINUTE
            assert await is_in(browser)
        world.clock.now = began + 12 * HOUR
        assert not await is_in(browser)

    tell(story)


def test_a_session_that_was_ended_opens_nothing_at_the_next_request(tell):
    async def story(world):
        await world.account()
        one, two, three = world.browser(), world.browser(), world.browser()
        for browser in (one, two, three):
            await browser.sign_in()
        await one.get("/sign-out")
        await one.send()
        assert [await is_in(each) for each in (one, two, three)] == [False, True, True]
        await two.get("/account/everywhere")
        await two.send()
        assert [await is_in(each) for each in (one, two, three)] == [False, False, False]

    tell(story)


@pytest.mark.requirement("36", "Z5")
def test_a_disabled_account_is_signed_out_and_its_apps_end_at_once(tell):
    async def story(world):
        await world.account("ann", "Patient/ann")
        await world.client()
        browser = world.browser()
        await browser.authorize()
        await browser.sign_in("ann")
        token = (await redeem(world, answered(await browser.send(action="allow"))["code"])).json()
        tokens = world.app.state.tokens
        assert (await tokens.grant(token["access_token"])).patient == "ann"
        await accounts.disable(world.authority, "ann")
        assert not await is_in(browser)
        with pytest.raises(Exception, match="invalid_token"):
            await tokens.grant(token["access_token"])
        await accounts.enable(world.authority, "ann")
        assert not await is_in(browser)
        with pytest.raises(Exception, match="invalid_token"):
            await tokens.grant(token["access_token"])

    tell(story)


def test_a_session_of_an_earlier_epoch_of_its_account_is_over(tell):
    async def story(world):
        account = await world.account()
        browser = world.browser()
        await browser.sign_in()
        later = replace(account, epoch=account.epoch + 1)
        await world.authority.keeper.transaction(
            lambda tx: ACCOUNTS.write(tx, account.name, later), write=True
        )
        assert not await is_in(browser)

    tell(story)


@pytest.mark.requirement("X2")
def test_what_was_granted_while_signed_in_ends_with_signing_out(tell):
    async def story(world):
        await world.account("ann", "Patient/ann")
        await world.client()
        browser = world.browser()
        await browser.authorize(scope="patient/Patient.rs online_access")
        await browser.sign_in("ann")
        token = (await redeem(world, answered(await browser.send(action="allow"))["code"])).json()
        tokens = world.app.state.tokens
        await tokens.grant(token["access_token"])
        await browser.get("/sign-out")
        await browser.send()
        with pytest.raises(Exception, match="invalid_token"):
            await tokens.grant(token["access_token"])

    tell(story)


def test_another_password_signs_out_the_other_browsers(tell):
    async def story(world):
        await world.account()
        here, there = world.browser(), world.browser()
        await here.sign_in()
        await there.sign_in()
        await here.get("/account/password")
        page = await here.send(
            current="wrong", password="another sentence", again="another sentence"
        )
        assert (page.status_code, "present password is not right" in page.text) == (400, True)
        page = await here.send(current=PASSWORD, password="another sentence", again="another one")
        assert page.status_code == 400
        page = await here.send(current=PASSWORD, password="short", again="short")
        assert page.status_code == 400
        page = await here.send(
            current=PASSWORD, password="another sentence", again="another sentence"
        )
        assert "Your password is changed" in page.text
        assert [await is_in(here), await is_in(there)] == [True, False]
        await there.sign_in("dr.may", "another sentence")
        assert await is_in(there)

    tell(story)


def test_signing_in_again_disconnects_no_app(tell):
    async def story(world):
        await world.account("ann", "Patient/ann")
        await world.account("bob", "Patient/bob")
        await world.client()
        browser = world.browser()
        await browser.authorize(scope="patient/Patient.rs online_access")
        await browser.sign_in("ann")
        token = (await redeem(world, answered(await browser.send(action="allow"))["code"])).json()
        tokens = world.app.state.tokens
        await browser.authorize(prompt="login")
        world.clock.goes(1)
        await browser.send(name="ann", password=PASSWORD)
        assert "your health record" in browser.text
        await tokens.grant(token["access_token"])
        await browser.authorize(prompt="login")
        world.clock.goes(1)
        await browser.send(name="bob", password=PASSWORD)
        with pytest.raises(Exception, match="invalid_token"):
            await tokens.grant(token["access_token"])

    tell(story)


# --- signing out ---------------------------------------------------------------------------------


def test_following_the_link_asks_and_only_the_form_signs_out_and_says_so(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.sign_in()
        page = await browser.get("/sign-out")
        assert "<h1>Sign out of this browser?</h1>" in page.text
        assert "signed out of this browser" not in page.text
        assert await is_in(browser)
        await browser.get("/sign-out")
        page = await browser.send()
        assert "You are signed out of this browser." in page.text
        assert "<h1>Sign in</h1>" in page.text
        assert not await is_in(browser)
        page = await browser.get("/sign-out")
        assert "You are signed out of this browser." in page.text

    tell(story)


def test_pages_say_what_was_done_in_words_of_their_own_only(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        page = await browser.get("/sign-in", params={"said": "Your password is 1234"})
        assert 'role="status"' not in page.text
        await browser.sign_in()
        await browser.get("/account/everywhere")
        page = await browser.send()
        assert "You are signed out everywhere, and no app is connected any more." in page.text

    tell(story)


@pytest.mark.parametrize("known", [False, True])
def test_a_link_for_a_password_names_the_account_to_programs_that_keep_passwords(tell, known):
    async def story(world):
        if known:
            await world.account("ann", "Patient/ann")

        async def work(tx):
            found = await ACCOUNTS.read(tx, "ann")
            made = found or await accounts.create(world.authority, tx, "ann", who="Patient/ann")
            return await invitations.invite(world.authority, tx, made)

        secret = await world.authority.keeper.transaction(work, write=True)
        browser = world.browser()
        page = await browser.get("/welcome", params={"link": secret})
        assert browser.form()["username"] == "ann"
        hidden = page.text.partition("<div hidden>")[2].partition("</div>")[0]
        assert '<label for="username">' in hidden
        assert 'autocomplete="username"' in hidden
        assert ("is signed out" in page.text) == known
        page = await browser.send(password=PASSWORD, again=PASSWORD)
        assert "Your password is saved, and you are signed in." in page.text

    tell(story)
