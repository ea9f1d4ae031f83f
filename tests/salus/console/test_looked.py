"""Who looked at my record: what patients are told in words, what they are not, and who may ask."""

from __future__ import annotations

import asyncio
import json
import re
from unittest.mock import ANY

import httpx
import pytest

from fhir_server.interaction import Result
from fhir_server.log.receipt import Policy, check, parse
from salus.operator import requests
from salus.operator.acts import perform
from smart_auth.authority import Happening
from tests.salus.console.record import EVIL, opened

LIST, HTML = "/account/access", {"accept": "text/html"}


@pytest.fixture
def tell(tmp_path):
    """Runs an async function with a clinic."""

    def run(story, **settings):
        async def told():
            async with opened(tmp_path, **settings) as clinic:
                return await story(clinic)

        return asyncio.run(told())

    return run


def entries(text: str) -> list[tuple[str, str]]:
    """What a page says was done, and the hint below, newest first."""
    found = re.findall(
        r'<a href="/account/access/\d+">(.*?)</a>.*?</p>\n<p class="hint">(.*?)</p>', text
    )
    return [(said, re.sub("<[^>]+>", "", hint)) for said, hint in found]


def sentences(text: str) -> list[str]:
    return [said for said, _ in entries(text)]


def link(text: str, sentence: str) -> str:
    """Where an entry leads."""
    return re.search(rf'<a href="(/account/access/\d+)">{re.escape(sentence)}</a>', text)[1]


DOCTOR = "Dr. May Mild &lt;img src=x onerror=alert(1)&gt;"
APP = "Chart &lt;i&gt;App&lt;/i&gt;"


def test_a_patient_reads_who_did_what_with_which_app_and_what_was_refused(tell):
    async def story(clinic):
        doctor = clinic.doctor()
        await clinic.act(doctor, "read", "Observation", "of-ann")
        await clinic.act(doctor, "search-type", "Observation", parameters=(("code", "718-7"),))
        await clinic.act(clinic.patient("bob"), "read", "Patient", "ann")
        changed = {"resourceType": "Patient", "id": "ann", "gender": "female"}
        await clinic.act(doctor, "update", "Patient", "ann", resource=changed)
        browser = await clinic.browser("ann")
        page = await browser.get(LIST)
        assert page.status_code == 200
        said = entries(page.text)
        assert [each for each, _ in said[:5]] == [
            "You signed in",
            f"{DOCTOR} changed your name and contact details",
            "Another patient tried to look at your name and contact details",
            said[3][0],
            f"{DOCTOR} looked at your lab results and measurements",
        ]
        assert said[3][0].startswith(f"{DOCTOR} searched your ")
        assert said[1][1].endswith(f"with {APP}")
        assert said[2][1].endswith(f"with {APP} · Refused: nothing was shown or changed")

    tell(story)


def test_nothing_of_another_patient_of_staff_or_of_a_query_is_on_the_page_or_in_the_file(tell):
    async def story(clinic):
        doctor = clinic.doctor()
        asked = (("_id", "of-ann,of-bob"), ("code", "718-7"))
        both = await clinic.act(doctor, "search-type", "Observation", parameters=asked)
        assert b"of-bob" in both.body
        await clinic.act(doctor, "read", "Observation", "of-bob")
        await clinic.act(clinic.patient("bob"), "read", "Patient", "ann")
        browser = await clinic.browser("ann")
        text = (await browser.get(LIST)).text
        for path in re.findall(r'href="(/account/access/\d+)"', text):
            text += (await browser.get(path)).text
        text += (await browser.get(f"{LIST}.ndjson")).text
        for secret in ("bob", "Bob", "Bold", "718-7", "192.0.2.7", "192.0.2.8", "dr.may", "token"):
            assert secret not in text, secret
        assert EVIL not in text.replace(json.dumps(EVIL), "")
        assert "192.0.2.1" in text  # the patient's own address, in their own entries of the file

    tell(story)


@pytest.mark.parametrize("name", ["dr.may", "root", "nobody"])
def test_for_who_reaches_no_patient_the_page_is_like_one_that_does_not_exist(tell, name):
    async def story(clinic):
        await clinic.account("root", None, administrator=True)
        await clinic.account("nobody", None)
        await clinic.act(clinic.doctor(), "read", "Observation", "of-ann")
        browser = await clinic.browser(name)
        assert LIST not in browser.text
        there = await browser.get("/nowhere", headers=HTML)
        assert there.status_code == 404
        for path in (LIST, f"{LIST}/1", f"{LIST}.ndjson"):
            page = await browser.get(path, headers=HTML)
            assert (page.status_code, page.text) == (404, there.text)

    tell(story)


def test_who_is_not_signed_in_does_that_first(tell):
    async def story(clinic):
        browser = await clinic.browser("ann")
        path = link((await browser.get(LIST)).text, "You signed in")
        stranger = type(browser)(clinic)
        for asked in (LIST, path, f"{LIST}.ndjson"):
            page = await stranger.get(asked)
            assert "<h1>Sign in</h1>" in page.text
        page = await stranger.sign_in("ann")
        assert "<h1>Who looked at my record</h1>" in page.text

    tell(story)


def test_an_entry_of_somebody_else_is_like_one_that_does_not_exist(tell):
    async def story(clinic):
        await clinic.act(clinic.doctor(), "read", "Observation", "of-bob")
        await clinic.account("bob", "Patient/bob")
        other = await clinic.browser("bob")
        path = link(
            (await other.get(LIST)).text, f"{DOCTOR} looked at your lab results and measurements"
        )
        assert (await other.get(path)).status_code == 200
        own = await clinic.browser("ann")
        assert DOCTOR not in (await own.get(LIST)).text
        for asked in (path, f"{LIST}/999999", f"{LIST}/a,b"):
            page = await own.get(asked, headers=HTML)
            assert page.status_code == 404
            assert "There is no such page" in page.text
        await own.get(f"{LIST}")
        posted = await own.post(path, {"csrf": own.form()["csrf"]})
        assert posted.status_code == 404

    tell(story)


def test_looking_at_the_list_is_in_the_list_and_says_so_once_for_each_run(tell):
    async def story(clinic):
        browser = await clinic.browser("ann")
        for _ in range(3):
            await browser.get(LIST)
        text = (await browser.get(LIST)).text
        said = "You looked at the list of who looked at your record"
        assert f"{said}</a>, 3 times" in text
        assert text.count(f">{said}<") == 1
        assert "<summary>Each of the 3 times</summary>" in text
        assert len(re.findall(rf'aria-label="[0-9:]{{8}}: {said}"><time', text)) == 3

    tell(story)


def test_the_list_is_filtered_by_person_and_by_day_and_the_address_holds_ids_only(tell):
    async def story(clinic):
        await clinic.act(clinic.doctor(), "read", "Observation", "of-ann")
        browser = await clinic.browser("ann")
        await browser.get(LIST)
        page = await browser.send(who="Practitioner/may")
        assert str(page.url).endswith("/account/access?who=Practitioner%2Fmay")
        assert set(sentences(page.text)) == {
            f"{DOCTOR} looked at your lab results and measurements"
        }
        assert f'<option value="Practitioner/may" selected>{DOCTOR}</option>' in page.text
        page = await browser.send(who="", **{"from": "2020-01-01", "to": "2020-01-02"})
        assert "Nothing was done by that person or in that time." in page.text
        page = await browser.get(f"{LIST}?from=2020-01-02&to=2020-01-01")
        assert page.status_code == 400
        assert 'role="alert" id="wrong">The first day comes after the last.' in page.text
        for wrong in ("from=soon", "who=%3Cb%3E", "patient=ann,bob"):
            assert (await browser.get(f"{LIST}?{wrong}")).status_code == 400

    tell(story)


def test_asking_for_another_patient_by_the_address_shows_nothing_of_theirs(tell):
    async def story(clinic):
        await clinic.act(clinic.doctor(), "read", "Observation", "of-bob")
        browser = await clinic.browser("ann")
        for asked in ("patient=bob", "who=Patient/bob", "who=Practitioner/may"):
            page = await browser.get(f"{LIST}?{asked}")
            assert sentences(page.text) == [], asked

    tell(story)


def test_who_is_not_named_on_the_page_is_not_found_out_by_asking_for_them(tell):
    async def story(clinic):
        await clinic.act(clinic.patient("bob"), "read", "Patient", "ann")
        browser = await clinic.browser("ann")
        tried = "Another patient tried to look at your name and contact details"
        assert tried in sentences((await browser.get(LIST)).text)
        assert sentences((await browser.get(f"{LIST}?who=RelatedPerson/rae")).text) == []
        for hidden in ("Patient/bob", "Person/pat", "RelatedPerson/other"):
            for path in (LIST, f"{LIST}.ndjson"):
                page = await browser.get(f"{path}?who={hidden}")
                assert page.status_code == 400, hidden
                assert "Choose a person from the list." in page.text
                assert tried not in page.text

    tell(story)


def test_older_entries_are_on_further_pages_and_none_is_lost(tell):
    async def story(clinic):
        for _ in range(60):
            await clinic.act(clinic.doctor(), "read", "Observation", "of-ann")
            await clinic.act(clinic.doctor(), "read", "Patient", "ann")
        browser = await clinic.browser("ann")
        await browser.get(f"{LIST}?who=Practitioner/may")
        seen = []
        for _ in range(3):
            seen += set(re.findall(r"/account/access/(\d+)", browser.text))
            older = re.search(r'href="([^"]+)">Older entries', browser.text)
            if older:
                assert "Newest entries" in browser.text or len(seen) == 50
                await browser.get(older[1].replace("&amp;", "&"))
        assert len(seen) == len(set(seen)) == 120
        stale = await browser.get(f"{LIST}?page=nonsense")
        assert stale.status_code == 200
        assert str(stale.url).endswith(LIST)

    tell(story)


def test_the_receipt_of_an_entry_is_a_file_and_nobody_is_sent_to_it_from_elsewhere(tell):
    async def story(clinic):
        browser = await clinic.browser("ann")
        path = link((await browser.get(LIST)).text, "You signed in")
        page = await browser.get(path)
        assert "<strong>Recorded and sealed in the log.</strong>" in page.text
        got = await browser.send()
        assert got.headers["content-disposition"].startswith('attachment; filename="receipt-')
        assert got.headers["cache-control"] == "no-store"
        assert got.headers["content-type"] == "text/plain; charset=utf-8"
        proven = check(parse(got.content), Policy(clinic.product.log.verifier))
        assert json.loads(proven.content)["id"] == path.rpartition("/")[2]
        assert (await browser.post(path, {"csrf": "forged"})).status_code == 403

    tell(story)


def test_an_entry_that_cannot_be_proven_says_so_and_what_to_do(tell):
    async def story(clinic):
        browser = await clinic.browser("ann")
        path = link((await browser.get(LIST)).text, "You signed in")
        proof = clinic.product.server.core.operations["proof"]
        for issue, said in {
            "transient": "Recorded, and waiting for its seal.",
            "forbidden": "Recorded, and sealed in the log with all others.",
            "exception": "This entry cannot be proven by a receipt.",
        }.items():
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(
                    clinic.product.server.core.operations, "proof", refusing(proof, issue)
                )
                page = await browser.get(path)
            assert f"<strong>{said}</strong>" in page.text
            assert "Download the receipt" not in page.text

    tell(story)


def refusing(operation, issue):
    """An operation that is refused."""
    from dataclasses import replace

    from conformance.outcome import FhirError

    async def run(step, asked):
        raise FhirError(issue, "Not now")

    return replace(operation, run=run)


def test_the_file_has_every_entry_with_its_sentence_and_taking_it_is_audited(tell):
    async def story(clinic):
        await clinic.act(clinic.doctor(), "read", "Observation", "of-ann")
        browser = await clinic.browser("ann")
        got = await browser.get(f"{LIST}.ndjson")
        assert got.headers["content-type"] == "application/fhir+ndjson"
        assert got.headers["content-disposition"] == 'attachment; filename="who-looked.ndjson"'
        assert got.headers["cache-control"] == "no-store"
        events = [json.loads(line) for line in got.text.splitlines()]
        assert {each["resourceType"] for each in events} == {"AuditEvent"}
        read = next(each for each in events if "looked at your lab" in each["text"]["div"])
        assert read["entity"][0]["what"] == {"reference": "Observation/of-ann"}
        assert read["agent"][0]["who"] == {"reference": "Practitioner/may"}
        assert read["meta"]["tag"][-1]["code"] == "SUBSETTED"
        assert "profile" not in read["meta"]
        said = sentences((await browser.get(LIST)).text)
        assert said[0] == "You downloaded the list of who looked at your record"

    tell(story)


def test_a_relative_reads_it_by_the_patients_name_and_is_you(tell):
    async def story(clinic):
        await clinic.act(clinic.doctor(), "read", "Observation", "of-ann")
        await clinic.act(clinic.doctor(), "read", "Observation", "of-bob")
        await clinic.account("rae", "RelatedPerson/rae")
        browser = await clinic.browser("rae")
        said = sentences((await browser.get(LIST)).text)
        assert f"{DOCTOR} looked at Ann Able’s lab results and measurements" in said
        assert not any("Bob" in each for each in said)
        own = await clinic.browser("ann")
        said = sentences((await own.get(LIST)).text)
        assert "Rae Able looked at the list of who looked at your record" in said

    tell(story)


def test_who_acts_for_several_patients_chooses_whose_record(tell):
    async def story(clinic):
        await clinic.act(clinic.doctor(), "read", "Observation", "of-ann")
        await clinic.act(clinic.doctor(), "read", "Observation", "of-bob")
        await clinic.account("pat", "Person/pat")
        browser = await clinic.browser("pat")
        said = sentences((await browser.get(LIST)).text)
        for name in ("Ann Able’s", "Bob Bold’s"):
            assert f"{DOCTOR} looked at {name} lab results and measurements" in said
        page = await browser.send(patient="bob")
        said = [each for each in sentences(page.text) if each.startswith(DOCTOR)]
        assert said == [f"{DOCTOR} looked at Bob Bold’s lab results and measurements"]

    tell(story)


def test_a_failed_sign_in_is_not_said_to_be_the_patients(tell):
    async def story(clinic):
        browser = await clinic.browser("ann")
        thief = type(browser)(clinic, "192.0.2.66")
        await thief.sign_in("ann", "a wrong guess")
        said = sentences((await browser.get(LIST)).text)
        assert said[0] == "Somebody tried to sign in to your account"
        assert "192.0.2.66" not in browser.text

    tell(story)


def test_what_other_systems_report_is_marked_and_their_words_are_not_repeated(tell):
    async def story(clinic):
        event = {
            "resourceType": "AuditEvent",
            "type": {"code": "110110"},
            "action": "R",
            "recorded": "2026-11-22T08:00:00Z",
            "outcome": "0",
            "agent": [{"requestor": True, "name": "Bob Bold", "who": {"display": EVIL}}],
            "source": {"observer": {"display": "another"}},
            "entity": [{"what": {"reference": "Patient/ann"}, "name": "Bob Bold"}],
        }
        made = await clinic.act(clinic.doctor(), "create", "AuditEvent", resource=event)
        assert isinstance(made, Result), made
        browser = await clinic.browser("ann")
        said = entries((await browser.get(LIST)).text)
        reported = next(each for each in said if "reported by another system" in each[1])
        assert reported[0].startswith("Somebody, as another system says, looked at your ")
        assert "Bold" not in browser.text
        assert EVIL not in browser.text
        assert "Bold" not in (await browser.get(f"{LIST}.ndjson")).text

    tell(story)


def test_times_are_those_of_the_site(tell):
    async def story(clinic):
        browser = await clinic.browser("ann")
        text = (await browser.get(LIST)).text
        assert "Times are as in Kathmandu." in text
        assert re.search(r'datetime="[^"]+\+05:45"', text)

    tell(story, timezone="Asia/Kathmandu")


def test_happenings_are_told_in_words(tell):
    async def story(clinic):
        for what in ("consent", "launch", "revoke"):
            told = Happening(what, account="dr.may", who="Practitioner/may", client="chart")
            await clinic.authority.audit(told._replace(patient="ann"))
        browser = await clinic.browser("ann")
        said = sentences((await browser.get(LIST)).text)
        assert said[1:4] == [
            f"{DOCTOR} disconnected an app",
            f"{DOCTOR} opened an app for your record",
            f"{DOCTOR} allowed an app to use your record",
        ]

    tell(story)


def test_what_the_operator_does_to_a_record_is_told_as_what_it_is(tell):
    async def story(clinic):
        for reason in ("claim 7", None):
            await perform(clinic.product, requests.HoldPatient("ann", reason))
        asked = requests.AddUser(name="ann2", who="Patient/ann")
        await perform(clinic.product, asked)
        browser = await clinic.browser("ann")
        assert entries((await browser.get(LIST)).text)[1:5] == [
            ("The people who run this server looked at your name and contact details", ANY),
            ("Your account was made by the people who run this server", ANY),
            ("The people who run this server ended the legal hold on your record", ANY),
            ("The people who run this server put a legal hold on your record", ANY),
        ]
        assert "claim 7" not in browser.text
        assert "not registered any more" not in browser.text

    tell(story)


def test_the_account_page_leads_to_it(tell):
    async def story(clinic):
        browser = await clinic.browser("ann")
        page = await browser.get("/account")
        assert f'<a href="{LIST}">Who looked at my record</a>' in page.text
        assert isinstance(page, httpx.Response)

    tell(story)
