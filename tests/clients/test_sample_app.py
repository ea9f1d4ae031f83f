"""What a newcomer sees: the demo's EHR, two clicks, and the sample app shows the patient.

https://hl7.org/fhir/smart-app-launch/app-launch.html#launch-app-ehr-launch
"""

import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.clients.demonstration import PASSWORDS

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "sample-app.png"
LARGEST = 150_000  # bytes of the picture


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(
        viewport={"width": 1000, "height": 1000}, locale="en-GB", timezone_id="UTC"
    )
    page = context.new_page()
    page.set_default_timeout(15_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    yield page
    context.close()
    assert faults == []


def name_of(demo, patient: str) -> str:
    with demo.fhir(demo.token("system/Patient.r")) as fhir:
        name = fhir.get(f"/Patient/{patient}").json()["name"][0]
    return f"{name['given'][0]} {name['family']}"


def test_two_clicks_show_the_patient_the_vital_signs_and_the_prescriptions(demo, page, patients):
    page.goto(f"{demo.base}/demo/ehr")
    page.get_by_role("button", name="Launch").click()
    page.get_by_role("button", name="Allow").click()

    expect(page.get_by_role("heading", level=1)).to_have_text(name_of(demo, patients[0]))
    chart = page.get_by_role("img", name="Blood pressure")
    expect(chart).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="Tablet").first).to_be_visible()
    assert "code=" not in page.url
    if os.environ.get("SALUS_PICTURES"):
        PICTURE.parent.mkdir(exist_ok=True)
        page.screenshot(path=PICTURE)
        assert PICTURE.stat().st_size < LARGEST


@pytest.mark.requirement("A7")
def test_the_app_by_itself_asks_who_you_are_and_whom_it_is_about(demo, page, patients):
    page.goto(f"{demo.base}/demo/app/")
    page.get_by_role("button", name="Choose a patient and start").click()
    page.get_by_label("Name").fill("doctor")
    page.get_by_label("Password").fill(PASSWORDS["doctor"])
    page.get_by_role("button", name="Sign in").click()
    page.locator(f"[name=patient][value='{patients[3]}']").click()
    page.get_by_role("button", name="Allow").click()

    expect(page.get_by_role("heading", level=1)).to_have_text(name_of(demo, patients[3]))


@pytest.mark.requirement("A8", "R7", "R8")
def test_what_was_unticked_the_app_does_without(demo, page, patients):
    page.goto(f"{demo.base}/demo/ehr")
    page.get_by_role("button", name="Launch").click()
    page.locator("[name='see.MedicationRequest']").uncheck()
    page.get_by_role("button", name="Allow").click()

    expect(page.get_by_role("heading", level=1)).to_have_text(name_of(demo, patients[0]))
    prescriptions = page.locator("section").filter(has_text="Prescriptions")
    expect(prescriptions).to_contain_text("not shared with this app")


def test_whoever_refuses_is_back_in_the_app_which_says_so(demo, page):
    page.goto(f"{demo.base}/demo/ehr")
    page.get_by_role("button", name="Launch").click()
    page.get_by_role("button", name="Cancel: share nothing").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("You shared nothing")
    page.get_by_role("button", name="Choose a patient and start").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Whose record")


def test_the_front_door_leads_to_the_demo(demo, page):
    page.goto(demo.base)
    page.get_by_role("link", name="Demo EHR").click()

    expect(page.get_by_role("button", name="Launch")).to_be_visible()


def test_days_are_written_in_one_way_whatever_the_zone(demo, page, patients):
    page.goto(f"{demo.base}/demo/ehr")
    with demo.fhir(demo.token("system/Patient.r")) as fhir:
        born = date.fromisoformat(fhir.get(f"/Patient/{patients[0]}").json()["birthDate"])
    page.get_by_role("button", name="Launch").click()
    page.get_by_role("button", name="Allow").click()

    expect(page.get_by_role("heading", name="Prescriptions")).to_be_visible()
    facts = page.locator("header.patient dd").all_text_contents()
    assert re.fullmatch(rf"{born.day} {born:%b}\w* {born.year} \(\d+ years\)", facts[0])
    days = page.locator("table.prescriptions td:nth-of-type(2)").all_text_contents()
    assert days
    assert all(re.fullmatch(r"\d{1,2} [A-Z][a-z]{2,3} \d{4}", day) for day in days)


def test_a_patient_is_offered_nobody_else(demo, page, patients):
    page.goto(f"{demo.base}/demo/ehr?user=patient")

    offered = page.locator("nav a[href*='patient=']")
    assert offered.count() == 1
    assert patients[0] in (offered.first.get_attribute("href") or "")


def test_only_the_page_itself_plays_the_ehr(demo, patients):
    sent = {"user": "doctor", "patient": patients[0]}
    url = f"{demo.base}/demo/ehr/launch"
    own, other = {"Origin": demo.base}, {"Origin": "https://evil.example"}

    assert httpx.post(url, data=sent).status_code == 403
    assert httpx.post(url, data=sent, headers=other).status_code == 403
    assert httpx.post(url, data=sent, headers=own).status_code == 303
    assert httpx.post(url, data={**sent, "user": "root"}, headers=own).status_code == 400
    assert httpx.post(url, data={**sent, "encounter": "x"}, headers=own).status_code == 400
    assert httpx.post(url, data={**sent, "patient": "x"}, headers=own).status_code == 403
    assert httpx.post(url, data={**sent, "app": "x"}, headers=own).status_code == 400


def test_the_app_is_three_short_files_that_a_page_may_load_nothing_beside(demo):
    page = httpx.get(f"{demo.base}/demo/app/")
    policy = page.headers["content-security-policy"]

    assert "default-src 'none'; script-src 'self'" in policy
    for name in ("smart.js", "app.js", "chart.js"):
        script = httpx.get(f"{demo.base}/demo/app/{name}")
        assert script.headers["content-type"].startswith("text/javascript")
        assert len(script.text.splitlines()) < 250
    assert httpx.get(f"{demo.base}/demo/app/../people.py").status_code == 404


def test_everything_is_reached_by_keyboard_and_on_a_small_screen(demo, page, patients):
    page.set_viewport_size({"width": 320, "height": 640})  # 1280 points wide, enlarged four times
    page.goto(f"{demo.base}/demo/ehr")
    assert fits(page)
    launch = page.get_by_role("button", name="Launch").bounding_box()
    chosen = page.locator("nav.choose ul.many").bounding_box()
    assert launch and chosen
    assert launch["y"] - chosen["y"] < 2 * 640  # not below fifty patients
    page.get_by_label("App").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    allow = page.get_by_role("button", name="Allow")
    shown = allow.bounding_box()
    assert shown
    assert shown["y"] + shown["height"] <= 640  # in sight before anything is scrolled
    allow.focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1)).to_have_text(name_of(demo, patients[0]))
    assert fits(page)
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('svg text')].map((each) =>"
        " parseFloat(getComputedStyle(each).fontSize) * each.getScreenCTM().a))"
    )
    assert smallest >= 11
    wide = page.get_by_role("group", name="Prescriptions, a table that scrolls")
    assert wide.evaluate("each => each.scrollWidth > each.clientWidth")
    wide.focus()
    page.keyboard.press("ArrowRight")
    for _ in range(100):
        if wide.evaluate("each => each.scrollLeft") > 0:
            break
        page.wait_for_timeout(20)
    else:
        raise AssertionError("the table did not scroll by keyboard")
    page.get_by_text("Values").first.focus()
    page.keyboard.press("Enter")
    table = page.get_by_role("table", name="Blood pressure")
    expect(table).to_be_visible()
    assert table.get_by_role("columnheader").all_text_contents() == [
        "Date",
        "Systolic",
        "Diastolic",
    ]


def fits(page: Page) -> bool:
    """Whether nobody has to scroll sideways."""
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_chart_says_in_words_what_it_shows(demo, page, patients):
    page.goto(f"{demo.base}/demo/ehr")
    page.get_by_role("button", name="Launch").click()
    page.get_by_role("button", name="Allow").click()

    said = page.get_by_role("img", name="Blood pressure").locator("title").text_content()
    assert re.fullmatch(r"Blood pressure: \d+/\d+ mmHg", said or "")
    assert page.get_by_role("figure").count() == 4
