"""Whose requests are answered: no Host header chooses where a browser goes, and a server without
authorization hears of no page of another site."""

import pytest

from salus.rebinding import ThisMachine

JSON = {"content-type": "application/fhir+json"}
PATIENT = b'{"resourceType":"Patient"}'
HERE = ["localhost", "localhost:9999", "127.0.0.1", "127.8.9.10:80", "[::1]", "[::1]:8080"]
ELSEWHERE = [
    "evil.example",
    "evil.example:8080",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "192.168.0.7",
    "0.0.0.0",
    "[::]:80",
    "[::1",
    "127.0.0.1@evil.example",
    "",
]
PATHS = ["/", "/health/live", "/metrics", "/fhir/metadata", "/fhir/Patient", "/sign-in", "/nowhere"]
PAGES = ["http://evil.example", "https://127.0.0.1.evil.example", "null", "file://127.0.0.1"]


def asked(server, method, path, **headers):
    with server.client() as http:
        url = f"{server.url.removesuffix('/fhir')}{path}"
        content = PATIENT if method in ("POST", "PUT") else None
        return http.request(method, url, content=content, headers={**JSON, **headers})


@pytest.mark.parametrize("path", ["/account/", "/admin/", "/sign-in/", "/oauth/token/"])
def test_no_host_header_chooses_where_a_browser_is_sent(secured, path):
    answers = [asked(secured, method, path, host="evil.example") for method in ("GET", "POST")]

    assert {each.status_code for each in answers} == {404}
    assert not any("evil.example" in f"{each.headers} {each.text}" for each in answers)
    assert asked(secured, "GET", path.rstrip("/")).status_code in (200, 303, 405)


@pytest.mark.parametrize("host", HERE)
def test_an_open_server_answers_to_every_name_of_this_machine(living, host):
    assert [asked(living, "GET", path, host=host).status_code for path in PATHS] == [
        *(200, 200, 200, 200, 200, 200, 404),
    ]


@pytest.mark.parametrize("host", ELSEWHERE)
def test_an_open_server_answers_to_no_other_name(living, host):
    answers = [asked(living, "GET", path, host=host) for path in PATHS]

    assert {each.status_code for each in answers} == {421}
    assert {each.json()["issue"][0]["diagnostics"] for each in answers} == {
        "This server was started with --open, so it answers to names of this machine only"
    }


@pytest.mark.parametrize("page", PAGES)
def test_pages_of_other_sites_change_nothing_in_an_open_server(living, page):
    count = "/fhir/Patient?_summary=count"
    before = asked(living, "GET", count).json()["total"]
    writes = [
        asked(living, method, path, origin=page)
        for method, path in (
            ("POST", "/fhir/Patient"),
            ("POST", "/fhir"),
            ("PUT", "/fhir/Patient/of-a-page"),
            ("DELETE", "/fhir/Patient/of-a-page"),
            ("POST", "/oauth/token"),
        )
    ]

    assert {each.status_code for each in writes} == {403}
    assert {each.json()["issue"][0]["code"] for each in writes} == {"forbidden"}
    assert asked(living, "GET", count).json()["total"] == before
    assert asked(living, "GET", "/fhir/metadata", origin=page).status_code == 200


def test_pages_of_this_machine_may_write_to_an_open_server(living):
    own = living.url.removesuffix("/fhir")
    answers = [
        asked(living, "POST", "/fhir/Patient", **headers)
        for headers in ({}, {"origin": own}, {"origin": "http://localhost:5173"})
    ]

    assert [each.status_code for each in answers] == [201, 201, 201]


def test_a_server_that_asks_for_tokens_hears_every_name_and_page(secured):
    with secured.client(secured.token()) as fhir:
        made = fhir.post(
            "/Patient",
            content=PATIENT,
            headers={**JSON, "host": "fhir.example", "origin": "https://app.example"},
        )

    assert made.status_code == 201


def test_the_name_and_origin_of_the_base_url_count_as_this_machine():
    only = ThisMachine("http://box.local:8080")

    def status(**headers):
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        refusal = only.refusal({"method": "POST", "headers": sent})
        return refusal and refusal.status

    assert status(host="box.local:8080", origin="http://box.local:8080") is None
    assert status(host="BOX.local.") is None
    assert status(host="box.local", origin="http://box.local:9090") == 403
    assert status(host="other.local") == 421
