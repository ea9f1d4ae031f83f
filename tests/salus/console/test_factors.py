"""A second factor, how often one may guess, and one-time links for a password."""

from __future__ import annotations

import asyncio

import pyotp
import pytest

from smart_auth import accounts, invitations, sign_in, throttle
from smart_auth.model import ACCOUNTS, HOUR, SECOND, SESSIONS
from smart_auth.records import digest
from smart_auth.throttle import Visitor
from tests.salus.console.world import PASSWORD, is_in

ELSEWHERE = "203.0.113.9"


async def _second_factor(world, browser, password=PASSWORD):
    """Switch it on; the codes and the recovery codes."""
    await browser.get("/account/second-factor")
    assert "<svg" in browser.text and "<style" not in browser.text  # a picture for a camera
    codes = pyotp.TOTP(_key(browser))
    now = codes.at(world.clock() // SECOND)
    await browser.send(code=now, current=password, action="on")
    assert "keep these codes" in browser.text, browser.text
    recovery = [line[4:18] for line in browser.text.splitlines() if line.startswith("<li>")]
    world.clock.goes(30)
    return codes, recovery


def _key(browser):
    return browser.text.partition('id="key">')[2].partition("<")[0].replace(" ", "")


def _code(world, codes):
    return codes.at(world.clock() // SECOND)


# --- second factor -------------------------------------------------------------------------------


@pytest.mark.requirement("49")
def test_with_a_second_factor_the_password_opens_nothing_but_the_next_page(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = world.browser()
        await browser.sign_in()
        codes, _ = await _second_factor(world, browser)
        other = world.browser()
        await other.sign_in()
        assert "one-time code" in other.text
        half = other.http.cookies["salus"]
        for path in ("/account", "/account/apps", "/account/second-factor"):
            page = await other.get(path)
            assert "one-time code" in page.text
        await other.authorize()
        assert "one-time code" in other.text
        await other.send(code=_code(world, codes))
        assert "Whose record is" in other.text
        assert other.http.cookies["salus"] != half
        assert await is_in(other)
        assert world.happened("sign-in")[-1].detail == "pwd otp"

    tell(story)


@pytest.mark.requirement("49")
def test_a_code_counts_once(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.sign_in()
        codes, _ = await _second_factor(world, browser)
        now = _code(world, codes)
        found = []
        for _ in range(2):
            other = world.browser()
            await other.sign_in()
            found.append((await other.send(code=now)).status_code)
        assert found == [200, 401]
        world.clock.goes(30)
        await other.send(code=_code(world, codes))
        assert await is_in(other)

    tell(story)


def test_a_code_of_another_step_than_the_neighbours_is_wrong(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.sign_in()
        codes, _ = await _second_factor(world, browser)
        world.clock.goes(120)
        now = world.clock() // SECOND
        other = world.browser()
        await other.sign_in()
        found = [(await other.send(code=codes.at(now + 30 * n))).status_code for n in (-2, 2, 1)]
        assert found == [401, 401, 200]

    tell(story)


@pytest.mark.requirement("49")
def test_a_recovery_code_replaces_the_telephone_once(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.sign_in()
        _, recovery = await _second_factor(world, browser)
        assert len(set(recovery)) == 10
        found = []
        for typed in (recovery[0].lower(), recovery[0], recovery[1].replace("-", " ")):
            other = world.browser()
            await other.sign_in()
            found.append((await other.send(code=typed)).status_code)
        assert found == [200, 401, 200]
        account = await world.read("dr.may")
        assert len(account.recovery) == 8

    tell(story)


def test_the_store_tells_neither_password_nor_seed_nor_cookie(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.sign_in()
        codes, recovery = await _second_factor(world, browser)
        kept = await world.authority.keeper.transaction(
            lambda tx: tx.range(ACCOUNTS.name, "", "\U0010ffff")
        )
        kept += await world.authority.keeper.transaction(
            lambda tx: tx.range(SESSIONS.name, "", "\U0010ffff")
        )
        everything = b"".join(each.key.encode() + each.value for each in kept)
        cookie = browser.http.cookies["salus"]
        for secret in (PASSWORD, codes.secret, recovery[0], cookie):
            assert secret.encode() not in everything
        assert digest(cookie).encode() in everything

    tell(story)


def test_the_second_factor_is_switched_on_by_the_password_and_off_by_a_code(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.sign_in()
        await browser.get("/account/second-factor")
        page = await browser.send(code="000000", current=PASSWORD, action="on")
        assert (page.status_code, "not the code of now" in page.text) == (400, True)
        page = await browser.send(code="000000", current="wrong", action="on")
        assert (page.status_code, "password is not right" in page.text) == (400, True)
        codes, _ = await _second_factor(world, browser)
        await browser.get("/account/second-factor")
        page = await browser.send(code="000000", action="off")
        assert page.status_code == 400
        page = await browser.send(code=_code(world, codes), action="off")
        assert "password only" in page.text
        other = world.browser()
        await other.sign_in()
        assert await is_in(other)

    tell(story)


async def _offered(world, browser):
    """A form that switches a second factor on, filled rightly."""
    await browser.get("/account/second-factor")
    codes = pyotp.TOTP(_key(browser))
    return {**browser.form(), "code": _code(world, codes), "current": PASSWORD, "action": "on"}


async def _fill(browser, form):
    return await browser.post(form[""], {name: form[name] for name in form if name})


def test_a_second_factor_is_not_replaced_without_a_code_of_it(tell):
    """By a page that was loaded before, at a signed-in browser, by who knows the password."""

    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.sign_in()
        another = await _offered(world, browser)
        codes, _ = await _second_factor(world, browser)
        kept = (await world.read("dr.may")).totp
        page = await _fill(browser, another)
        assert (page.status_code, "Switch the present one off first" in page.text) == (400, True)
        assert (await world.read("dr.may")).totp == kept is not None
        page = await browser.send(code=_code(world, codes), action="off")
        assert "password only" in page.text
        page = await _fill(browser, await _offered(world, browser))
        assert "keep these codes" in page.text
        assert (await world.read("dr.may")).totp != kept

    tell(story)


def test_of_two_second_factors_at_once_one_is_kept(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.sign_in()
        offered = [await _offered(world, browser) for _ in range(2)]
        found = await asyncio.gather(*(_fill(browser, each) for each in offered))
        assert sorted("keep these codes" in page.text for page in found) == [False, True]
        assert len(world.happened("account")) == 2  # the password, and one second factor

    tell(story)


def test_a_key_that_was_offered_is_good_for_ten_minutes_whatever_is_sent_meanwhile(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.sign_in()
        await browser.get("/account/second-factor")
        key = _key(browser)
        world.clock.goes(5 * 60)
        page = await browser.send(code="000000", current=PASSWORD, action="on")
        assert (page.status_code, _key(browser)) == (400, key)
        world.clock.goes(5 * 60)
        form = browser.form()
        page = await browser.send(code=_code(world, pyotp.TOTP(key)), current=PASSWORD, action="on")
        assert (page.status_code, "Load the page again" in page.text) == (400, True)
        assert (await world.read("dr.may")).totp is None
        world.clock.goes(-1)
        form |= {"code": _code(world, pyotp.TOTP(key)), "current": PASSWORD, "action": "on"}
        assert "keep these codes" in (await _fill(browser, form)).text

    tell(story)


# --- guessing ------------------------------------------------------------------------------------


async def _guess(world, name="dr.may", address=ELSEWHERE, password="wrong guess of mine"):
    return (await world.browser(address).sign_in(name, password)).status_code


@pytest.mark.requirement("40", "M10")
def test_who_guesses_is_made_to_wait_and_then_heard_again(tell):
    async def story(world):
        await world.account()
        assert [await _guess(world) for _ in range(6)] == [401] * 5 + [429]
        assert await _guess(world, password=PASSWORD) == 429
        browser = world.browser(ELSEWHERE)
        page = await browser.sign_in("dr.may", PASSWORD)
        assert page.headers["retry-after"] == "900"
        assert "Try again in 15 minutes" in page.text
        [told] = world.happened("lockout")
        assert (told.success, told.address, told.detail) == (False, ELSEWHERE, "pwd")
        assert (told.account, told.who) == ("dr.may", "Practitioner/may")
        world.clock.goes(15 * 60)
        assert await _guess(world, password=PASSWORD) == 200

    tell(story)


@pytest.mark.requirement("40")
def test_a_stranger_who_guesses_does_not_lock_out_the_owner(tell):
    """From many addresses the account is closed to unknown browsers, but not to known ones."""

    async def story(world):
        await world.account()
        owner = world.browser("198.51.100.7")
        await owner.sign_in()
        await owner.get("/sign-out")
        await owner.send()
        found = [
            await _guess(world, address=f"203.0.113.{n}") for n in range(1, 6) for _ in range(5)
        ]
        assert found == [401] * 20 + [429] * 5
        assert await _guess(world, address="192.0.2.200", password=PASSWORD) == 429
        await owner.sign_in()
        assert await is_in(owner)

    tell(story)


def test_a_known_browser_may_not_guess_for_ever_either(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.sign_in()
        await browser.get("/sign-out")
        await browser.send()
        wrong = "wrong guess of mine"
        found = [(await browser.sign_in("dr.may", wrong)).status_code for _ in range(11)]
        assert found == [401] * 10 + [429]
        assert await _guess(world, password=PASSWORD) == 200

    tell(story)


@pytest.mark.requirement("40")
def test_names_that_are_not_there_are_counted_alike_and_addresses_over_all_names(tell):
    async def story(world):
        found = [await _guess(world, name="nobody") for _ in range(6)]
        assert found == [401] * 5 + [429]
        assert [told.account for told in world.happened("lockout")] == [None]
        await world.account()
        visitor = Visitor(ELSEWHERE)
        for n in range(45):
            await throttle.attempt(world.authority, "pwd", f"name{n}", visitor)
        assert await _guess(world, name="dr.may", password=PASSWORD) == 429
        assert await _guess(world, name="dr.may", address="192.0.2.5", password=PASSWORD) == 200

    tell(story)


def test_one_network_of_version_6_counts_as_one_address(tell):
    async def story(world):
        await world.account()
        found = [await _guess(world, address=f"2001:db8:1:2::{n}") for n in range(1, 7)]
        assert found == [401] * 5 + [429]
        assert await _guess(world, address="2001:db8:1:3::1", password=PASSWORD) == 200

    tell(story)


def test_codes_are_guessed_as_seldom_as_passwords(tell):
    async def story(world):
        await world.account()
        browser = world.browser()
        await browser.sign_in()
        codes, _ = await _second_factor(world, browser)
        thief = world.browser(ELSEWHERE)
        await thief.sign_in()
        found = [(await thief.send(code="000000")).status_code for _ in range(6)]
        assert found == [401] * 5 + [429]
        other = world.browser()
        other.http.cookies.set("salus-device", browser.http.cookies["salus-device"])
        await other.sign_in()
        await other.send(code=_code(world, codes))
        assert await is_in(other)

    tell(story)


def test_attempts_at_once_are_counted_before_they_are_judged(tell):
    async def story(world):
        async def attempt():
            try:
                await sign_in.begin(world.authority, "nobody", "guess", Visitor(ELSEWHERE))
            except (sign_in.Wrong, throttle.Wait) as refusal:
                return type(refusal).__name__

        found = await asyncio.gather(*(attempt() for _ in range(12)))
        assert sorted(found) == ["Wait"] * 7 + ["Wrong"] * 5

    tell(story)


# --- one-time links ------------------------------------------------------------------------------


async def _invite(world, name="dr.may", purpose="welcome"):
    account = await world.read(name)
    return await world.authority.keeper.transaction(
        lambda tx: invitations.invite(world.authority, tx, account, purpose), write=True
    )


def test_a_link_chooses_a_password_once_and_signs_in(tell):
    async def story(world):
        await world.authority.keeper.transaction(
            lambda tx: accounts.create(world.authority, tx, "dr.may", who="Practitioner/may"),
            write=True,
        )
        link = await _invite(world)
        browser = world.browser()
        for _ in range(2):  # looking at it does not use it up
            page = await browser.get("/welcome", params={"link": link})
            assert page.status_code == 200
        form = browser.form()
        page = await browser.send(password=PASSWORD, again=PASSWORD + "!")
        assert (page.status_code, "two passwords differ" in page.text) == (400, True)
        page = await browser.send(password="short", again="short")
        assert page.status_code == 400
        page = await browser.send(password=PASSWORD, again=PASSWORD)
        assert "Switch on a second factor" in page.text
        assert await is_in(browser)
        other = world.browser()
        page = await other.get("/welcome", params={"link": link})
        assert page.status_code == 410
        page = await browser.post(form.pop(""), form | {"password": PASSWORD, "again": PASSWORD})
        assert page.status_code in (403, 410)
        await other.sign_in()
        assert await is_in(other)

    tell(story)


def test_a_link_ends_with_its_time_and_with_the_next_one(tell):
    async def story(world):
        await world.account()
        browser = world.browser()

        async def status(link):
            return (await browser.get("/welcome", params={"link": link})).status_code

        first = await _invite(world)
        second = await _invite(world, purpose="password")
        assert [await status(first), await status(second), await status("x")] == [410, 200, 410]
        world.clock.now += 24 * HOUR
        assert await status(second) == 410
        third = await _invite(world)
        await accounts.disable(world.authority, "dr.may")
        assert await status(third) == 410

    tell(story)


@pytest.mark.parametrize(("purpose", "asked"), [("password", True), ("factors", False)])
@pytest.mark.requirement("49")
def test_a_link_for_a_password_does_not_go_round_the_second_factor(tell, purpose, asked):
    async def story(world):
        await world.account()
        before = world.browser()
        await before.sign_in()
        await _second_factor(world, before)
        link = await _invite(world, purpose=purpose)
        browser = world.browser()
        await browser.get("/welcome", params={"link": link})
        await browser.send(password="another sentence", again="another sentence")
        assert not await is_in(before)
        await browser.get("/sign-in")
        if asked:
            await browser.sign_in("dr.may", "another sentence")
        assert ("one-time code" in browser.text) == asked
        assert await is_in(browser) != asked

    tell(story)
