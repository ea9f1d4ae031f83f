"""A patient reads who looked at the record: a clinician, an app by itself, and who was refused.

https://hl7.org/fhir/R4/auditevent.html
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.clients.demonstration import PASSWORDS
from tests.clients.test_sample_app import LARGEST, name_of

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "who-looked.png"


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A browser without scripts."""
    context = chromium.new_context(
        viewport={"width": 1000, "height": 1000}, locale="en-GB", java_script_enabled=False
    )
    page = context.new_page()
    page.set_default_timeout(15_000)
    yield page
    context.close()


@pytest.fixture(scope="module")
def looked(demo, patients, tmp_path_factory):
    """What was done with the patient's record: by whom, as the page calls them."""
    demo.register("rounds", "--name", "Ward rounds", "--redirect-uri", "http://127.0.0.1/back")
    key = str(tmp_path_factory.mktemp("reports") / "reports.jwk")
    named = ("--name", "Nightly reports", "--profile", "backend", "--make-key", key)
    demo.register("reports", *named, "--scope", "system/*.rs")
    demo.salus("user", "add", "stranger", "--who", f"Patient/{patients[1]}")
    doctor = demo.token("user/*.rs", "--client", "rounds", "--user", "doctor")
    stranger = ("--client", "rounds", "--user", "stranger", "--patient", patients[1])
    with demo.fhir(doctor) as fhir:
        asked = {"patient": patients[0], "_count": "1"}
        found = fhir.get("/Observation", params=asked).json()["entry"][0]["resource"]
        observation = f"/Observation/{found['id']}"
        assert fhir.get(observation).status_code == 200
        who = fhir.get("/Practitioner", params={"identifier": "JSC-1"}).json()["entry"][0]
    with demo.fhir(demo.token("system/Observation.r", "--client", "reports")) as fhir:
        assert fhir.get(observation).status_code == 200
    with demo.fhir(demo.token("patient/*.rs", *stranger)) as fhir:
        assert fhir.get(f"/Patient/{patients[0]}").status_code == 404
        assert fhir.get(observation).status_code == 404
    name = who["resource"]["name"][0]
    return " ".join((*name["prefix"], *name["given"], name["family"]))


def sign_in(page: Page, demo, account: str, path: str) -> None:
    page.goto(f"{demo.base}{path}")
    page.get_by_label("Name", exact=True).fill(account)
    page.get_by_label("Password", exact=True).fill(PASSWORDS[account])
    page.get_by_role("button", name="Sign in").click()


def test_the_patient_reads_who_looked_and_who_was_refused_and_takes_a_receipt(
    demo, page, patients, looked
):
    sign_in(page, demo, "patient", "/account/access")

    expect(page.get_by_role("heading", level=1)).to_have_text("Who looked at my record")
    entries = page.get_by_role("main").get_by_role("listitem")
    doctors = entries.filter(has_text=f"{looked} looked at your lab results and measurements")
    expect(doctors.first).to_contain_text("with Ward rounds")
    reports = entries.filter(has_text="The app Nightly reports looked at your lab results")
    expect(reports.first).to_be_visible()
    refused = entries.filter(has_text="Another patient tried to look at your name and contact")
    expect(refused.first).to_contain_text("Refused: nothing was shown or changed")
    text = page.content()
    assert patients[1] not in text
    assert name_of(demo, patients[1]) not in text
    if os.environ.get("SALUS_PICTURES"):
        page.screenshot(path=PICTURE)
        assert PICTURE.stat().st_size < LARGEST

    page.get_by_role("link", name="You signed in").first.click()
    expect(page.get_by_text("Recorded and sealed in the log.")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text(demo.salus("audit", "key"))
    with page.expect_download() as started:
        page.get_by_role("button", name="Download the receipt").click()
    receipt = started.value
    assert re.fullmatch(r"receipt-\d+\.txt", receipt.suggested_filename)
    key = demo.salus("audit", "key")
    asked = ["audit", "check-receipt", str(receipt.path()), "--log", key]
    checked = subprocess.run(
        [sys.executable, "-m", "salus", *asked],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_list_is_narrowed_by_keyboard_to_one_person(demo, page, looked):
    sign_in(page, demo, "patient", "/account/access")
    page.get_by_text("Show only a part: some days, or one person").focus()
    page.keyboard.press("Enter")
    page.get_by_role("combobox", name="Who").focus()
    page.keyboard.type(looked)
    page.get_by_role("button", name="Show", exact=True).focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("combobox", name="Who")).to_have_value(re.compile("Practitioner/"))
    said = page.locator("ul.told > li > p > a").all_text_contents()
    assert said
    assert all(each.startswith(looked) for each in said)
    page.set_viewport_size({"width": 320, "height": 640})
    wide = page.locator("main").bounding_box()
    assert wide
    assert wide["x"] + wide["width"] <= 320


def test_the_office_reads_who_looked_at_whom(demo, page, patients, looked):
    sign_in(page, demo, "office", "/admin/access")
    page.get_by_text("Show only a part").click()
    page.get_by_label("Name or number of the patient").fill(name_of(demo, patients[0]))
    page.get_by_role("button", name="Find patients").click()
    page.locator(f"[name=patient][value='{patients[0]}']").click()

    name = name_of(demo, patients[0])
    row = page.get_by_role("row").filter(has_text=f"{looked} looked at {name}’s lab results")
    expect(row.first.get_by_role("cell").nth(2)).to_have_text("Ward rounds")
    expect(row.first.get_by_role("cell").nth(3)).to_have_text("127.0.0.1")
    expect(page.get_by_text("Last checkpoint")).to_be_visible()
    stranger = page.get_by_role("row").filter(
        has_text=f"{name_of(demo, patients[1])} tried to look"
    )
    expect(stranger.first).to_contain_text("Refused")
