"""Introspection and revocation."""

import json
from base64 import urlsafe_b64decode

import pytest

from smart_auth import clients, grants
from smart_auth.assertions import TYPE
from smart_auth.authority import INTROSPECT, REVOKE
from smart_auth.clients import INTROSPECT as TRUSTED
from smart_auth.errors import OAuthError
from smart_auth.model import CODES, GRANTS, HOUR, REFRESH, TOKENS, TOKENS_OF_GRANT, LaunchContext
from tests.smart_auth.served import BASE, jwks

SCOPES = ("launch", "openid", "fhirUser", "offline_access", "patient/Observation.rs?category=a|b")
INACTIVE = {"active": False}


def claims(token):
    part = token.split(".")[1]
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def bearing(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def app(served):
    """The secret of a confidential app."""
    return served.confidential().secret


def launched(served, secret, **code):
    context = LaunchContext(patient="p1", encounter="e1", intent="order")
    code = served.code(scopes=SCOPES, context=context, **code)
    return served.redeem(code, auth=("app", secret)).json()


def introspect(served, token, **options):
    return served.post(INTROSPECT, {"token": token, **options.pop("form", {})}, **options)


@pytest.mark.requirement("N1", "X1", "59", "T5")
def test_an_active_token_is_described_like_its_token_response(served, app):
    tokens = launched(served, app)
    signed = claims(tokens["id_token"])

    answer = introspect(served, tokens["access_token"], auth=("app", app))

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    now = served.clock() // 1_000_000
    assert answer.json() == {
        "active": True,
        "client_id": "app",
        "scope": tokens["scope"],
        "token_type": "Bearer",
        "iat": now,
        "exp": now + tokens["expires_in"],
        "aud": f"{BASE}/fhir",
        "iss": signed["iss"],
        "sub": signed["sub"],
        "fhirUser": signed["fhirUser"],
        "patient": "p1",
        "encounter": "e1",
        "intent": "order",
        "need_patient_banner": True,
        "smart_style_url": f"{BASE}/smart-style.json",
    }


@pytest.mark.requirement("N2", "42", "43")
def test_of_any_other_token_it_is_said_that_it_is_not_active_and_nothing_else(served, app):
    tokens = launched(served, app)
    code = served.code()

    for other in ("garbage", "", tokens["refresh_token"], tokens["id_token"], code, "\U0001f600"):
        answer = introspect(served, other or " ", auth=("app", app))
        assert (answer.status_code, answer.json()) == (200, INACTIVE)
    served.clock.pass_(HOUR)
    assert introspect(served, tokens["access_token"], auth=("app", app)).json() == INACTIVE


@pytest.mark.requirement("N3", "43")
def test_who_asks_authenticates(served, app):
    token = launched(served, app)["access_token"]
    served.client("public")

    for options in (
        {},
        {"auth": ("app", "wrong")},
        {"form": {"client_id": "public"}},
        {"headers": bearing("garbage")},
        {"headers": {"Cookie": f"salus={token}"}},
    ):
        answer = introspect(served, token, **options)
        assert answer.status_code == 401
        assert "active" not in answer.json()
    assert introspect(served, token, auth=("app", app)).json()["active"]
    assert introspect(served, token, headers=bearing(token)).json()["active"]
    lower = {"Authorization": f"bEARER {token}"}
    assert introspect(served, token, headers=lower).json()["active"]


@pytest.mark.requirement("N3", "43")
def test_an_app_learns_nothing_of_others_and_a_trusted_server_of_all(served, app):
    token = launched(served, app)["access_token"]
    other = served.confidential("other").secret
    rs = served.confidential("rs", scopes=(TRUSTED,)).secret
    served.backend(scopes=(TRUSTED, "system/Patient.rs"))
    of_service = served.serve(served.assertion()).json()["access_token"]

    assert introspect(served, token, auth=("other", other)).json() == INACTIVE
    assert introspect(served, token, auth=("rs", rs)).json()["patient"] == "p1"
    assert introspect(served, token, headers=bearing(of_service)).json()["patient"] == "p1"
    shown = {"client_assertion_type": TYPE, "client_assertion": served.assertion()}
    assert introspect(served, token, form=shown).json()["patient"] == "p1"


@pytest.mark.requirement("N1")
def test_a_token_of_a_service_has_no_user(served):
    served.backend()
    token = served.serve(served.assertion()).json()["access_token"]

    answer = introspect(served, token, headers=bearing(token)).json()

    assert answer.keys() == {
        "active",
        "client_id",
        "scope",
        "token_type",
        "iat",
        "exp",
        "aud",
        "iss",
    }


@pytest.mark.requirement("63", "N2", "Z5")
@pytest.mark.parametrize("how", ["grant", "revocation", "client", "account"])
def test_a_token_whose_grant_ended_a_moment_ago_is_not_active(served, app, how):
    tokens = launched(served, app)
    rs = served.confidential("rs", scopes=(TRUSTED,)).secret
    grant = served.transaction(lambda tx: GRANTS.all(tx))[0][0]

    async def end(tx):
        await grants.end(served.authority, tx, grant)

    async def end_of_account(tx):
        assert await grants.end_of_account(served.authority, tx, "anna") == [grant]

    if how == "grant":
        served.transaction(end)
    elif how == "account":
        served.transaction(end_of_account)
    elif how == "client":
        served.run(clients.disable, served.authority, "app")
    else:
        form = {"token": tokens["refresh_token"]}
        assert served.post(REVOKE, form, auth=("app", app)).status_code == 200

    assert introspect(served, tokens["access_token"], auth=("rs", rs)).json() == INACTIVE


# --- revocation ----------------------------------------------------------------------------------


@pytest.mark.requirement("V1", "Z5", "F5")
def test_revoking_a_refresh_token_ends_everything_of_its_grant(served, app):
    tokens = launched(served, app)
    again = served.refresh(tokens["refresh_token"], auth=("app", app)).json()
    served.grant(again["access_token"])

    answer = served.post(REVOKE, {"token": again["refresh_token"]}, auth=("app", app))

    assert answer.status_code == 200
    for token in (tokens, again):
        with pytest.raises(OAuthError):
            served.grant(token["access_token"])
        assert served.refresh(token["refresh_token"], auth=("app", app)).status_code == 400
    for space in (GRANTS, TOKENS, REFRESH, CODES, TOKENS_OF_GRANT):
        assert served.transaction(lambda tx, space=space: space.all(tx)) == []
    assert [each.detail for each in served.heard if each.what == "revoke"] == ["grant"]


@pytest.mark.requirement("V1")
def test_revoking_an_access_token_leaves_the_refresh_token(served, app):
    tokens = launched(served, app)
    served.grant(tokens["access_token"])

    form = {"token": tokens["access_token"], "token_type_hint": "access_token"}
    assert served.post(REVOKE, form, auth=("app", app)).status_code == 200

    with pytest.raises(OAuthError):
        served.grant(tokens["access_token"])
    assert served.refresh(tokens["refresh_token"], auth=("app", app)).status_code == 200


@pytest.mark.requirement("V1", "43")
def test_a_client_revokes_its_own_tokens_only_and_learns_nothing_of_others(served, app):
    tokens = launched(served, app)
    other = served.confidential("other").secret

    answers = [
        served.post(REVOKE, {"token": token}, auth=("other", other))
        for token in ("garbage", tokens["access_token"], tokens["refresh_token"])
    ]

    assert [(each.status_code, each.content) for each in answers] == [(200, b"{}")] * 3
    assert len({tuple(sorted(each.headers.items())) for each in answers}) == 1
    assert served.grant(tokens["access_token"]).client == "app"
    assert served.refresh(tokens["refresh_token"], auth=("app", app)).status_code == 200


@pytest.mark.requirement("V1", "43")
def test_to_revoke_a_client_authenticates_and_a_public_one_names_itself(served, app):
    tokens = launched(served, app)

    for options in ({}, {"auth": ("app", "wrong")}):
        answer = served.post(REVOKE, {"token": tokens["refresh_token"]}, **options)
        assert answer.status_code == 401
    served.client("public")
    mine = served.redeem(served.code("public"), client_id="public").json()
    form = {"token": mine["refresh_token"], "client_id": "public"}
    assert served.post(REVOKE, form).status_code == 200
    assert served.refresh(mine["refresh_token"], client_id="public").status_code == 400


@pytest.mark.parametrize("path", [INTROSPECT, REVOKE])
def test_a_token_is_named(served, app, path):
    answer = served.post(path, {"token": ""}, auth=("app", app))

    assert answer.status_code == 400
    assert answer.json() == {"error": "invalid_request", "error_description": "`token` is missing"}


@pytest.mark.requirement("V1")
def test_an_assertion_may_be_made_for_the_endpoint_where_it_is_used(served):
    served.client(authentication="private_key_jwt", jwks=jwks())
    for audience, status in ((REVOKE, 200), ("/oauth/token", 200), (INTROSPECT, 401)):
        form = {
            "token": "x",
            "client_assertion_type": TYPE,
            "client_assertion": served.assertion(client="app", aud=BASE + audience),
        }
        assert served.post(REVOKE, form).status_code == status
