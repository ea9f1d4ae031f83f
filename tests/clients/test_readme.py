"""README.md as a newcomer pastes it, from the first line of the tour to a certificate of one's own."""

import json
import re

import httpx
import pytest

from tests.clients.shell import blocks, paste
from tests.secured import PASSWORD, Secured
from tests.shared import shared

HERE = "http://127.0.0.1:8080"
TOUR = blocks("README.md", "## Five minutes with curl", "\n## ")
PEOPLE = blocks("README.md", "## Apps and people", "\n## ")
TRUST = blocks("README.md", "## Trust", "\n## ")
GUIDES = blocks("README.md", "## Guides, codes and suites", "\n## ")
HTTPS = blocks("README.md", "To try https on one machine", "\nAll links")
FOLDERS = "--data ~/salus-tour/data --keys ~/salus-tour/keys"


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """A server on the tour's folders, in a home of its own, and a clone to stand in."""
    home = tmp_path_factory.mktemp("home")
    (home / ".venv" / "bin").mkdir(parents=True)
    (home / ".venv" / "bin" / "activate").touch()  # `paste` has done it
    server = Secured(home / "salus-tour", HOME=str(home))
    (home / "salus-tour").mkdir()
    server.start()
    yield server
    assert server.stop() == 0


def pasted(server, *scripts):
    script = "\n".join(scripts).replace(HERE, server.base)
    return paste(script, server.data.parents[1], server.environment)


def test_the_tour_starts_on_folders_of_its_own_outside_the_clone():
    assert TOUR[0] == f'make serve ARGS="{FOLDERS}"\n'


def test_every_line_of_the_tour_does_what_it_says(tour):
    printed = pasted(tour, *TOUR[1:])
    created, refused, *searches, patched, history, by_patient, of_refusals, deleted = (
        printed.statuses
    )

    assert (created, refused, deleted) == (201, 422, 405)
    assert {*searches, patched, history, by_patient, of_refusals} == {200}
    assert '"birthDate":"1985-12-11"' in printed.out


def test_apps_and_people_are_made_as_it_is_written(tour):
    begin, block = TOUR[1], PEOPLE[0]
    before, rotated = block.split("salus client rotate")

    printed = pasted(tour, begin, before)
    link, secret = re.findall(r"(http\S+welcome\S+)|^([\w-]{20,})$", printed.out, re.MULTILINE)
    assert printed.statuses == [201]
    told = {"data": {"grant_type": "authorization_code"}, "auth": ("growth", secret[1])}
    known = httpx.post(tour.token_url, **told).json()["error"]
    again = pasted(tour, begin, "salus client rotate" + rotated)
    disabled = httpx.post(tour.token_url, **told).json()["error"]

    assert (known, disabled) == ("invalid_request", "invalid_client")
    assert again.out.splitlines()[0] != secret[1]
    assert json.loads((tour.data.parents[1] / "reports.jwk").read_text())["kid"]
    with tour.browser() as browser:
        browser.submit(browser.get(link[0]), password=PASSWORD, again=PASSWORD)
    with tour.browser("maria") as browser:
        assert "maria" in browser.get("/account").text


def test_what_is_said_about_trust_can_be_pasted_after_the_tour(tour):
    printed = pasted(tour, *TOUR[1:], *TRUST)

    assert printed.statuses[-1] == 200
    assert "The receipt holds." in printed.out
    assert re.search(r"It is Patient/ada, version \d+, of ", printed.out)
    assert (tour.data.parents[1] / "restored" / "salus.db").is_file()


def test_guides_codes_and_suites_are_tried_as_it_is_written(tour):
    guide = shared("packages/hl7.fhir.us.core-6.1.0.tgz")
    (tour.data.parents[1] / guide.name).write_bytes(guide.read_bytes())

    printed = pasted(tour, *TOUR[1:], *GUIDES)

    put, *asked = printed.statuses[-8:]
    assert (put, set(asked)) == (201, {200})
    assert "0 errors" in printed.out
    assert "Installed hl7.fhir.us.core#6.1.0" in printed.out
    assert '"code":"remission"' in printed.out
    home = tour.data.parents[1]
    assert (home / "export" / "manifest.json").is_file()
    assert "137" in printed.out
    assert (home / "report.html").read_text().startswith("<!doctype html>")


def test_a_certificate_made_here_is_served_and_trusted_as_it_is_written(tmp_path):
    lines = HTTPS[0].splitlines(keepends=True)
    serve = next(n for n, line in enumerate(lines) if line.startswith("salus serve"))
    server = Secured(tmp_path)
    paste("".join(lines[:serve]), tmp_path, server.environment)
    at = f"https://localhost:{server.port}"
    options = lines[serve].replace("https://localhost:8443", at).split()[4:]
    server.arguments = tuple(str(tmp_path / o) if o.endswith(".pem") else o for o in options)
    server.scheme, server.verify = "https", str(tmp_path / "cert.pem")
    (tmp_path / "ada.json").write_text('{"resourceType": "Patient", "id": "ada"}')
    server.start()
    try:
        asked = "".join(lines[serve + 1 :]).replace("https://localhost:8443", at)
        own = {"SALUS_DATA": str(server.data), "SALUS_KEYS": str(server.keys)}
        known = server.environment | own
        printed = paste(asked.replace("FILES", "ada.json"), tmp_path, known)
        assert printed.statuses == [200]
        with server.client(server.token("system/*.rs")) as fhir:
            assert fhir.get("/Patient?_summary=count").json()["total"] == 1
    finally:
        assert server.stop() == 0
