"""The id_token, the keys that sign it, and userinfo."""

import asyncio
import hashlib
import json
from base64 import urlsafe_b64decode

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey
from joserfc.jwt import JWTClaimsRegistry

from fhir_server.storage.keys import FileKeys
from smart_auth.authority import USERINFO
from smart_auth.identity import subject
from smart_auth.model import DAY, KEYS, SECOND, Account, LaunchContext
from tests.smart_auth.served import ACCOUNT, BASE, Served, base64url

KEYS_PATH = "/oauth/jwks"
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


def published(served):
    return served.http.get(KEYS_PATH).json()


def verified(served, token):
    return jwt.decode(token, KeySet.import_key_set(published(served)), algorithms=["RS256"])


def parts(token):
    return [json.loads(urlsafe_b64decode(each + "==")) for each in token.split(".")[:2]]


@pytest.mark.requirement("I1", "I2")
def test_the_id_token_is_signed_and_says_who_signed_in(served):
    tokens = served.granted(nonce="n-1")
    header, _ = parts(tokens["id_token"])
    kids = [each["kid"] for each in published(served)["keys"]]
    assert header == {"alg": "RS256", "kid": kids[0], "typ": "JWT"}

    claims = dict(verified(served, tokens["id_token"]).claims)

    JWTClaimsRegistry(
        now=served.clock() // SECOND,
        iss={"essential": True, "value": f"{BASE}/fhir"},
        aud={"essential": True, "value": "app"},
        exp={"essential": True},
        iat={"essential": True},
    ).validate(claims)
    subject = claims.pop("sub")
    assert 0 < len(subject) < 256
    assert "anna" not in subject
    now = served.clock() // SECOND
    half = hashlib.sha256(tokens["access_token"].encode()).digest()[:16]
    assert claims == {
        "iss": f"{BASE}/fhir",
        "aud": "app",
        "iat": now,
        "exp": now + 600,
        "auth_time": now - 5,
        "amr": ["pwd", "otp", "mfa"],
        "nonce": "n-1",
        "at_hash": base64url(half),
        "fhirUser": f"{BASE}/fhir/Practitioner/anna",
    }


@pytest.mark.requirement("I1", "I2")
def test_without_fhir_user_and_nonce_they_are_not_said(served):
    tokens = served.granted(scopes=("openid",), context=LaunchContext())

    claims = verified(served, tokens["id_token"]).claims
    assert not {"fhirUser", "nonce"} & claims.keys()


@pytest.mark.requirement("I1")
def test_a_subject_stays_the_same_and_is_not_handed_on_with_the_name(served):
    served.client()
    one, two = (
        verified(served, served.redeem(served.code()).json()["id_token"]).claims["sub"]
        for _ in range(2)
    )
    site = served.authority.site
    later = Account(name=ACCOUNT.name, created=ACCOUNT.created + 1)
    assert one == two == subject(site, ACCOUNT)
    assert subject(site, later) != one


@pytest.mark.requirement("44")
def test_an_id_token_with_another_algorithm_or_altered_is_not_of_this_server(served):
    token = served.granted()["id_token"]
    head, body, signature = token.split(".")
    header, claims = parts(token)
    key = published(served)["keys"][0]
    hmac = jwt.encode(
        {"alg": "HS256", "kid": key["kid"]},
        claims,
        OctKey.import_key(key["n"]),
        algorithms=["HS256"],
    )

    verified(served, token)
    for forged in (
        f"{base64url({**header, 'alg': 'none'})}.{body}.",
        f"{head}.{base64url({**claims, 'aud': 'other'})}.{signature}",
        hmac,
    ):
        with pytest.raises(JoseError):
            verified(served, forged)


@pytest.mark.requirement("44", "Z8")
def test_only_the_public_half_of_keys_is_shown(served):
    served.granted()

    for key in published(served)["keys"]:
        assert key.keys() == {"kty", "n", "e", "kid", "use", "alg"}
        assert not key.keys() & PRIVATE


@pytest.mark.requirement("Z8")
def test_signing_keys_are_kept_wrapped(served):
    served.granted()
    ((kid, sealed),) = served.transaction(lambda tx: KEYS.all(tx))

    assert (sealed.kid, sealed.alg) == (kid, "RS256")
    assert b'"d"' not in sealed.wrapped
    assert sealed.wrapped.startswith(b"SK1\n")


@pytest.mark.requirement("44", "Z8")
def test_keys_rotate_with_overlap(served):
    first = served.granted()["id_token"]
    old = parts(first)[0]["kid"]
    served.clock.pass_(89 * DAY + SECOND)

    # The next key is published a day before it signs.
    kids = [each["kid"] for each in published(served)["keys"]]
    assert (len(kids), kids[0]) == (2, old)
    assert parts(served.redeem(served.code()).json()["id_token"])[0]["kid"] == old
    served.clock.pass_(DAY)
    # What the old key signed is verified while the new one signs.
    assert parts(served.redeem(served.code()).json()["id_token"])[0]["kid"] == kids[1]
    verified(served, first)
    served.clock.pass_(DAY)
    assert [each["kid"] for each in published(served)["keys"]] == [kids[1]]
    with pytest.raises(JoseError):
        verified(served, first)


@pytest.mark.requirement("44", "Z8")
def test_an_operator_can_change_keys_at_once(served):
    first = served.granted()["id_token"]

    new = served.run(served.tokens.signing.rotate)

    assert parts(served.redeem(served.code()).json()["id_token"])[0]["kid"] == new
    verified(served, first)


@pytest.mark.requirement("Z8")
def test_a_restart_goes_on_with_the_same_keys(tmp_path):
    with Served(tmp_path) as served:
        before = published(served)
    with Served(tmp_path) as served:
        assert published(served) == before


@pytest.mark.requirement("I1")
def test_a_code_is_not_spent_when_nothing_can_be_signed(served, monkeypatch):
    served.client()
    code = served.code()

    def locked(*_):
        raise OSError("the keys cannot be read")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="cannot be read"):
        broken.setattr(FileKeys, "wrap", locked)
        served.redeem(code)

    assert "id_token" in served.redeem(code).json()


@pytest.mark.requirement("I1")
def test_many_at_once_make_one_key(served):
    async def all_at_once():
        get = served.http.asynchronous.get
        return await asyncio.gather(*(get(KEYS_PATH) for _ in range(10)))

    assert len({each.content for each in served.run(all_at_once)}) == 1


# --- userinfo ------------------------------------------------------------------------------------


def userinfo(served, token, method="GET", **headers):
    sent = {"Authorization": f"Bearer {token}", **headers}
    return served.http.request(method, USERINFO, headers=sent)


@pytest.mark.requirement("I2")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_userinfo_says_what_the_id_token_says(served, method):
    tokens = served.granted()
    claims = verified(served, tokens["id_token"]).claims

    answer = userinfo(served, tokens["access_token"], method)

    assert answer.json() == {"sub": claims["sub"], "fhirUser": claims["fhirUser"]}
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.requirement("42", "M2")
def test_userinfo_is_for_a_token_with_openid(served):
    none = served.http.get(USERINFO)
    assert (none.status_code, none.headers["www-authenticate"]) == (401, 'Bearer realm="Salus"')
    wrong = userinfo(served, "garbage")
    assert wrong.status_code == 401
    assert wrong.headers["www-authenticate"] == 'Bearer realm="Salus", error="invalid_token"'
    without = served.granted(scopes=("launch/patient", "patient/Patient.rs"))["access_token"]
    refused = userinfo(served, without)
    assert (refused.status_code, refused.json()["error"]) == (403, "insufficient_scope")
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]


@pytest.mark.requirement("41")
def test_a_token_counts_in_the_header_only(served):
    token = served.granted()["access_token"]

    for answer in (
        served.http.get(USERINFO, params={"access_token": token}),
        served.http.get(USERINFO, headers={"Cookie": f"access_token={token}"}),
        served.http.get(USERINFO, headers={"Authorization": f"Basic {token}"}),
        served.http.get(USERINFO, headers={"Authorization": "Bearer " + token + "x" * 65_536}),
    ):
        assert answer.status_code == 401
    lower = served.http.get(USERINFO, headers={"Authorization": f"bearer {token}"})
    assert lower.status_code == 200
    two = served.http.get(USERINFO, headers=[("Authorization", f"Bearer {token}")] * 2)
    assert (two.status_code, two.json()["error"]) == (400, "invalid_request")
