"""npm's fhirclient, as it is published, in a real browser and from another origin.

https://docs.smarthealthit.org/client-js/
"""

import json
from collections.abc import Iterator

import pytest
from joserfc.jwk import ECKey, RSAKey
from playwright.sync_api import Browser, Error, Page

from tests.clients.conftest import needed
from tests.clients.demonstration import PASSWORDS
from tests.clients.pages import App, served

SCOPE = "openid fhirUser offline_access patient/Patient.rs patient/Observation.rs"


@pytest.fixture(scope="module")
def app(demo, fhirclient_js) -> Iterator[App]:
    with served(fhirclient_js) as made:
        demo.register("client-js", *native(made))
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


def read(page: Page, patient: str) -> None:
    """The app reads its patient and the user."""
    assert page.evaluate("client.patient.id") == patient
    assert page.evaluate("client.patient.read().then((it) => it.id)") == patient
    assert page.evaluate("client.user.read().then((it) => it.resourceType)") == "Practitioner"


def read_and_refresh(page: Page, patient: str) -> None:
    """The app reads its patient and the user, and goes on with the next token."""
    read(page, patient)
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


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
@pytest.mark.requirement("T1", "T10", "BS3")
def test_an_app_that_signs_launches_and_its_tokens_are_refreshed_for_nobody_else(
    demo, app, page, patients, tmp_path, algorithm
):
    key = ECKey.generate_key("P-384") if algorithm == "ES384" else RSAKey.generate_key(2048)
    about = {"kid": key.thumbprint(), "alg": algorithm, "use": "sig"}
    jwks, id = tmp_path / "jwks.json", f"client-js-{algorithm.lower()}"
    jwks.write_text(json.dumps({"keys": [{**key.as_dict(private=False), **about}]}))
    demo.register(id, "--jwks", str(jwks), *native(app))
    private = {**key.as_dict(private=True), **about, "key_ops": ["sign"], "ext": True}
    app.options = json.dumps(
        {
            "clientId": id,
            "redirectUri": app.index,
            "clientPrivateJwk": private,
            "scope": f"launch {SCOPE}",
        }
    )
    page.goto(f"{demo.base}/demo/ehr?user=doctor&patient={patients[2]}")
    page.get_by_label("App").select_option(id)
    page.get_by_role("button", name="Launch").click()

    allow(page, app)

    read(page, patients[2])
    # This library signs no refresh, and a token of a client that must sign is worth nothing else.
    with pytest.raises(Error, match="invalid_grant"):
        page.evaluate("client.refresh().then(() => null)")


def native(app: App) -> list[str]:
    """The options that register the pages of the app."""
    return ["--redirect-uri", app.index, "--launch-uri", app.launch]


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
