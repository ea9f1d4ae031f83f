"""Requests that want a fresh sign-in or none, and launches by an EHR."""

from __future__ import annotations

import pytest

from smart_auth import launches
from smart_auth.model import LaunchContext
from tests.salus.console.world import PASSWORD, allowed, answered, at_consent, redeem, request

# --- prompt and max_age --------------------------------------------------------------------------


@pytest.mark.requirement("30")
def test_without_prompting_nobody_is_asked_and_nothing_is_granted(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = world.browser()
        asleep = answered(await browser.authorize(prompt="none"))
        assert asleep["error"] == "login_required"
        await browser.sign_in()
        awake = answered(await browser.authorize(prompt="none"))
        assert awake["error"] == "consent_required"

    tell(story)


@pytest.mark.parametrize("changed", [{"prompt": "login"}, {"max_age": "0"}, {"max_age": "60"}])
@pytest.mark.requirement("M7", "32")
def test_an_older_sign_in_does_not_do_when_a_fresh_one_is_asked_for(tell, changed):
    async def story(world):
        await world.account()
        await world.client()
        browser = world.browser()
        await browser.sign_in()
        world.clock.goes(61)
        await browser.authorize(**changed)
        assert "<h1>Sign in</h1>" in browser.text
        handle = browser.form()["request"]
        page = await browser.get("/consent", params={"request": handle})
        assert "<h1>Sign in</h1>" in page.text
        world.clock.goes(1)
        await browser.send(name="dr.may", password=PASSWORD)
        assert "Whose record is" in browser.text

    tell(story)


@pytest.mark.requirement("M7")
def test_a_sign_in_that_is_young_enough_does(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = world.browser()
        await browser.sign_in()
        world.clock.goes(59)
        await browser.authorize(max_age="60")
        assert "Whose record is" in browser.text

    tell(story)


# --- launches by an EHR --------------------------------------------------------------------------


async def _launched(world, client, account):
    context = LaunchContext(patient="bob", encounter="e7")
    return await launches.launch(world.authority, client, account, context)


SCOPE = "launch openid fhirUser patient/Patient.rs"


@pytest.mark.requirement("A6")
def test_the_ehr_opens_the_app_with_the_exact_address_of_the_server(tell):
    async def story(world):
        may = await world.account()
        client = (await world.client(launch_uri="https://app.example.com/launch?a=1")).client
        handle = await _launched(world, client, may)
        url = launches.address(world.authority, client, handle)
        assert url == (
            f"https://app.example.com/launch?a=1&iss=http%3A%2F%2Fsalus.test%2Ffhir&launch={handle}"
        )

    tell(story)


@pytest.mark.requirement("A6", "T5")
def test_a_launch_brings_its_context_without_asking(tell):
    async def story(world):
        may = await world.account()
        client = (await world.client()).client
        handle = await _launched(world, client, may)
        browser = await at_consent(world, scope=SCOPE, launch=handle)
        assert "the health record of Bob" in browser.text
        answer = (await redeem(world, (await allowed(browser))["code"])).json()
        assert answer["scope"] == SCOPE
        context = {k: answer.get(k) for k in ("patient", "encounter", "need_patient_banner")}
        assert context == {"patient": "bob", "encounter": "e7", "need_patient_banner": True}

    tell(story)


@pytest.mark.requirement("A5", "29")
def test_a_launch_is_good_once_in_time_and_for_its_app(tell):
    async def story(world):
        may = await world.account()
        client = (await world.client()).client
        await world.client("other")
        http = world.browser().http

        async def asked(handle, app="app"):
            sent = request(app, scope=SCOPE, launch=handle)
            answer = await http.get("/oauth/authorize", params=sent)
            where = answer.headers["location"]
            return "goes on" if where.startswith("/consent?") else answered(answer)["error"]

        handle = await _launched(world, client, may)
        assert await asked(handle, "other") == "invalid_request"
        assert await asked(handle) == "goes on"
        assert await asked(handle) == "invalid_request"
        handle = await _launched(world, client, may)
        world.clock.now += world.authority.policy.launch
        assert await asked(handle) == "invalid_request"

    tell(story)


@pytest.mark.requirement("A5", "29")
def test_a_launch_goes_on_only_as_the_account_that_launched(tell):
    async def story(world):
        may = await world.account()
        await world.account("dr.june", "Practitioner/june")
        client = (await world.client()).client
        browser = world.browser()
        await browser.sign_in("dr.june")
        await browser.authorize(scope=SCOPE, launch=await _launched(world, client, may))
        assert browser.page.status_code == 403
        assert "Another account is needed" in browser.text
        forced = browser.form(0) | {"action": "allow", "see.Patient": "on", "patient": "ann"}
        page = await browser.post(forced.pop(""), forced)
        assert "Another account is needed" in page.text
        await browser.send(0, action="switch")
        assert "<h1>Sign in</h1>" in browser.text
        await browser.send(name="dr.may", password=PASSWORD)
        assert "the health record of Bob" in browser.text

    tell(story)


@pytest.mark.requirement("29", "S7")
def test_nobody_launches_on_a_patient_whom_they_may_not_see(tell):
    async def story(world):
        from smart_auth.errors import OAuthError

        ann = await world.account("ann", "Patient/ann")
        client = (await world.client()).client
        with pytest.raises(OAuthError, match="access_denied"):
            await _launched(world, client, ann)

    tell(story)


def test_the_launch_scope_without_a_launch_is_left_out(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = await at_consent(world, scope="launch openid user/Patient.rs")
        told = await allowed(browser)
        answer = (await redeem(world, told["code"])).json()
        assert answer["scope"] == "openid user/Patient.rs"
        assert "patient" not in answer

    tell(story)
