"""Which client sends a request."""

from base64 import b64decode, b64encode

import pytest

from smart_auth import clients
from smart_auth.assertions import TYPE
from smart_auth.authority import INTROSPECT, REVOKE, TOKEN
from smart_auth.errors import OAuthError
from smart_auth.model import DAY
from tests.smart_auth.served import jwks

FAILED = {
    "error": "invalid_client",
    "error_description": "The client is unknown, or did not authenticate as it is registered to",
}


def basic(text):
    return {"Authorization": "Basic " + b64encode(text.encode()).decode()}


def ask(served, headers=None, **parameters):
    """A request whose client is right ends as invalid_grant."""
    form = {"grant_type": "refresh_token", "refresh_token": "none", **parameters}
    return served.post(TOKEN, form, headers=headers or {})


def is_known(answer):
    return answer.status_code == 400 and answer.json()["error"] == "invalid_grant"


@pytest.mark.requirement("T1", "Z10")
@pytest.mark.parametrize("id", ["app", "my-app_1.x"])
def test_basic_is_read_as_it_stands_and_percent_decoded(served, id):
    secret = served.confidential(id).secret
    encoded = "".join(f"%{ord(each):02X}" for each in secret)

    assert is_known(ask(served, basic(f"{id}:{secret}")))
    assert is_known(ask(served, basic(f"{id}:{encoded}")))
    assert is_known(
        ask(
            served,
            {"Authorization": basic(f"{id}:{secret}")["Authorization"].replace("Basic", "bAsIc")},
        )
    )


@pytest.mark.requirement("T1")
def test_id_and_secret_may_come_in_the_form(served):
    secret = served.confidential().secret

    assert is_known(ask(served, client_id="app", client_secret=secret))


@pytest.mark.requirement("34")
@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({}, {"client_id": "app"}),
        ({}, {"client_id": "nobody"}),
        ({}, {"client_id": "app", "client_secret": "wrong"}),
        ({}, {"client_secret": "wrong"}),
        (basic("app:"), {}),
        (basic("app:wrong"), {}),
        (basic("app"), {}),
        (basic(":"), {}),
        (basic("nobody:SECRET"), {}),
        (basic("app:SECRET"), {"client_id": "other"}),
        (basic("other:SECRET"), {"client_id": "app"}),
        ({"Authorization": "Basic ***"}, {}),
        ({"Authorization": "Basic"}, {}),
        ({"Authorization": "Bearer SECRET"}, {"client_id": "app"}),
        (basic("app:" + "x" * 5000), {}),
        (basic("keys:SECRET"), {}),
        ({}, {"client_id": "keys"}),
        ({}, {"client_id": "keys", "client_secret": "SECRET"}),
        (basic("disabled:SECRET"), {}),
    ],
)
def test_who_does_not_show_to_be_the_client_is_refused_in_the_same_words(
    served, headers, parameters
):
    secret = served.confidential().secret
    served.confidential("other")
    served.client("keys", authentication="private_key_jwt", jwks=jwks())
    disabled = served.confidential("disabled").secret
    served.run(clients.disable, served.authority, "disabled")
    of_whom = disabled if "disabled" in str(headers) else secret

    def filled(text):
        if text.startswith("Basic ") and "SECRET" in str(b64(text)):
            return basic(b64(text).replace("SECRET", of_whom))["Authorization"]
        return text.replace("SECRET", of_whom)

    headers = {name: filled(value) for name, value in headers.items()}
    answer = ask(served, headers, **{name: filled(value) for name, value in parameters.items()})

    assert (answer.status_code, answer.json()) == (401, FAILED)
    challenge = 'Basic realm="Salus"' if "Authorization" in headers else None
    assert answer.headers.get("www-authenticate") == challenge


def b64(header):
    try:
        return b64decode(header.partition(" ")[2]).decode()
    except ValueError:
        return ""


@pytest.mark.requirement("34", "Z11")
def test_two_credentials_at_once_are_refused(served):
    secret = served.confidential().secret
    served.client("keys", authentication="private_key_jwt", jwks=jwks())
    assertion = {
        "client_assertion_type": TYPE,
        "client_assertion": served.assertion(client="keys"),
    }

    for headers, parameters in (
        (basic(f"app:{secret}"), {"client_id": "app", "client_secret": secret}),
        (basic(f"app:{secret}"), assertion),
        ({}, {"client_id": "app", "client_secret": secret, **assertion}),
    ):
        answer = ask(served, headers, **parameters)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.requirement("34", "41")
def test_two_authorization_headers_are_refused(served):
    secret = served.confidential().secret
    header = ("Authorization", basic(f"app:{secret}")["Authorization"])
    media = ("Content-Type", "application/x-www-form-urlencoded")
    for path in (TOKEN, INTROSPECT, REVOKE):
        answer = served.http.post(
            path, content="token=x&grant_type=refresh_token", headers=[header, header, media]
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.requirement("34")
def test_the_client_id_beside_an_assertion_is_the_same(served):
    served.client("keys", authentication="private_key_jwt", jwks=jwks())
    for client_id, known in ((None, True), ("keys", True), ("other", False)):
        answer = ask(
            served,
            client_id=client_id,
            client_assertion_type=TYPE,
            client_assertion=served.assertion(client="keys"),
        )
        assert is_known(answer) is known


@pytest.mark.requirement("34")
def test_a_method_that_the_profile_does_not_have_cannot_be_registered(served):
    for fields in (
        {"profile": "smart-1", "authentication": "private_key_jwt", "jwks": jwks()},
        {"profile": "backend", "authentication": "client_secret", "redirect_uris": ()},
        {"profile": "backend", "authentication": "none", "redirect_uris": ()},
    ):
        with pytest.raises(OAuthError) as wrong:
            served.client(**fields)
        assert wrong.value.error == "invalid_client_metadata"


@pytest.mark.requirement("34")
def test_after_a_rotation_the_old_secret_counts_for_a_day(served):
    old = served.confidential().secret
    new = served.run(clients.rotate_secret, served.authority, "app")

    assert new != old
    assert is_known(ask(served, basic(f"app:{old}")))
    assert is_known(ask(served, basic(f"app:{new}")))
    served.clock.pass_(DAY)
    assert ask(served, basic(f"app:{old}")).status_code == 401
    assert is_known(ask(served, basic(f"app:{new}")))


def test_a_secret_can_be_rotated_only_where_there_is_one(served):
    served.client()

    assert served.run(clients.rotate_secret, served.authority, "app") is None
    assert served.run(clients.rotate_secret, served.authority, "nobody") is None


@pytest.mark.requirement("40", "M10")
def test_after_many_failures_an_address_waits_and_another_does_not(served):
    secret = served.confidential().secret
    for _ in range(60):
        assert ask(served, client_id="app", client_secret="guess").status_code == 401

    waits = ask(served, client_id="app", client_secret=secret)
    assert (waits.status_code, waits.json()["error"]) == (429, "slow_down")
    assert waits.headers["retry-after"] == "300"
    elsewhere = served.post(
        TOKEN,
        {
            "grant_type": "refresh_token",
            "refresh_token": "x",
            "client_id": "app",
            "client_secret": secret,
        },
        http=served.at("192.0.2.2"),
    )
    assert is_known(elsewhere)
    served.confidential("b")
    assert ask(served, client_id="b", client_secret="x").status_code == 401
    served.clock.pass_(5 * 60 * 1_000_000)
    assert is_known(ask(served, client_id="app", client_secret=secret))


@pytest.mark.requirement("40", "M10")
def test_failures_of_one_client_do_not_count_for_another_at_the_address(served):
    secret = served.confidential().secret
    served.client("keys", authentication="private_key_jwt", jwks=jwks())
    shown = {"client_assertion_type": TYPE}
    for _ in range(60):
        assert ask(served, basic("other:guess")).status_code == 401
        forged = served.assertion(client="keys", aud="elsewhere")
        assert ask(served, client_assertion=forged, **shown).status_code == 401

    assert ask(served, basic("other:guess")).status_code == 429
    fair = served.assertion(client="keys")
    assert ask(served, client_assertion=fair, **shown).status_code == 429
    assert is_known(ask(served, basic(f"app:{secret}")))
    refusals = [each for each in served.heard if each.what == "token-refused"]
    assert {each.client for each in refusals} == {"other", "keys", "app"}


@pytest.mark.requirement("40", "M10")
def test_an_address_waits_after_failures_under_many_names(served):
    for number in range(300):
        ask(served, client_id=f"guess-{number}")

    assert ask(served, client_id="app").status_code == 429
