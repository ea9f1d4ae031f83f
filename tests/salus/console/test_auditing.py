"""Who looked at whom: what administrators find, by what, and that nobody else sees the page."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from fhir_server.server import refusal_of
from fhir_server.storage.store import TooCostly
from salus.console.trail import refusal
from tests.salus.console.record import EVIL, opened

LIST, HTML = "/admin/access", {"accept": "text/html"}
DOCTOR = "Dr. May Mild &lt;img src=x onerror=alert(1)&gt;"


@pytest.fixture
def tell(tmp_path):
    """Runs an async function with a clinic in which something was done, and an administrator's
    browser."""

    def run(story):
        async def told():
            async with opened(tmp_path) as clinic:
                await clinic.account("root", None, administrator=True)
                doctor = clinic.doctor()
                await clinic.act(doctor, "read", "Observation", "of-ann")
                await clinic.act(doctor, "read", "Observation", "of-bob")
                asked = (("code", "718-7"), ("patient", "Patient/ann"))
                await clinic.act(doctor, "search-type", "Observation", parameters=asked)
                await clinic.act(clinic.patient("bob"), "read", "Patient", "ann")
                return await story(clinic, await clinic.browser("root"))

        return asyncio.run(told())

    return run


def rows(text: str) -> list[list[str]]:
    """The cells of the table."""
    found = re.findall(r'<tr role="row">\n(.*?)</tr>', text, re.DOTALL)
    cells = [re.findall(r'<td role="cell"[^>]*>(.*?)</td>', row) for row in found]
    return [[re.sub("<[^>]+>", "", cell) for cell in row] for row in cells]


def sentences(text: str) -> list[str]:
    return [row[1] for row in rows(text)]


def test_an_administrator_reads_who_did_what_to_whom_from_where_and_how_it_ended(tell):
    async def story(clinic, browser):
        page = await browser.get(LIST)
        assert page.status_code == 200
        found = [row[1:] for row in rows(page.text)][:5]
        app = "Chart &lt;i&gt;App&lt;/i&gt;"
        assert found == [
            ["You signed in", "–", "192.0.2.1"],
            [
                "Bob Bold tried to look at Ann Able’s name and contact details "
                "Refused: nothing was shown or changed",
                app,
                "192.0.2.8",
            ],
            [
                f"{DOCTOR} searched Ann Able’s lab results and measurements",
                app,
                "192.0.2.7",
            ],
            [
                f"{DOCTOR} looked at Bob Bold’s lab results and measurements",
                app,
                "192.0.2.7",
            ],
            [
                f"{DOCTOR} looked at Ann Able’s lab results and measurements",
                app,
                "192.0.2.7",
            ],
        ]
        assert EVIL not in page.text
        assert "718-7" not in page.text

    tell(story)


@pytest.mark.parametrize("name", ["dr.may", "ann"])
def test_for_everybody_else_the_page_is_like_one_that_does_not_exist(tell, name):
    async def story(clinic, _):
        browser = await clinic.browser(name)
        there = await browser.get("/nowhere", headers=HTML)
        for path in (LIST, f"{LIST}/1", f"{LIST}.ndjson"):
            page = await browser.get(path, headers=HTML)
            assert (page.status_code, page.text) == (404, there.text)
        await browser.get("/account/password")
        csrf = browser.form()["csrf"]
        for fields in ({"action": "find", "name": "Ann"}, {"patient": "ann"}):
            page = await browser.post(LIST, {"csrf": csrf, **fields})
            assert (page.status_code, page.json()) == (404, {"detail": "Not Found"})

    tell(story)


def test_a_patient_is_found_by_name_and_the_name_stands_in_no_address(tell):
    async def story(clinic, browser):
        await browser.get(LIST)
        page = await browser.send(0, name="Abl", action="find")
        assert str(page.url).endswith(LIST)
        assert re.findall(r'name="patient" value="([^"]+)"', page.text)[0] == "ann"
        page = await browser.send(1, patient="ann")
        assert str(page.url).endswith(f"{LIST}?patient=ann")
        assert "Only that of <strong>Ann Able</strong>" in page.text
        assert f"{DOCTOR} looked at Ann Able’s lab results and measurements" in sentences(page.text)
        assert not any(DOCTOR in each and "Bob" in each for each in sentences(page.text))
        page = await browser.send(0, name="Nobody", action="find")
        assert "There is no patient of that name or number." in page.text

    tell(story)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"end": "not"},
            [
                "Bob Bold tried to look at Ann Able’s name and contact details "
                "Refused: nothing was shown or changed"
            ],
        ),
        (
            {"who": "Practitioner/may", "kind": "looked", "patient": "bob"},
            [f"{DOCTOR} looked at Bob Bold’s lab results and measurements"],
        ),
        ({"kind": "signed", "who": "login:root"}, ["You signed in"]),
        ({"kind": "removed"}, []),
        ({"app": "chart", "kind": "added"}, []),
        ({"to": "2020-01-01"}, []),
    ],
)
def test_the_list_is_filtered(tell, fields, expected):
    async def story(clinic, browser):
        await browser.get(LIST)
        page = await browser.send(1, **fields)
        assert sentences(page.text) == expected
        assert expected or "There is no such entry." in page.text

    tell(story)


def test_what_was_asked_for_is_shown_only_when_that_is_asked_for(tell):
    async def story(clinic, browser):
        await browser.get(f"{LIST}?kind=looked&patient=ann")
        said = f"{DOCTOR} searched Ann Able’s lab results and measurements"
        path = re.search(rf'<a href="({LIST}/\d+)">{re.escape(said)}</a>', browser.text)[1]
        page = await browser.get(path)
        for shown in ("Practitioner/may", "192.0.2.7", "request-1", "Patient/ann", "search-type"):
            assert shown in page.text
        assert "718-7" not in page.text
        page = await browser.send(action="query")
        assert "Observation?code=718-7&amp;patient=Patient/ann" in page.text
        assert "<strong>Recorded and sealed in the log.</strong>" in page.text
        got = await browser.send(action="receipt")
        assert got.text.startswith("c2sp.org/tlog-proof@v1\n")
        assert got.headers["content-disposition"].startswith("attachment; ")

    tell(story)


def test_the_entries_come_first_and_the_state_of_the_log_last(tell):
    async def story(clinic, browser):
        await browser.get(LIST)
        await browser.get(re.search(rf"{LIST}/\d+", browser.text)[0])  # waits for a checkpoint
        text = (await browser.get(LIST)).text
        order = [text.index(each) for each in ("<details", "<table", ">Export<", ">The log<")]
        assert order == sorted(order)
        size = int(re.search(r"<dt>Records in it</dt><dd>([0-9,]+)", text)[1].replace(",", ""))
        assert size > 15
        assert re.search(r"<dt>Last checkpoint</dt><dd><time [^>]+>[^<]+</time>, signed by", text)
        assert "<dt>Witnesses</dt><dd>None cosigned it" in text
        assert "`" not in text

    tell(story)


def test_the_filter_is_folded_and_that_it_is_used_is_said(tell):
    async def story(clinic, browser):
        assert '<details class="filter">' in (await browser.get(LIST)).text
        page = await browser.send(0, name="Able", action="find")
        assert '<details class="filter" open>' in page.text
        text = (await browser.get(f"{LIST}?kind=looked")).text
        assert '<p>Only a part is shown. <a href="/admin/access">Show everything</a></p>' in text
        text = (await browser.get(f"{LIST}?from=soon")).text
        assert '<details class="filter" open>' in text

    tell(story)


def test_of_many_resources_of_an_entry_ten_are_shown_and_the_others_folded(tell):
    async def story(clinic, browser):
        entries = [
            {
                "resource": {"resourceType": "Basic", "code": {"text": "x"}},
                "request": {"method": "POST", "url": "Basic"},
            }
        ] * 12
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        await clinic.act(clinic.doctor(), "transaction", None, resource=bundle)
        await browser.get(f"{LIST}?kind=stored")
        page = await browser.get(re.search(rf"{LIST}/\d+", browser.text)[0])
        seen, folded = page.text.split("<summary>And 2 more</summary>")
        assert seen.count(">Basic/") == 10
        assert folded.count(">Basic/") == 2

    tell(story)


def test_the_export_is_what_is_shown_without_queries_and_is_audited(tell):
    async def story(clinic, browser):
        got = await browser.get(f"{LIST}.ndjson?patient=ann&kind=looked")
        assert got.headers["content-type"] == "application/fhir+ndjson"
        assert got.headers["content-disposition"] == 'attachment; filename="who-looked.ndjson"'
        assert got.headers["cache-control"] == "no-store"
        events = [json.loads(line) for line in got.text.splitlines()]
        assert len(events) == 3
        assert all("query" not in part for each in events for part in each.get("entity", ()))
        assert "718-7" not in got.text
        assert "192.0.2.7" in got.text
        text = (await browser.get(f"{LIST}?kind=downloaded")).text
        assert sentences(text) == [
            "You downloaded the list of who looked at Ann Able’s record",
        ]

    tell(story)


def test_the_patient_sees_that_an_administrator_looked(tell):
    async def story(clinic, browser):
        await browser.get(f"{LIST}?patient=ann")
        own = await clinic.browser("ann")
        text = (await own.get("/account/access")).text
        said = "Somebody of the staff looked at the list of who looked at your record"
        assert said in text
        assert "root" not in text

    tell(story)


def test_too_much_to_look_through_is_said_in_words():
    refused = refusal(refusal_of(TooCostly()))
    assert refused.status == 422
    assert refused.description == (
        "That is too much to look through at once. Choose a shorter period, or one patient"
    )
