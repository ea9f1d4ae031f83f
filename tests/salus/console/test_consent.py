"""From an app's request to its code: signing in, choosing the patient, consenting, once."""

from __future__ import annotations

import pytest

from smart_auth import clients
from smart_auth.model import MINUTE
from smart_auth.registrable import Registrable
from tests.salus.console.world import (
    APP,
    FHIR,
    Form,
    allowed,
    answered,
    at_consent,
    redeem,
    request,
)


@pytest.mark.requirement("A3", "A7")
def test_a_standalone_launch_ends_in_a_code_and_the_exact_state(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = await at_consent(world, state="s t/ä+1&=")
        assert "the health record of Ann Able" in browser.text
        told = await allowed(browser)
        code = told.pop("code")
        assert told == {"state": "s t/ä+1&=", "iss": FHIR}
        answer = (await redeem(world, code)).json()
        assert answer["patient"] == "ann"
        assert answer["scope"] == (
            "launch/patient openid fhirUser offline_access patient/Patient.rs "
            "patient/Observation.rs"
        )
        [consent] = world.happened("consent")
        assert (consent.client, consent.account, consent.patient) == ("app", "dr.may", "ann")

    tell(story)


@pytest.mark.requirement("A1", "56")
def test_a_form_that_another_site_posts_works_and_grants_nothing_by_itself(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = world.browser()
        await browser.sign_in()
        page = await browser.post(
            "/oauth/authorize", request(), headers={"origin": "https://kit.example.org"}
        )
        assert page.status_code == 200
        assert "Whose record is" in page.text
        stranger = world.browser()
        page = await stranger.post("/oauth/authorize", request())
        assert "<h1>Sign in</h1>" in page.text

    tell(story)


@pytest.mark.requirement("A7")
def test_a_user_who_sees_one_patient_is_not_asked_which(tell):
    async def story(world):
        await world.account("ann", "Patient/ann")
        await world.client()
        browser = await at_consent(world, "ann")
        assert "your health record" in browser.text
        answer = (await redeem(world, (await allowed(browser))["code"])).json()
        assert answer["patient"] == "ann"

    tell(story)


@pytest.mark.requirement("A7")
def test_a_relative_chooses_among_those_they_stand_for_and_no_other(tell):
    async def story(world):
        await world.account("rel", "RelatedPerson/rel")
        await world.client()
        browser = world.browser()
        await browser.authorize()
        await browser.sign_in("rel")
        offered = [value for name, value in Form(browser.text).buttons if name == "patient"]
        assert offered == ["ann", "bob"]
        form = browser.form(1)
        page = await browser.send(1, patient="cal")
        assert page.status_code == 403
        assert "no such patient" in page.text
        page = await browser.post(
            "/consent", {k: v for k, v in form.items() if k} | {"patient": "bob"}
        )
        assert "the health record of Bob" in page.text

    tell(story)


@pytest.mark.requirement("A7")
def test_a_patient_scope_asks_for_a_patient_though_the_app_did_not(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = world.browser()
        await browser.authorize(scope="patient/Patient.rs")
        await browser.sign_in()
        assert "Whose record is" in browser.text

    tell(story)


def test_patients_are_searched_by_name_which_stands_in_no_address(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = world.browser()
        await browser.authorize()
        await browser.sign_in()
        page = await browser.send(0, name="bob", action="search")
        assert [value for name, value in Form(page.text).buttons if name == "patient"] == ["bob"]
        assert "bob" not in str(page.url).lower()
        assert "Bob &lt;b&gt;Bold" in page.text
        page = await browser.send(0, name="zed", action="search")
        assert "Nobody of that name" in page.text

    tell(story)


@pytest.mark.requirement("A8", "R7")
def test_unticked_types_are_not_granted_and_the_others_as_they_were_asked(tell):
    async def story(world):
        await world.account()
        await world.client()
        scope = "launch/patient patient/Patient.read patient/Device.read patient/Observation.read"
        browser = await at_consent(world, scope=scope)
        told = await allowed(browser, without=("see.Device",))
        answer = (await redeem(world, told["code"])).json()
        assert answer["scope"] == "launch/patient patient/Patient.read patient/Observation.read"

    tell(story)


@pytest.mark.requirement("A8", "G4", "G5")
def test_kinds_of_conditions_and_observations_can_be_chosen(tell):
    async def story(world):
        await world.account()
        await world.client()
        scope = "patient/Patient.rs patient/Condition.rs patient/Observation.rs"
        browser = await at_consent(world, scope=scope)
        for kind in (
            "Condition.encounter-diagnosis",
            "Condition.problem-list-item",
            "Condition.health-concern",
            "Observation.clinical-test",
            "Observation.laboratory",
            "Observation.social-history",
            "Observation.sdoh",
            "Observation.survey",
            "Observation.vital-signs",
        ):
            assert f'name="see.{kind}"' in browser.text
        told = await allowed(
            browser,
            **{
                "see__Condition__problem-list-item": "on",
                "see__Observation__laboratory": "on",
                "see__Observation__survey": "on",
            },
        )
        answer = (await redeem(world, told["code"])).json()
        system = "http://terminology.hl7.org/CodeSystem/"
        assert answer["scope"].split() == [
            "patient/Patient.rs",
            f"patient/Condition.rs?category={system}condition-category|problem-list-item",
            f"patient/Observation.rs?category={system}observation-category|laboratory",
            f"patient/Observation.rs?category={system}observation-category|survey",
        ]

    tell(story)


@pytest.mark.requirement("A9")
def test_going_on_without_the_user_is_explained_and_can_be_refused(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = await at_consent(world)
        assert "Go on when you are not there" in browser.text
        told = await allowed(browser, without=("offline", "identity"))
        answer = (await redeem(world, told["code"])).json()
        assert answer["scope"] == "launch/patient patient/Patient.rs patient/Observation.rs"
        assert "refresh_token" not in answer
        assert "id_token" not in answer

    tell(story)


def test_cancel_and_a_page_with_nothing_ticked_tell_the_app_that_access_is_denied(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = await at_consent(world)
        denied = answered(await browser.send(action="cancel"))
        assert (denied["error"], denied["iss"]) == ("access_denied", FHIR)
        browser = await at_consent(world)
        nothing = ("see.Patient", "see.Observation", "identity", "offline")
        denied = await allowed(browser, without=nothing)
        assert denied["error"] == "access_denied"

    tell(story)


@pytest.mark.requirement("30", "P4")
def test_what_was_not_asked_cannot_be_ticked(tell):
    async def story(world):
        await world.account()
        await world.client(scopes=("patient/Patient.rs", "launch/patient"))
        browser = await at_consent(world, scope="launch/patient patient/*.rs openid")
        ticks = [name for name in browser.form() if name.startswith(("see.", "change."))]
        assert ticks == ["see.Patient"]
        told = await allowed(
            browser, see__Observation="on", change__Patient="on", identity="on", scope="system/*.*"
        )
        answer = (await redeem(world, told["code"])).json()
        assert answer["scope"] == "launch/patient patient/Patient.rs"

    tell(story)


@pytest.mark.requirement("30")
def test_the_patient_shown_is_the_patient_granted(tell):
    async def story(world):
        """Another tab chose another patient meanwhile: the page is shown again."""
        await world.account()
        await world.client()
        browser = await at_consent(world)
        form = browser.form()
        other = {k: form[k] for k in ("csrf", "request")} | {"patient": "bob"}
        await browser.post("/consent", other)
        page = await browser.post(
            "/consent", {k: v for k, v in form.items() if k} | {"action": "allow"}
        )
        assert page.status_code == 200
        assert "the health record of Bob" in page.text
        told = await allowed(browser)
        assert (await redeem(world, told["code"])).json()["patient"] == "bob"

    tell(story)


@pytest.mark.requirement("30")
def test_a_page_that_is_sent_twice_answers_once(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = await at_consent(world)
        form = browser.form() | {"action": "allow"}
        url = form.pop("")
        assert "code" in answered(await browser.post(url, form))
        again = await browser.post(url, form)
        assert again.status_code == 410
        assert "answered already" in again.text

    tell(story)


def test_a_request_expires_and_stays_in_the_browser_where_it_was_begun(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = await at_consent(world)
        handle = browser.form()["request"]
        other = world.browser()
        page = await other.get("/consent", params={"request": handle})
        assert page.status_code == 410
        world.clock.now += world.authority.policy.pending
        page = await browser.get("/consent", params={"request": handle})
        assert page.status_code == 410

    tell(story)


@pytest.mark.requirement("30")
def test_a_form_without_its_secret_does_nothing(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = await at_consent(world)
        for csrf in ("", "x" * 43, None):
            form = browser.form() | {"action": "allow", "csrf": csrf}
            url = form.pop("")
            answer = await browser.http.post(url, data={k: v for k, v in form.items() if v})
            assert answer.status_code == 403
        assert world.happened("consent") == []

    tell(story)


@pytest.mark.requirement("30")
def test_pages_cannot_be_framed_kept_or_run_scripts(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = await at_consent(world)
        headers = browser.page.headers
        policy = dict(
            each.strip().partition(" ")[::2]
            for each in headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["form-action"] == "'self' https:"
        assert "script-src" not in policy
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert "<script" not in browser.text
        assert '<html lang="en">' in browser.text
        assert "Chart &lt;i&gt;App" in browser.text
        assert "sends you back to <strong>app.example.com</strong>" in browser.text

    tell(story)


@pytest.mark.requirement("X4")
def test_an_encounter_is_chosen_among_those_of_the_patient(tell):
    async def story(world):
        await world.account()
        await world.client()
        scope = "launch/patient launch/encounter patient/Encounter.rs"
        browser = await at_consent(world, scope=scope)
        page = await browser.send(action="allow", encounter="e9")
        assert page.status_code == 403
        browser = await at_consent(world, scope=scope)
        told = await allowed(browser, encounter="e1")
        assert (await redeem(world, told["code"])).json()["encounter"] == "e1"

    tell(story)


def test_an_account_of_nobody_has_no_health_data_to_share(tell):
    async def story(world):
        await world.account("root", None, administrator=True)
        await world.client()
        browser = world.browser()
        await browser.authorize()
        page = await browser.sign_in("root")
        assert "Your account belongs to nobody in the records" in page.text
        left_out = page.text.partition("does without:")[2].partition("</ul>")[0]
        assert "Observ" not in left_out  # in words, not by its type
        assert "to see: Name, date of birth, address and contact details; Test results" in left_out
        assert "to know your own entry" in left_out
        told = answered(await browser.send(action="allow"))
        answer = (await redeem(world, told["code"])).json()
        assert answer["scope"] == "openid offline_access"

    tell(story)


def test_an_account_of_nobody_can_only_cancel_what_is_all_about_health_data(tell):
    async def story(world):
        await world.account("root", None, administrator=True)
        await world.account()
        await world.client()
        pages = {}
        for name in ("root", "dr.may"):
            browser = world.browser()
            await browser.authorize(scope="user/Patient.rs")
            pages[name] = (await browser.sign_in(name)).text
        assert ("action", "allow") in Form(pages["dr.may"]).buttons
        assert "belongs to nobody" not in pages["dr.may"]
        assert ("action", "allow") not in Form(pages["root"]).buttons
        assert "belongs to nobody" in pages["root"]
        assert ("action", "cancel") in Form(pages["root"]).buttons

    tell(story)


def test_a_session_that_ends_while_the_page_is_open_grants_nothing(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = await at_consent(world)
        form = browser.form() | {"action": "allow"}
        url = form.pop("")
        world.clock.now += world.authority.policy.pending - MINUTE
        from smart_auth import accounts

        await accounts.disable(world.authority, "dr.may")
        page = await browser.post(url, form)
        assert page.status_code == 403
        assert APP not in page.headers.get("location", "")
        assert world.happened("consent") == []

    tell(story)


def test_another_patient_can_be_chosen_before_anything_is_allowed(tell):
    async def story(world):
        await world.account()
        await world.client()
        browser = await at_consent(world)
        await browser.send(action="another")
        assert "Whose record is" in browser.text
        await browser.send(0, name="cal", action="search")
        await browser.send(1, patient="cal")
        assert "the health record of Cal Calm" in browser.text
        told = await allowed(browser)
        assert (await redeem(world, told["code"])).json()["patient"] == "cal"

    tell(story)


def test_an_app_that_registered_itself_is_shown_as_that(tell):
    async def story(world):
        await world.account()
        for id, by in (("checked", "operator"), ("own", "registration")):
            wanted = Registrable(name="Chart", redirect_uris=(APP,))
            await clients.register(world.authority, wanted, id=id, by=by)
        found = {id: (await at_consent(world, client=id)).text for id in ("checked", "own")}
        assert "This app registered itself" not in found["checked"]
        assert "This app registered itself" in found["own"]

    tell(story)
