"""The headers that guard answers: on every kind of them."""

import socket

import httpx
import pytest

from smart_auth.cors import EXPOSED
from tests.living import Living
from tests.secured import Secured, patient

JSON = {"content-type": "application/fhir+json"}
DATA = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
}
STRICT = {"strict-transport-security": "max-age=31536000"}
PAGE_ONLY = {"permissions-policy": "camera=(), microphone=(), geolocation=()"}
TLS = {"SALUS_BEHIND_PROXY": "true", "SALUS_BASE_URL": "https://fhir.example"}


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """A server that clients reach by https, behind a proxy."""
    server = Secured(tmp_path_factory.mktemp("behind"), **TLS)
    server.start()
    yield server
    assert server.stop() == 0


def guards(answer, names=(*DATA, *STRICT)):
    return {name: answer.headers[name] for name in names if name in answer.headers}


def asked(server, method, path, **more):
    return httpx.request(method, f"{server.base}{path}", trust_env=False, **more)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/fhir/Patient/eve", 200),
        ("HEAD", "/fhir/Patient/eve", 200),
        ("GET", "/fhir/Patient?name=eve", 200),
        ("GET", "/fhir/Patient/eve/_history", 200),
        ("GET", "/fhir/Patient/nobody", 404),
        ("GET", "/fhir/nowhere/at/all/of/it", 404),
        ("PATCH", "/fhir", 405),
        ("GET", "/fhir/Patient?wrong=1", 400),
        ("GET", "/fhir/metadata", 200),
    ],
)
def test_fhir_is_kept_by_nobody_and_shown_by_no_page(behind, method, path, status):
    with behind.client(behind.token()) as fhir:
        fhir.put("/Patient/eve", content=patient("eve"), headers=JSON).raise_for_status()
        answer = fhir.request(method, behind.base + path)

    assert answer.status_code == status
    assert guards(answer) == DATA | STRICT


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/fhir/Patient/eve", 401),
        ("GET", "/fhir/metadata", 200),
        ("GET", "/health", 200),
        ("GET", "/health/live", 200),
        ("GET", "/metrics", 200),
        ("GET", "/", 200),
        ("GET", "/nowhere", 404),
        ("DELETE", "/sign-in", 405),
        ("POST", "/oauth/token", 400),
        ("POST", "/oauth/introspect", 400),
        ("POST", "/oauth/register", 400),
        ("GET", "/oauth/userinfo", 401),
        ("POST", "/operator", 404),
    ],
)
def test_so_is_every_answer_that_is_data(behind, method, path, status):
    answer = asked(behind, method, path)

    assert answer.status_code == status
    assert guards(answer) == DATA | STRICT


@pytest.mark.parametrize(
    "path",
    ["/fhir/.well-known/smart-configuration", "/oauth/jwks", "/smart-style.json", "/brands"],
)
def test_public_documents_may_be_kept_and_read_from_anywhere(behind, path):
    answer = asked(behind, "GET", path)

    assert answer.headers["cache-control"] == "public, max-age=300"
    open_ = {"cache-control": "public, max-age=300", "cross-origin-resource-policy": "cross-origin"}
    assert guards(answer) == DATA | STRICT | open_


@pytest.mark.parametrize(
    "path", ["/sign-in", "/sign-out", "/account", "/welcome", "/oauth/authorize"]
)
def test_pages_run_nothing_and_stand_in_no_frame(behind, path):
    answer = httpx.get(f"{behind.base}{path}", headers={"accept": "text/html"}, trust_env=False)

    assert answer.status_code in (200, 303, 400, 410)
    assert "script-src" not in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    rest = {name: value for name, value in DATA.items() if name != "content-security-policy"}
    assert guards(answer, (*rest, *STRICT, *PAGE_ONLY)) == rest | STRICT | PAGE_ONLY


@pytest.mark.parametrize(
    ("path", "alone"), [("/account", True), ("/admin", True), ("/sign-in", False)]
)
def test_a_page_on_the_way_of_a_launch_may_stand_in_a_window_that_an_app_opened(
    behind, path, alone
):
    answer = asked(behind, "GET", path)

    assert ("cross-origin-opener-policy" in answer.headers) is alone


def test_nothing_is_said_of_https_where_there_is_none(secured):
    with secured.client() as fhir:
        answers = [fhir.get("/metadata"), fhir.get(f"{secured.base}/sign-in")]

    assert not any("strict-transport-security" in each.headers for each in answers)


def test_preflights_and_refusals_of_an_open_server_are_guarded_too(secured, tmp_path):
    ask = {"origin": "https://evil.example", "access-control-request-method": "GET"}
    with secured.client() as fhir:
        preflight = fhir.options("/Patient", headers=ask)
    assert (preflight.status_code, guards(preflight)) == (204, DATA)

    server = Living(tmp_path).start()
    with server.client() as fhir:
        refused = fhir.get("/Patient", headers={"host": "evil.example"})
        read = fhir.get("/Patient")
    assert server.stop() == 0
    assert (refused.status_code, guards(refused)) == (421, DATA)
    assert (read.status_code, guards(read)) == (200, DATA)
    assert "ratelimit" not in read.headers


def test_pages_of_registered_apps_can_read_what_is_said_of_limits():
    names = {each.strip() for each in EXPOSED.split(",")}

    assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= names


# --- heads of requests ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"x: " + b"a" * 60_000, 200),
        (b"x: " + b"a" * 200_000, 431),
        (b"\r\n".join(b"x-%d: y" % number for number in range(90)), 200),
        (b"\r\n".join(b"x-%d: y" % number for number in range(120)), 431),
    ],
)
def test_the_head_of_a_request_has_its_limits(behind, head, status):
    with socket.create_connection(("127.0.0.1", behind.port), timeout=10) as wire:
        wire.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        answered = wire.recv(100)

    assert answered.startswith(b"HTTP/1.1 %d " % status)
