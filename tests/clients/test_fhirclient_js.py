"""npm's fhirclient, as it is published, in a real browser and from another origin.

https://docs.smarthealthit.org/client-js/
"""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.clients.conftest import needed
from tests.clients.demonstration import PASSWORDS
from tests.clients.pages import App, served

SCOPE = "openid fhirUser offline_access patient/Patient.rs patient/Observation.rs"


@pytest.fixture(scope="module")
def app(demo, fhirclient_js) -> Iterator[App]:
    with served(fhirclient_js) as made:
        demo.register("client-js", "--redirect-uri", made.index, "--launch-uri", made.launch)
        yield made


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of a browser that nobody used before."""
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(15_000)
    yield page
    context.close()


def options(app: App, **more: str) -> str:
    return json.dumps({"clientId": "client-js", "redirectUri": app.index, **more})


def allow(page: Page, app: App) -> None:
    """Allow what is asked, and wait for the app."""
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url(f"{app.index}**")
    page.wait_for_function("document.title !== 'app'")
    assert page.title() == "ready"


def read_and_refresh(page: Page, patient: str) -> None:
    """The app reads its patient and the user, also with the next token."""
    assert page.evaluate("client.patient.id") == patient
    assert page.evaluate("client.patient.read().then((it) => it.id)") == patient
    assert page.evaluate("client.user.read().then((it) => it.resourceType)") == "Practitioner"
    token = page.evaluate("client.state.tokenResponse.access_token")
    page.evaluate("client.refresh().then(() => null)")
    assert page.evaluate("client.state.tokenResponse.access_token") != token
    search = "client.patient.request('Observation?_count=3').then((it) => it.entry.length)"
    assert page.evaluate(search) == 3


@pytest.mark.requirement("A1", "A7", "C1", "C2", "C3", "D11", "T11", "I2", "I3", "Z2")
def test_a_standalone_launch_signs_in_chooses_a_patient_and_reads(demo, app, page, patients):
    app.options = options(app, scope=f"launch/patient {SCOPE}", iss=demo.url)
    page.goto(app.launch)
    page.get_by_label("Name").fill("doctor")
    page.get_by_label("Password").fill(PASSWORDS["doctor"])
    page.get_by_role("button", name="Sign in").click()
    page.locator(f"[name=patient][value='{patients[1]}']").click()

    allow(page, app)

    read_and_refresh(page, patients[1])


@pytest.mark.requirement("A6", "T5", "X1", "C2", "T9")
def test_an_ehr_launch_reads_the_patient_that_is_open(demo, app, page, patients):
    app.options = options(app, scope=f"launch {SCOPE}")
    page.goto(f"{demo.base}/demo/ehr?user=doctor&patient={patients[2]}")
    page.get_by_label("App").select_option("client-js")
    page.get_by_role("button", name="Launch").click()

    allow(page, app)

    read_and_refresh(page, patients[2])


@pytest.mark.requirement("C3", "F1")
def test_a_page_of_another_origin_reads_why_it_was_refused(demo, app, page):
    page.goto(app.index)
    status = f"fetch('{demo.url}/Patient').then((answer) => answer.status)"

    assert page.evaluate(status) == 401


def test_a_judge_that_is_missing_is_a_failure_only_where_it_must_be_there(monkeypatch):
    monkeypatch.setenv("SALUS_CI", "")
    with pytest.raises(pytest.skip.Exception):
        needed("what is not there", False)
    monkeypatch.setenv("SALUS_CI", "1")
    with pytest.raises(pytest.fail.Exception):
        needed("what is not there", False)
    needed("what is there", True)
