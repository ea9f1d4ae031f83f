"""A backend service of a dozen lines, with nothing but an HTTP client and a signature.

https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html
"""

import json
import secrets
import time

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEYS = {"RS384": RSAKey.generate_key(2048), "ES384": ECKey.generate_key("P-384")}


def public(algorithm: str) -> dict[str, object]:
    """As the official kits write their keys, with members that say too much."""
    key = KEYS[algorithm]
    about = {"kid": key.thumbprint(), "alg": algorithm, "use": "sig", "ext": True}
    return {**key.as_dict(private=False), **about, "key_ops": ["verify"]}


def assertion(
    demo,
    id: str,
    algorithm: str,
    more: dict[str, object] | None = None,
    key: RSAKey | ECKey | None = None,
    **claims: object,
) -> str:
    """As the official kits make it: `exp` in exactly five minutes, no `iat`. `more`: members of
    its header; `key`: signs in place of the registered one."""
    usual = {
        "iss": id,
        "sub": id,
        "aud": f"{demo.base}/oauth/token",
        "exp": int(time.time()) + 300,
        "jti": secrets.token_hex(16),
    }
    header = {"alg": algorithm, "kid": KEYS[algorithm].thumbprint(), "typ": "JWT", **(more or {})}
    registry = JWSRegistry(algorithms=[algorithm])
    registry.max_header_length = 100_000
    return jwt.encode(header, {**usual, **claims}, key or KEYS[algorithm], registry=registry)


def asked(demo, signed: str, scope: str = "system/*.rs", **more: str) -> httpx.Response:
    sent = {
        "grant_type": "client_credentials",
        "scope": scope,
        "client_assertion_type": BEARER,
        "client_assertion": signed,
    }
    return httpx.post(f"{demo.base}/oauth/token", data={**sent, **more})


@pytest.fixture(scope="module")
def client(demo, tmp_path_factory):
    jwks = tmp_path_factory.mktemp("keys") / "jwks.json"
    jwks.write_text(json.dumps({"keys": [public("ES384"), public("RS384")]}))
    demo.register("plain", "--profile", "backend", "--jwks", str(jwks), "--scope", "system/*.rs")
    return "plain"


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.requirement("BS1", "BS3", "T1", "T2", "T3", "Y3")
def test_each_algorithm_is_answered_with_a_token_that_reads(demo, client, algorithm):
    answer = asked(demo, assertion(demo, client, algorithm))

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    token = answer.json()
    assert {**token, "access_token": "?"} == {
        "access_token": "?",
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "system/*.rs",
    }
    with demo.fhir(token["access_token"]) as fhir:
        assert fhir.get("/Patient").status_code == 200
        assert fhir.post("/Patient", json={"resourceType": "Patient"}).status_code == 403


@pytest.mark.requirement("BS1", "T12")
def test_a_wrong_grant_or_assertion_type_is_refused(demo, client):
    signed = assertion(demo, client, "ES384")

    wrong_grant = asked(demo, signed, grant_type="password")
    wrong_type = asked(demo, signed, client_assertion_type="jwt")
    assert (wrong_grant.status_code, wrong_grant.json()["error"]) == (400, "unsupported_grant_type")
    assert wrong_type.status_code in (400, 401)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://other.example/token"},
        {"exp": 1},
        {"exp": 4_000_000_000},
        {"iss": "somebody-else"},
        {"sub": "somebody-else"},
    ],
    ids=str,
)
@pytest.mark.requirement("BS2", "BS5", "35", "61")
def test_an_assertion_with_a_wrong_claim_is_refused(demo, client, claims):
    answer = asked(demo, assertion(demo, client, "ES384", **claims))

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.requirement("BS2", "BS5", "35")
def test_an_assertion_works_once(demo, client):
    signed = assertion(demo, client, "ES384")

    assert asked(demo, signed).status_code == 200
    assert asked(demo, signed).json()["error"] == "invalid_client"


@pytest.mark.requirement("60", "35")
def test_a_header_is_short_and_no_key_in_it_counts(demo, client):
    long = asked(demo, assertion(demo, client, "ES384", {"x5c": ["A" * 400] * 2}))
    stranger = ECKey.generate_key("P-384")
    brought = {"jwk": stranger.as_dict(private=False)}
    forged = asked(demo, assertion(demo, client, "ES384", brought, key=stranger))
    ignored = asked(demo, assertion(demo, client, "ES384", brought))

    for answer in (long, forged):
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert ignored.status_code == 200


@pytest.mark.requirement("39", "T12")
def test_a_token_is_not_exchanged_for_another(demo, client):
    exchange = "urn:ietf:params:oauth:grant-type:token-exchange"
    answer = asked(demo, assertion(demo, client, "ES384"), grant_type=exchange)

    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")


@pytest.mark.requirement("BS6", "37")
def test_a_service_is_granted_no_user_scopes_and_no_refresh_token(demo, client):
    for scope in ("patient/*.rs", "user/*.rs", "offline_access"):
        answer = asked(demo, assertion(demo, client, "ES384"), scope)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
    mixed = asked(demo, assertion(demo, client, "ES384"), "system/*.read offline_access")
    assert mixed.json()["scope"] == "system/*.read"
    assert "refresh_token" not in mixed.json()
