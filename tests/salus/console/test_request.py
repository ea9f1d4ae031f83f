"""An authorization request is checked before anybody is shown anything."""

from __future__ import annotations

import pytest

from tests.salus.console.world import APP, FHIR, answered, request


async def _asked(world, method="get", **changed):
    await world.client()
    http = world.browser().http
    sent = request(state="s t/ä+1", **changed)
    if method == "post":
        return await http.post("/oauth/authorize", data=sent)
    return await http.get("/oauth/authorize", params=sent)


@pytest.mark.requirement("A1", "A2")
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_request_goes_on_at_a_page_of_ours_without_any_cookie(tell, method):
    async def story(world):
        answer = await _asked(world, method, unknown="ignored")
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/consent?request=")
        assert "set-cookie" not in answer.headers

    tell(story)


@pytest.mark.requirement("A12", "A10", "26")
@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "nobody"},
        {"client_id": None},
        {"redirect_uri": None},
        *(
            {"redirect_uri": uri}
            for uri in (
                APP + "/x",
                APP[:-1],
                "https://app.example.com.evil.org/after",
                "https://evil.app.example.com/after",
                "https://app.example.com/x/../after",
                "https://user@app.example.com/after",
                APP + "#fragment",
                "https://APP.example.com/after",
                "https://app.example.com:444/after",
                APP + "?extra=1",
                "http://app.example.com/after",
                "javascript:alert(1)",
                "com.example.app:/after",
            )
        ),
    ],
    ids=str,
)
def test_an_address_that_was_not_registered_is_never_redirected_to(tell, changed):
    async def story(world):
        answer = await _asked(world, **changed)
        assert answer.status_code == 400
        assert "location" not in answer.headers
        assert "This does not work" in answer.text

    tell(story)


@pytest.mark.requirement("A2", "A4", "A11", "27", "28", "55")
@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"request": "e30.e30."}, "request_not_supported"),
        ({"request_uri": "https://evil.example.com/r"}, "request_uri_not_supported"),
        ({"aud": None}, "invalid_request"),
        ({"aud": "https://inferno.healthit.gov/invalid_aud"}, "invalid_request"),
        ({"aud": FHIR + ".evil.org"}, "invalid_request"),
        ({"aud": FHIR + "//"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "profile email"}, "invalid_scope"),
        ({"scope": "system/Patient.rs"}, "invalid_scope"),
        ({"scope": "patient/Patient.sr"}, "invalid_scope"),
        ({"scope": "patient/Nothing.rs"}, "invalid_scope"),
        ({"scope": "patient/Observation.rs?subject.name=x"}, "invalid_scope"),
        ({"scope": "patient/Observation.rs?odd=x"}, "invalid_scope"),
        ({"launch": "unknown"}, "invalid_scope"),
        ({"launch": "unknown", "scope": "launch openid"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "dance"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"nonce": "n" * 600}, "invalid_request"),
    ],
    ids=str,
)
def test_the_app_is_told_what_is_wrong_with_its_request(tell, changed, error):
    async def story(world):
        told = answered(await _asked(world, **changed))
        assert told.pop("error_description")
        assert told == {"error": error, "state": "s t/ä+1", "iss": FHIR}

    tell(story)


@pytest.mark.parametrize("state", [None, "x" * 4097, "a\r\nSet-Cookie: b=c"])
@pytest.mark.requirement("27")
def test_a_state_that_cannot_be_sent_back_is_not(tell, state):
    async def story(world):
        await world.client()
        answer = await world.browser().http.get("/oauth/authorize", params=request(state=state))
        told = answered(answer)
        assert told.pop("error_description")
        assert told == {"error": "invalid_request", "iss": FHIR}

    tell(story)


@pytest.mark.requirement("27")
def test_a_parameter_that_comes_twice_ends_in_a_page(tell):
    async def story(world):
        await world.client()
        fields = [*request().items(), ("state", "another")]
        answer = await world.browser().http.get("/oauth/authorize", params=fields)
        assert answer.status_code == 400
        assert "comes twice" in answer.text

    tell(story)


@pytest.mark.requirement("A2", "28")
def test_one_slash_at_the_end_of_the_audience_is_fine(tell):
    async def story(world):
        answer = await _asked(world, aud=FHIR + "/")
        assert answer.headers["location"].startswith("/consent?request=")

    tell(story)


@pytest.mark.requirement("A11", "55")
def test_pkce_is_demanded_by_profile(tell):
    async def story(world):
        shape = {"authentication": "client_secret"}
        await world.client("old", profile="smart-1", **shape)
        await world.client("old-public", profile="smart-1")
        await world.client("new", profile="smart-2", **shape)
        plain = {"code_challenge": None, "code_challenge_method": None}
        found = {}
        for client in ("old", "old-public", "new"):
            sent = request(client, **plain)
            answer = await world.browser().http.get("/oauth/authorize", params=sent)
            found[client] = answer.headers["location"].startswith("/consent?")
        assert found == {"old": True, "old-public": False, "new": False}
        sent = request("old", code_challenge="x" * 43, code_challenge_method="plain")
        answer = await world.browser().http.get("/oauth/authorize", params=sent)
        assert answered(answer)["error"] == "invalid_request"

    tell(story)


@pytest.mark.requirement("A10")
def test_a_native_app_may_listen_at_any_port_of_loopback(tell):
    async def story(world):
        uris = ("http://127.0.0.1/after", "com.example.app:/after")
        await world.client("native", redirect_uris=uris)
        found = []
        for uri in ("http://127.0.0.1:51111/after", uris[1], "http://127.0.0.1:51111/other"):
            sent = request("native", redirect_uri=uri)
            answer = await world.browser().http.get("/oauth/authorize", params=sent)
            found.append(answer.status_code)
        assert found == [303, 303, 400]

    tell(story)


def test_a_disabled_client_gets_nowhere(tell):
    async def story(world):
        from smart_auth import clients

        await world.client()
        await clients.disable(world.authority, "app")
        answer = await world.browser().http.get("/oauth/authorize", params=request())
        assert answer.status_code == 400
        assert "not registered here, or is disabled" in answer.text

    tell(story)


def test_one_address_can_begin_so_many_requests_only(tell, monkeypatch):
    async def story(world):
        from smart_auth import throttle

        monkeypatch.setattr(throttle, "_REQUESTS", 3)
        await world.client()
        found = []
        for address in ("192.0.2.1",) * 4 + ("192.0.2.2",):
            http = world.browser(address).http
            found.append((await http.get("/oauth/authorize", params=request())).status_code)
        assert found == [303, 303, 303, 429, 303]
        world.clock.goes(15 * 60)
        answer = await world.browser().http.get("/oauth/authorize", params=request())
        assert answer.status_code == 303

    tell(story)


def test_a_client_that_may_have_none_of_what_it_asks_is_told_so(tell):
    async def story(world):
        await world.client(scopes=("patient/Patient.rs",))
        http = world.browser().http
        answer = await http.get("/oauth/authorize", params=request(scope="patient/Device.rs"))
        assert answered(answer)["error"] == "invalid_scope"
        answer = await http.get("/oauth/authorize", params=request(scope="patient/Patient.r"))
        assert answer.headers["location"].startswith("/consent?")

    tell(story)
