"""A code in exchange for tokens."""

import asyncio
import hashlib
import re
from urllib.parse import urlencode

import pytest

from smart_auth import grants
from smart_auth.authority import TOKEN
from smart_auth.clients import redirect_allowed
from smart_auth.errors import OAuthError
from smart_auth.model import GRANTS, MINUTE, SECOND, TOKENS, LaunchContext
from smart_auth.profiles import PROFILES
from smart_auth.records import digest
from tests.smart_auth.served import (
    BASE,
    CALLBACK,
    CHALLENGE,
    STANDALONE,
    VERIFIER,
    Served,
    base64url,
    jwks,
)

USED = {
    "error": "invalid_grant",
    "error_description": "The code was used before: what was granted with it is ended",
}


def refused(answer, status, error):
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    return answer.json()["error_description"]


@pytest.mark.requirement("T1", "T2", "T4", "T5", "R4", "Y2")
def test_a_code_is_exchanged_for_tokens_and_the_launch_context(served):
    answer = served.granted()

    tokens = {name: answer.pop(name) for name in ("access_token", "refresh_token", "id_token")}
    assert all(isinstance(each, str) and each for each in tokens.values())
    assert answer == {
        "token_type": "Bearer",
        "expires_in": 3600,
        "scope": "openid fhirUser launch/patient offline_access patient/Patient.rs",
        "patient": "p1",
        "smart_style_url": f"{BASE}/smart-style.json",
    }


@pytest.mark.requirement("T4")
def test_without_openid_and_offline_access_there_is_neither_id_token_nor_refresh_token(served):
    answer = served.granted(scopes=("launch/patient", "patient/Patient.rs"))

    assert sorted(answer) == [
        "access_token",
        "expires_in",
        "patient",
        "scope",
        "smart_style_url",
        "token_type",
    ]


@pytest.mark.requirement("T5", "R6", "X4")
def test_an_ehr_launch_says_encounter_banner_and_style(served):
    context = LaunchContext(patient="p1", encounter="e1", intent="reconcile-medications")
    answer = served.granted(scopes=("launch", "patient/Patient.rs"), context=context)

    assert {
        name: answer[name] for name in answer if name not in ("access_token", "expires_in")
    } == {
        "token_type": "Bearer",
        "scope": "launch patient/Patient.rs",
        "patient": "p1",
        "encounter": "e1",
        "need_patient_banner": True,
        "intent": "reconcile-medications",
        "smart_style_url": f"{BASE}/smart-style.json",
    }


@pytest.mark.requirement("T5")
def test_a_banner_that_the_ehr_shows_itself_is_not_needed(served):
    context = LaunchContext(patient="p1", need_patient_banner=False)

    assert (
        served.granted(scopes=("launch", "patient/Patient.rs"), context=context)[
            "need_patient_banner"
        ]
        is False
    )


@pytest.mark.requirement("T5")
def test_the_tenant_is_said_when_the_operator_set_one(tmp_path):
    with Served(tmp_path, tenant="north") as served:
        assert served.granted()["tenant"] == "north"


@pytest.mark.requirement("T6")
@pytest.mark.parametrize(
    ("profile", "said"), [("smart-2", [{"reference": "ImagingStudy/s1"}]), ("smart-1", None)]
)
def test_fhir_context_is_sent_as_objects_and_not_to_version_1(served, profile, said):
    served.client(profile=profile)
    context = LaunchContext(patient="p1", fhir_context=({"reference": "ImagingStudy/s1"},))

    assert served.redeem(served.code(context=context)).json().get("fhirContext") == said


@pytest.mark.requirement("T6")
def test_fhir_context_is_left_out_when_there_is_none(served):
    assert "fhirContext" not in served.granted()


@pytest.mark.requirement("T3")
def test_no_cache_keeps_tokens_of_a_code_or_a_refresh_or_a_refusal(served):
    served.client()
    answer = served.redeem(served.code())
    again = served.refresh(answer.json()["refresh_token"])
    refusal = served.refresh("unknown")

    for each in (answer, again, refusal):
        assert each.headers["cache-control"] == "no-store"
        assert each.headers["pragma"] == "no-cache"
        assert each.headers["content-type"] == "application/json"


@pytest.mark.requirement("T1", "Z10", "Z11")
def test_a_confidential_client_sends_basic_with_or_without_its_client_id(served):
    secret = served.confidential().secret
    for client_id in (None, "app"):
        answer = served.redeem(served.code(), client_id=client_id, auth=("app", secret))
        assert answer.status_code == 200


@pytest.mark.requirement("T1")
@pytest.mark.parametrize("alg", ["RS384", "ES384"])
def test_an_asymmetric_client_of_users_sends_an_assertion_without_its_client_id(served, alg):
    served.client(authentication="private_key_jwt", jwks=jwks())
    answer = served.redeem(
        served.code(),
        client_id=None,
        client_assertion_type="urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        client_assertion=served.assertion(alg, client="app"),
    )

    assert answer.status_code == 200


@pytest.mark.requirement("T1")
def test_parameters_that_are_not_known_are_ignored(served):
    served.client()

    assert served.redeem(served.code(), state="s", foo="bar").status_code == 200


@pytest.mark.requirement("T7")
def test_a_wrong_code_is_400_and_an_unknown_client_401(served):
    served.client("public")
    secret = served.confidential().secret

    refused(served.redeem("wrong", client_id="public"), 400, "invalid_grant")
    refused(served.redeem("wrong", auth=("app", secret)), 400, "invalid_grant")
    unknown = served.redeem(served.code(), client_id=None, auth=("nobody", secret))
    refused(unknown, 401, "invalid_client")
    assert unknown.headers["www-authenticate"] == 'Basic realm="Salus"'


@pytest.mark.requirement("T8", "33")
@pytest.mark.parametrize(
    "verifier", [None, "", "w" * 43, CHALLENGE, "v" * 42, "v" * 129, "v " * 22]
)
def test_a_verifier_that_does_not_answer_the_challenge_is_refused(served, verifier):
    served.client()
    code = served.code()

    refused(served.redeem(code, code_verifier=verifier), 400, "invalid_grant")
    assert served.redeem(code).status_code == 200


@pytest.mark.requirement("33", "T8")
@pytest.mark.parametrize(
    ("verifier", "accepted"),
    [("a" * 43, True), ("a-._~Z9" * 18 + "ab", True), ("a" * 42, False), ("a" * 129, False)]
    + [("a" * 43 + sign, False) for sign in "+/=% \u00e4"],
)
def test_a_verifier_has_the_form_of_the_standard_even_if_it_fits(served, verifier, accepted):
    served.client()
    hashed = hashlib.sha256(verifier.encode()).digest()

    answer = served.redeem(served.code(challenge=base64url(hashed)), code_verifier=verifier)

    assert (answer.status_code == 200) is accepted


@pytest.mark.requirement("33")
def test_a_verifier_without_a_challenge_is_refused(served):
    secret = served.confidential(profile="smart-1").secret
    code = served.code(challenge=None)

    why = refused(served.redeem(code, auth=("app", secret)), 400, "invalid_grant")
    assert why == "`code_verifier` has no challenge to answer"
    assert served.redeem(code, code_verifier=None, auth=("app", secret)).status_code == 200


@pytest.mark.requirement("T12", "BS1", "M9")
@pytest.mark.parametrize("kind", ["not_a_grant_type", "password", "implicit"])
def test_a_wrong_grant_type_is_400(served, kind):
    served.client()

    refused(served.redeem(served.code(), grant_type=kind), 400, "unsupported_grant_type")


def test_a_grant_type_that_the_client_is_not_registered_for_is_refused(served):
    served.client()

    refused(
        served.redeem(served.code(), grant_type="client_credentials", scope="system/Patient.rs"),
        400,
        "unauthorized_client",
    )


@pytest.mark.parametrize("name", ["grant_type", "code", "redirect_uri"])
def test_a_parameter_that_is_missing_is_named(served, name):
    served.client()

    assert refused(served.redeem(served.code(), **{name: None}), 400, "invalid_request") == (
        f"`{name}` is missing"
    )


@pytest.mark.requirement("33", "Z3", "Z5", "Y1")
def test_a_code_that_is_used_again_ends_what_it_gave(served):
    served.client()
    code = served.code()
    first = served.redeem(code).json()
    assert served.grant(first["access_token"]).patient == "p1"

    assert served.redeem(code).json() == USED

    with pytest.raises(OAuthError) as unknown:
        served.grant(first["access_token"])
    assert unknown.value.error == "invalid_token"
    refused(served.refresh(first["refresh_token"]), 400, "invalid_grant")
    refused(served.redeem(code), 400, "invalid_grant")


@pytest.mark.requirement("33", "Z3")
def test_of_fifty_redemptions_at_once_one_succeeds(served):
    served.client()
    form = {
        "grant_type": "authorization_code",
        "code": served.code(),
        "redirect_uri": CALLBACK,
        "client_id": "app",
        "code_verifier": VERIFIER,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    async def all_at_once():
        post = served.http.asynchronous.post
        return await asyncio.gather(
            *(post(TOKEN, content=urlencode(form), headers=headers) for _ in range(50))
        )

    statuses = [each.status_code for each in served.run(all_at_once)]

    assert sorted(statuses) == [200] + [400] * 49


@pytest.mark.requirement("33", "Y1")
def test_a_code_lives_a_minute(served):
    served.client()
    early, late = served.code(), served.code()
    served.clock.pass_(MINUTE - 1)
    assert served.redeem(early).status_code == 200
    served.clock.pass_(1)

    assert refused(served.redeem(late), 400, "invalid_grant") == "The code has expired"


@pytest.mark.requirement("33", "Z3")
def test_a_code_is_worth_nothing_to_another_client_or_at_another_redirect_uri(served):
    served.client()
    served.client("other")
    code = served.code()

    refused(served.redeem(code, client_id="other"), 400, "invalid_grant")
    refused(served.redeem(code, redirect_uri=CALLBACK + "/"), 400, "invalid_grant")
    assert served.redeem(code).status_code == 200


@pytest.mark.requirement("33")
def test_a_code_of_an_account_whose_grants_were_ended_is_worth_nothing(served):
    served.client()
    code = served.code()
    grant = served.transaction(lambda tx: GRANTS.all(tx))[0][0]

    async def end(tx):
        return await grants.end(served.authority, tx, grant)

    assert served.transaction(end).id == grant
    refused(served.redeem(code), 400, "invalid_grant")


@pytest.mark.requirement("Z1", "Z2")
def test_tokens_and_codes_are_random_of_plain_letters_and_kept_as_digests(served):
    served.client()
    code = served.code()
    answer = served.redeem(code).json()
    secrets = (code, answer["access_token"], answer["refresh_token"])

    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", each) for each in secrets)
    kept = served.transaction(lambda tx: TOKENS.all(tx))
    assert [key for key, _ in kept] == [digest(answer["access_token"])]
    folder = served._folder / "data"
    for path in folder.rglob("*"):
        if path.is_file():
            assert not any(each.encode() in path.read_bytes() for each in secrets)


@pytest.mark.requirement("Z9")
@pytest.mark.parametrize(
    ("body", "media"),
    [
        ("grant_type=refresh_token&grant_type=refresh_token", "application/x-www-form-urlencoded"),
        ("code=&code=1", "application/x-www-form-urlencoded"),
        ("code=%zz", "application/x-www-form-urlencoded"),
        ("code=%ff", "application/x-www-form-urlencoded"),
        ("code=%00", "application/x-www-form-urlencoded"),
        ("code=\u00e4", "application/x-www-form-urlencoded"),
        ("grant_type=refresh_token", "application/x-www-form-urlencoded; charset=latin-1"),
        ("grant_type=refresh_token", "text/plain"),
        ('{"grant_type":"refresh_token"}', "application/json"),
        ("&".join(f"p{n}=1" for n in range(1001)), "application/x-www-form-urlencoded"),
    ],
)
def test_a_form_is_read_strictly(served, body, media):
    answer = served.http.post(TOKEN, content=body.encode(), headers={"Content-Type": media})

    refused(answer, 400, "invalid_request")


@pytest.mark.requirement("Z9", "53")
def test_a_form_has_a_size_that_it_may_reach_and_not_pass(served):
    served.client()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    start = "grant_type=refresh_token&client_id=app&refresh_token=x&padding="

    fits = served.http.post(TOKEN, content=start.ljust(65_536, "a"), headers=headers)
    refused(fits, 400, "invalid_grant")
    beyond = served.http.post(TOKEN, content=start.ljust(65_537, "a"), headers=headers)
    refused(beyond, 413, "invalid_request")


@pytest.mark.requirement("41")
@pytest.mark.parametrize("name", ["access_token", "client_secret"])
def test_nothing_secret_is_taken_from_an_address(served, name):
    served.client()
    answer = served.post(f"{TOKEN}?{name}=x", {"grant_type": "refresh_token"})

    refused(answer, 400, "invalid_request")


@pytest.mark.requirement("E8", "54")
def test_a_token_and_a_refusal_are_told_to_the_audit(served):
    served.client()
    code = served.code()
    served.redeem(code)
    served.redeem("wrong")

    told = [each for each in served.heard if each.what.startswith("token")]
    assert [
        (each.what, each.success, each.client, each.account, each.who, each.patient, each.detail)
        for each in told
    ] == [
        ("token", True, "app", "anna", "Practitioner/anna", "p1", "authorization_code"),
        ("token-refused", False, "app", None, None, None, "invalid_grant"),
    ]
    assert {each.address for each in told} == {"192.0.2.1"}
    assert not any(code in str(each) for each in told)


@pytest.mark.requirement("R1", "59")
def test_scopes_are_answered_as_they_were_granted_to_the_letter(served):
    scopes = (
        "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory",
        "patient/Condition.read",
        "patient/Observation.rs?category=a%7Cb",
    )

    assert served.granted(scopes=scopes)["scope"] == " ".join(scopes)


@pytest.mark.requirement("A11", "55")
def test_a_profile_says_from_whom_a_challenge_is_demanded():
    demanded = {
        name: (each.demands_challenge(False), each.demands_challenge(True))
        for name, each in PROFILES.items()
    }

    assert demanded == {
        "smart-1": (True, False),
        "smart-2": (True, True),
        "backend": (False, False),
    }


@pytest.mark.requirement("A10", "26")
@pytest.mark.parametrize(
    ("registered", "asked", "public", "confidential"),
    [
        (CALLBACK, CALLBACK, True, True),
        (CALLBACK, CALLBACK + "/", False, False),
        (CALLBACK, CALLBACK + "?a=b", False, False),
        (CALLBACK, CALLBACK + "#f", False, False),
        (CALLBACK, CALLBACK.replace("app.", "APP."), False, False),
        (CALLBACK, CALLBACK.replace("https", "HTTPS"), False, False),
        (CALLBACK, CALLBACK.replace("app.example", "app.example:444"), False, False),
        (CALLBACK, CALLBACK.replace("app.example", "app.example.evil.org"), False, False),
        (CALLBACK, CALLBACK.replace("app.example", "app.example@evil.org"), False, False),
        (CALLBACK, CALLBACK + "/../callback", False, False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:51234/cb", True, False),
        ("http://127.0.0.1:1/cb", "http://127.0.0.1:51234/cb", True, False),
        ("http://[::1]/cb", "http://[::1]:51234/cb", True, False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:51234/cb2", False, False),
        ("http://127.0.0.1/cb", "http://localhost:51234/cb", False, False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:99999/cb", False, False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:1@evil.org/cb", False, False),
        ("com.example.app:/cb", "com.example.app:/cb", True, True),
        ("com.example.app:/cb", "com.example.app:/cb2", False, False),
    ],
)
def test_a_redirect_goes_to_what_is_registered(served, registered, asked, public, confidential):
    app = served.client("public", redirect_uris=(registered,)).client
    server = served.confidential("server", redirect_uris=(registered,)).client

    assert redirect_allowed(app, asked) is public
    assert redirect_allowed(server, asked) is confidential


@pytest.mark.requirement("Y1")
def test_the_grant_of_a_code_that_nobody_fetched_is_forgotten(served):
    served.client()
    served.code()
    served.clock.pass_(60 * MINUTE + SECOND)

    assert served.transaction(lambda tx: GRANTS.all(tx)) == []


def test_a_scope_that_was_withdrawn_from_the_client_is_not_in_its_token(served):
    served.client(scopes=("launch/patient", "patient/Patient.rs"))

    answer = served.redeem(served.code(scopes=STANDALONE)).json()

    assert answer["scope"] == "launch/patient patient/Patient.rs"
    assert "refresh_token" not in answer
