"""Authlib as an independent client: services that sign, and an app that people use.

https://docs.authlib.org/, https://hl7.org/fhir/smart-app-launch/backend-services.html
"""

import asyncio
import json
import time

import httpx
import pytest
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuth2Client
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from tests.clients.smart import REDIRECT

Key = RSAKey | ECKey
KEYS = {
    "RS384": lambda: RSAKey.generate_key(2048),
    "ES384": lambda: ECKey.generate_key("P-384"),
}


def service(demo, tmp_path, algorithm: str, scope: str) -> tuple[str, Key, str]:
    """Register a backend service with a key of its own: its id, key and key id."""
    key, id = KEYS[algorithm](), f"authlib-{algorithm.lower()}-{tmp_path.name}"
    about = {"kid": key.thumbprint(), "alg": algorithm, "use": "sig"}
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps({"keys": [{**key.as_dict(private=False), **about}]}))
    demo.register(id, "--profile", "backend", "--jwks", str(jwks), "--scope", scope)
    return id, key, about["kid"]


def signing(demo, id: str, key: Key, kid: str, algorithm: str, kind=AsyncOAuth2Client):
    token_url = f"{demo.base}/oauth/token"
    client = kind(id, key, token_endpoint_auth_method="private_key_jwt")
    five_minutes = {"exp": int(time.time()) + 300}  # SMART allows no more; Authlib would take 60
    client.register_client_auth_method(
        PrivateKeyJWT(token_url, claims=five_minutes, headers={"kid": kid}, alg=algorithm)
    )
    return client, token_url


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.requirement("BS1", "BS3", "BS6", "T1", "Y3")
def test_a_service_that_signs_has_a_token_and_reads(demo, tmp_path, algorithm):
    async def use() -> None:
        client, token_url = signing(
            demo, *service(demo, tmp_path, algorithm, "system/*.rs"), algorithm
        )
        async with client:
            token = await client.fetch_token(
                token_url, grant_type="client_credentials", scope="system/Patient.rs"
            )
            found = await client.get(f"{demo.url}/Patient", params={"_summary": "count"})
            other = await client.get(f"{demo.url}/Observation")

        assert {each: token[each] for each in ("scope", "expires_in", "token_type")} == {
            "scope": "system/Patient.rs",
            "expires_in": 300,
            "token_type": "Bearer",
        }
        assert "refresh_token" not in token
        assert (found.status_code, found.json()["total"]) == (200, 4)
        assert other.status_code == 403

    asyncio.run(use())


@pytest.mark.requirement("BS7", "BS6")
def test_a_service_has_another_token_whenever_it_needs_one(demo, tmp_path):
    id, key, kid = service(demo, tmp_path, "ES384", "system/*.read")
    tokens = set()
    for _ in range(3):
        # Anew each time: Authlib keeps the `jti` of its first assertion in the claims given to it.
        client, token_url = signing(demo, id, key, kid, "ES384", OAuth2Client)
        with client:
            asked = {"grant_type": "client_credentials", "scope": "system/*.read"}
            tokens.add(client.fetch_token(token_url, **asked)["access_token"])
            assert client.get(f"{demo.url}/Observation?_count=1").status_code == 200
    assert len(tokens) == 3


@pytest.mark.requirement("BS2", "BS5", "35")
def test_a_service_with_another_key_or_more_scopes_is_refused(demo, tmp_path):
    id, key, kid = service(demo, tmp_path, "ES384", "system/Patient.rs")
    stranger = ECKey.generate_key("P-384")
    asked = {"grant_type": "client_credentials", "scope": "system/Observation.rs"}

    forged, token_url = signing(demo, id, stranger, kid, "ES384", OAuth2Client)
    with forged, pytest.raises(OAuthError) as refused:
        forged.fetch_token(token_url, **asked)
    assert refused.value.error == "invalid_client"

    client, _ = signing(demo, id, key, kid, "ES384", OAuth2Client)
    with client, pytest.raises(OAuthError) as refused:
        client.fetch_token(token_url, **asked)
    assert refused.value.error == "invalid_scope"


@pytest.mark.requirement("A2", "A3", "T2", "T4", "T9", "T10", "N1", "N2", "V1", "63")
def test_an_app_that_people_use_goes_the_whole_way(demo, patients):
    secret = demo.register("authlib-app", "--secret", "--redirect-uri", REDIRECT)
    scope = "launch/patient openid fhirUser offline_access patient/Patient.rs"
    token_url = f"{demo.base}/oauth/token"
    client = OAuth2Client(
        "authlib-app", secret, redirect_uri=REDIRECT, scope=scope, code_challenge_method="S256"
    )
    verifier = "v" * 50
    with client:
        url, state = client.create_authorization_url(
            f"{demo.base}/oauth/authorize", aud=demo.url, code_verifier=verifier
        )
        back = demo.browser("doctor").authorize(url, patients[1])
        token = client.fetch_token(
            token_url, authorization_response=back, state=state, code_verifier=verifier
        )
        assert token["patient"] == patients[1]
        assert token["scope"] == scope
        asked = client.introspect_token(
            f"{demo.base}/oauth/introspect", token=token["access_token"]
        )
        told = asked.json()
        assert (told["active"], told["scope"], told["patient"]) == (True, scope, patients[1])
        assert client.get(f"{demo.url}/Patient/{patients[1]}").status_code == 200

        again = client.refresh_token(token_url)
        assert again["access_token"] != token["access_token"]
        assert again["patient"] == patients[1]
        assert client.get(f"{demo.url}/Patient/{patients[1]}").status_code == 200

        client.revoke_token(f"{demo.base}/oauth/revoke", token=again["refresh_token"])
        asked = client.introspect_token(
            f"{demo.base}/oauth/introspect", token=again["access_token"]
        )
        assert asked.json() == {"active": False}
        assert client.get(f"{demo.url}/Patient/{patients[1]}").status_code == 401


@pytest.mark.requirement("I1", "I2", "D12", "T4", "44")
def test_who_signed_in_is_what_openid_connect_says_it_is(demo, patients):
    secret = demo.register("authlib-oidc", "--secret", "--redirect-uri", REDIRECT)
    with OAuth2Client(
        "authlib-oidc",
        secret,
        redirect_uri=REDIRECT,
        scope="openid fhirUser",
        code_challenge_method="S256",
    ) as client:
        about = httpx.get(f"{demo.url}/.well-known/openid-configuration").json()
        url, state = client.create_authorization_url(
            about["authorization_endpoint"], aud=demo.url, code_verifier="w" * 50, nonce="n-1"
        )
        token = client.fetch_token(
            about["token_endpoint"],
            authorization_response=demo.browser("doctor").authorize(url),
            state=state,
            code_verifier="w" * 50,
        )
        keys = KeySet.import_key_set(httpx.get(about["jwks_uri"]).json())
        signed = jwt.decode(token["id_token"], keys, algorithms=["RS256"])
        claims = CodeIDToken(
            signed.claims,
            signed.header,
            {
                "iss": {"essential": True, "value": about["issuer"]},
                "aud": {"essential": True, "value": "authlib-oidc"},
                "nonce": {"essential": True, "value": "n-1"},
                "fhirUser": {"essential": True},
            },
            {"client_id": "authlib-oidc", "nonce": "n-1", "access_token": token["access_token"]},
        )
        claims.validate(leeway=5)

        assert len(signed.claims["sub"]) < 256
        own = client.get(signed.claims["fhirUser"])
        assert (own.status_code, own.json()["resourceType"]) == (200, "Practitioner")
