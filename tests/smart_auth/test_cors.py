"""From which pages the token endpoint may be called."""

import pytest

from smart_auth import clients
from smart_auth.authority import INTROSPECT, REVOKE, TOKEN, USERINFO
from smart_auth.registrable import Registrable
from tests.smart_auth.served import CALLBACK

APP = "https://app.example"
ALLOWED = {"access-control-allow-origin", "access-control-expose-headers"}


def allowed(answer):
    return answer.headers.get("access-control-allow-origin")


@pytest.mark.requirement("T11", "C2")
def test_the_answer_names_the_origin_of_a_registered_app(served):
    served.client()

    answer = served.redeem(served.code(), headers={"Origin": APP})

    assert answer.status_code == 200
    assert allowed(answer) == APP
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers
    for name in ("WWW-Authenticate", "Retry-After", "Location", "ETag", "X-Request-Id"):
        assert name in answer.headers["access-control-expose-headers"]
    assert allowed(served.redeem("wrong", headers={"Origin": APP})) == APP


@pytest.mark.requirement("C5", "46")
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://app.example.evil.example",
        "https://app.example:8443",
        "http://app.example",
        "https://APP.example",
        "https://app.example/",
        "null",
        "*",
        "",
    ],
)
def test_an_origin_that_is_not_registered_is_not_named(served, origin):
    served.client()
    for path in (TOKEN, INTROSPECT, REVOKE, USERINFO):
        for method in ("OPTIONS", "POST"):
            answer = served.http.request(method, path, headers={"Origin": origin})
            assert not answer.headers.keys() & ALLOWED
            assert answer.headers["vary"] == "Origin"


@pytest.mark.requirement("C5", "64")
def test_a_preflight_needs_no_token_and_says_the_same_of_everything(served):
    served.client()
    ask = {"Origin": APP, "Access-Control-Request-Method": "POST"}
    answers = [
        served.http.request("OPTIONS", path, headers=ask)
        for path in (TOKEN, INTROSPECT, REVOKE, USERINFO, "/oauth/register", "/oauth/register/x")
    ]

    assert {each.status_code for each in answers} == {204}
    assert len({tuple(each.headers.items()) for each in answers}) == 1
    assert allowed(answers[0]) == APP
    assert "Authorization" in answers[0].headers["access-control-allow-headers"]
    assert served.http.request("POST", USERINFO, headers={"Origin": APP}).status_code == 401


@pytest.mark.requirement("C2", "C5")
def test_origins_come_and_go_with_clients(served):
    served.client()
    extra = "https://pages.example:8443"
    asked = Registrable(name="B", redirect_uris=(CALLBACK,), origins=(extra,))
    assert not served.run(served.tokens.origins.allows, extra)
    served.clock.pass_(1_000_000)

    served.run(clients.register, served.authority, asked)
    assert served.run(served.tokens.origins.allows, extra)
    served.run(clients.remove, served.authority, "app")
    assert served.run(served.tokens.origins.allows, APP)
    ((_, other),) = served.transaction(lambda tx: clients.CLIENTS.all(tx))
    served.run(clients.disable, served.authority, other.id)
    assert not served.run(served.tokens.origins.allows, APP)


def test_a_scheme_of_an_app_is_no_origin(served):
    served.client(redirect_uris=("com.example.app:/callback", "http://127.0.0.1:8000/callback"))
    allows = served.tokens.origins.allows

    assert served.run(allows, "http://127.0.0.1:8000")
    assert not served.run(allows, "http://127.0.0.1")
    assert not served.run(allows, "com.example.app:")
