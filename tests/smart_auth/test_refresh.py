"""A refresh token in exchange for tokens."""

import asyncio
from urllib.parse import urlencode

import pytest
from msgspec.structs import replace

from smart_auth import clients
from smart_auth.assertions import TYPE
from smart_auth.authority import TOKEN
from smart_auth.errors import OAuthError
from smart_auth.model import ACCOUNTS, DAY, HOUR, MINUTE, REFRESH, SECOND
from smart_auth.registrable import Registrable
from tests.smart_auth.served import ACCOUNT, CALLBACK, jwks

GRANULAR = "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
OFFLINE = ("launch/patient", "offline_access", "patient/Patient.rs", GRANULAR)
ONLINE = ("launch/patient", "online_access", "patient/Patient.rs")


def refused(answer, error="invalid_grant", status=400):
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    return answer.json()["error_description"]


@pytest.mark.requirement("T5", "T9", "X1", "59")
@pytest.mark.parametrize("scope", [None, " ".join(OFFLINE)])
def test_a_refresh_gives_the_scopes_and_the_context_of_before(served, scope):
    first = served.granted(scopes=OFFLINE)

    again = served.refresh(first["refresh_token"], scope=scope).json()

    new = {"access_token", "refresh_token"}
    assert {name: again[name] for name in again.keys() - new} == {
        name: first[name] for name in first.keys() - new
    }
    assert not {again[name] for name in new} & {first[name] for name in new}
    assert served.grant(again["access_token"]).patient == "p1"
    assert served.grant(first["access_token"]).patient == "p1"


@pytest.mark.requirement("T9", "36", "X3")
def test_an_unknown_refresh_token_or_one_of_another_client_is_refused(served):
    first = served.granted(scopes=OFFLINE)
    served.client("other")
    secret = served.confidential("server").secret

    refused(served.refresh("unknown"))
    refused(served.refresh(first["access_token"]))
    refused(served.refresh(first["refresh_token"], client_id="other"))
    refused(served.refresh(first["refresh_token"], client_id=None, auth=("server", secret)))
    assert served.refresh(first["refresh_token"]).status_code == 200


@pytest.mark.requirement("T10")
def test_a_confidential_client_refreshes_with_its_secret_only(served):
    secret = served.confidential().secret
    first = served.redeem(served.code(scopes=OFFLINE), auth=("app", secret)).json()

    refused(served.refresh(first["refresh_token"]), "invalid_client", 401)
    refused(served.refresh(first["refresh_token"], client_id=None))
    assert served.refresh(first["refresh_token"], auth=("app", secret)).status_code == 200


@pytest.mark.requirement("T10")
def test_an_asymmetric_client_refreshes_with_a_new_assertion(served):
    served.client(authentication="private_key_jwt", jwks=jwks())
    one = served.assertion(client="app")
    shown = {"client_id": None, "client_assertion_type": TYPE}
    first = served.redeem(served.code(scopes=OFFLINE), client_assertion=one, **shown).json()

    used = served.refresh(first["refresh_token"], client_assertion=one, **shown)
    refused(used, "invalid_client", 401)
    two = served.assertion(client="app")
    again = served.refresh(first["refresh_token"], client_assertion=two, **shown)
    assert again.status_code == 200


@pytest.mark.requirement("62")
def test_a_public_client_need_not_name_itself(served):
    first = served.granted(scopes=OFFLINE)

    assert served.refresh(first["refresh_token"], client_id=None).status_code == 200


@pytest.mark.requirement("36", "59", "X3")
@pytest.mark.parametrize(
    "scope",
    [
        "patient/Observation.rs",
        "patient/Patient.cruds",
        "patient/Patient.rs patient/Condition.rs",
        "patient/*.rs",
        "user/Patient.rs",
        "system/Patient.rs",
        "online_access",
        "openid",
        "patient/Observation.rs?category=other|laboratory",
        "patient/Patient.sr",
    ],
)
def test_a_refresh_is_not_widened(served, scope):
    first = served.granted(scopes=OFFLINE)

    refused(served.refresh(first["refresh_token"], scope=scope), "invalid_scope")
    assert served.refresh(first["refresh_token"]).status_code == 200


@pytest.mark.requirement("36", "T9")
@pytest.mark.parametrize(
    "scope", ["patient/Patient.r", "patient/Patient.rs", GRANULAR, GRANULAR + "&status=final"]
)
def test_a_refresh_may_be_for_less_and_the_next_for_all_again(served, scope):
    first = served.granted(scopes=OFFLINE)

    less = served.refresh(first["refresh_token"], scope=scope).json()

    assert less["scope"] == scope
    assert len(served.grant(less["access_token"]).scopes) == 1
    assert served.refresh(less["refresh_token"]).json()["scope"] == " ".join(OFFLINE)


@pytest.mark.requirement("36", "Z4", "Z5")
def test_a_rotated_token_that_comes_again_ends_the_grant(served):
    first = served.granted(scopes=OFFLINE)
    second = served.refresh(first["refresh_token"]).json()
    served.clock.pass_(20 * SECOND + 1)

    assert refused(served.refresh(first["refresh_token"])) == (
        "The refresh token was used before: its grant is ended"
    )
    refused(served.refresh(second["refresh_token"]))
    for token in (first, second):
        with pytest.raises(OAuthError):
            served.grant(token["access_token"])


@pytest.mark.requirement("36", "Z4")
def test_requests_in_parallel_with_one_refresh_token_all_succeed(served):
    first = served.granted(scopes=OFFLINE)
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    async def all_at_once():
        post = served.http.asynchronous.post
        made = [post(TOKEN, content=urlencode(form), headers=headers) for _ in range(5)]
        return await asyncio.gather(*made)

    answers = [each.json() for each in served.run(all_at_once)]

    assert len({each["refresh_token"] for each in answers}) == 5
    served.clock.pass_(MINUTE)
    for each in answers:
        assert served.refresh(each["refresh_token"]).status_code == 200


@pytest.mark.requirement("36", "Z4")
def test_the_grace_begins_with_the_first_exchange_and_is_not_prolonged(served):
    first = served.granted(scopes=OFFLINE)
    served.refresh(first["refresh_token"])
    served.clock.pass_(15 * SECOND)
    assert served.refresh(first["refresh_token"]).status_code == 200
    served.clock.pass_(15 * SECOND)

    refused(served.refresh(first["refresh_token"]))


@pytest.mark.requirement("Y4")
def test_a_refresh_token_lives_over_three_months_and_anew_with_each_use(served):
    token = served.granted(scopes=OFFLINE)["refresh_token"]
    for _ in range(3):
        served.clock.pass_(170 * DAY)
        token = served.refresh(token).json()["refresh_token"]
    served.clock.pass_(180 * DAY)

    refused(served.refresh(token))


@pytest.mark.requirement("36", "Y2")
def test_an_access_token_ends_after_an_hour_and_the_refresh_goes_on(served):
    first = served.granted(scopes=OFFLINE)
    served.clock.pass_(HOUR)

    with pytest.raises(OAuthError):
        served.grant(first["access_token"])
    assert served.refresh(first["refresh_token"]).status_code == 200


@pytest.mark.requirement("36", "42")
@pytest.mark.parametrize(
    "change", [{"disabled": True}, {"epoch": 2}], ids=["disabled", "password reset"]
)
def test_nothing_works_for_an_account_that_was_disabled_or_reset(served, change):
    first = served.granted(scopes=OFFLINE)
    code = served.code()
    account = replace(ACCOUNT, **change)

    served.transaction(lambda tx: ACCOUNTS.write(tx, account.name, account))
    served.authority.changed(None)

    refused(served.refresh(first["refresh_token"]))
    refused(served.redeem(code))
    with pytest.raises(OAuthError):
        served.grant(first["access_token"])


@pytest.mark.requirement("36", "42")
def test_a_disabled_client_gets_and_uses_nothing_until_it_is_enabled(served):
    first = served.granted(scopes=OFFLINE)
    served.grant(first["access_token"])

    served.run(clients.disable, served.authority, "app")

    refused(served.refresh(first["refresh_token"]), "invalid_client", 401)
    refused(served.refresh(first["refresh_token"], client_id=None))
    with pytest.raises(OAuthError):
        served.grant(first["access_token"])
    served.run(clients.enable, served.authority, "app")
    assert served.refresh(first["refresh_token"]).status_code == 200
    assert served.grant(first["access_token"]).client == "app"


@pytest.mark.requirement("36", "P4")
def test_a_scope_that_was_withdrawn_from_the_client_is_gone_at_once(served):
    first = served.granted(scopes=OFFLINE)
    asked = Registrable(name="App", redirect_uris=(CALLBACK,), scopes=OFFLINE[:3])

    served.run(clients.update, served.authority, "app", asked)

    assert [each.type for each in served.grant(first["access_token"]).scopes] == ["Patient"]
    assert served.refresh(first["refresh_token"]).json()["scope"] == " ".join(OFFLINE[:3])


@pytest.mark.requirement("36", "P4")
def test_offline_access_that_was_withdrawn_from_the_client_is_gone_at_once(served):
    first = served.granted(scopes=OFFLINE)
    without = tuple(each for each in OFFLINE if each != "offline_access")
    asked = Registrable(name="App", redirect_uris=(CALLBACK,), scopes=without)

    served.run(clients.update, served.authority, "app", asked)

    refused(served.refresh(first["refresh_token"]))
    assert served.grant(first["access_token"]).patient == "p1"


@pytest.mark.requirement("36", "X1")
def test_the_patient_cannot_be_swapped_by_a_refresh(served):
    first = served.granted(scopes=OFFLINE)

    again = served.refresh(first["refresh_token"], patient="p2", launch="x").json()

    assert again["patient"] == "p1"
    assert served.grant(again["access_token"]).patient == "p1"


@pytest.mark.requirement("X2")
def test_online_access_ends_with_the_session(served):
    served.client()
    served.account()
    session = served.session()
    first = served.redeem(served.code(scopes=ONLINE, session=session)).json()
    again = served.refresh(first["refresh_token"]).json()
    assert served.grant(again["access_token"]).patient == "p1"

    served.end_sessions()

    with pytest.raises(OAuthError):
        served.grant(again["access_token"])
    refused(served.refresh(again["refresh_token"]))


@pytest.mark.requirement("X2")
def test_online_access_ends_when_the_session_is_over_by_itself(served):
    served.client()
    served.account()
    session = served.session(until=served.clock() + 30 * MINUTE)
    first = served.redeem(served.code(scopes=ONLINE, session=session)).json()
    served.grant(first["access_token"])
    served.clock.pass_(30 * MINUTE)

    with pytest.raises(OAuthError):
        served.grant(first["access_token"])
    refused(served.refresh(first["refresh_token"]))


@pytest.mark.requirement("Z4")
def test_tokens_that_were_exchanged_are_forgotten_in_time(served):
    token = served.granted(scopes=OFFLINE)["refresh_token"]
    for _ in range(3):
        token = served.refresh(token).json()["refresh_token"]
        served.clock.pass_(20 * DAY)

    assert len(served.transaction(lambda tx: REFRESH.all(tx))) == 2
