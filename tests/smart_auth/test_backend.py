"""Backend services: assertions, client credentials."""

import asyncio
from urllib.parse import urlencode

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from msgspec.structs import replace

from smart_auth import clients
from smart_auth.assertions import TYPE
from smart_auth.authority import TOKEN
from smart_auth.errors import OAuthError
from smart_auth.grant import Scope
from smart_auth.model import CLIENTS, JTI, SECOND
from tests.smart_auth.served import BASE, EC, RSA, base64url, jwks

MINUTES = 60


def refused(answer, error="invalid_client", status=401):
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    return answer.json()["error_description"]


@pytest.mark.requirement("BS1", "BS3", "BS6", "BS7", "T1", "T2", "Y3")
@pytest.mark.parametrize("alg", ["RS384", "ES384"])
def test_a_service_gets_a_token_for_five_minutes_and_no_refresh_token(served, alg):
    served.backend()

    answer = served.serve(served.assertion(alg))

    assert answer.status_code == 200
    body = answer.json()
    token = body.pop("access_token")
    assert body == {"token_type": "Bearer", "expires_in": 300, "scope": "system/Patient.rs"}
    grant = served.grant(token)
    assert grant.scopes == (Scope("system", "Patient", "rs"),)
    assert (grant.client, grant.agent, grant.patient, grant.reach, grant.identity) == (
        "service",
        None,
        None,
        frozenset(),
        False,
    )
    served.clock.pass_(300 * SECOND)
    with pytest.raises(OAuthError):
        served.grant(token)


@pytest.mark.requirement("BS7")
def test_what_is_bound_to_the_grant_of_a_service_goes_on_with_its_next_token(served):
    served.backend()
    one = served.serve(served.assertion()).json()["access_token"]
    served.clock.pass_(200 * SECOND)
    two = served.serve(served.assertion()).json()["access_token"]

    assert served.grant(one).id == served.grant(two).id


@pytest.mark.requirement("BS6", "S3")
@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("system/*.read", "system/Patient.read system/Observation.read"),
        ("system/*.rs", "system/Patient.rs system/Observation.rs"),
        ("system/Patient.cruds", "system/Patient.rs"),
        ("system/Patient.r system/Encounter.rs", "system/Patient.r"),
        ("system/Observation.rs?code=a|b", "system/Observation.rs?code=a|b"),
        ("system/Patient.rs profile offline_access openid", "system/Patient.rs"),
    ],
)
def test_a_service_is_granted_no_more_than_it_registered(served, asked, granted):
    served.backend()

    body = served.serve(served.assertion(), scope=asked).json()

    assert body["scope"] == granted
    assert "refresh_token" not in body


@pytest.mark.requirement("37", "M9")
@pytest.mark.parametrize(
    "scope",
    [
        "patient/Patient.rs",
        "user/Patient.rs",
        "system/Patient.rs patient/Patient.rs",
        "system/Encounter.rs",
        "offline_access",
        "system/Patient.sr",
        "system/Patient",
        "launch",
    ],
)
def test_client_credentials_give_nothing_else(served, scope):
    served.backend()

    refused(served.serve(served.assertion(), scope=scope), "invalid_scope", 400)


@pytest.mark.requirement("37")
def test_a_scope_is_named(served):
    served.backend()

    why = refused(served.serve(served.assertion(), scope=None), "invalid_request", 400)
    assert why == "`scope` is missing"


@pytest.mark.requirement("37", "S4")
def test_a_scope_that_cannot_be_held_against_data_is_refused(served):
    served.backend()
    served.ward.refused[Scope("system", "Patient", "rs", (("foo", "bar"),))] = "foo is unknown"

    answer = served.serve(served.assertion(), scope="system/Patient.rs?foo=bar")
    assert refused(answer, "invalid_scope", 400) == "foo is unknown"


@pytest.mark.requirement("37")
def test_an_app_of_users_gets_nothing_by_client_credentials(served):
    served.client(authentication="private_key_jwt", jwks=jwks())

    answer = served.serve(served.assertion(client="app"))
    refused(answer, "unauthorized_client", 400)


def test_a_service_gets_nothing_by_a_code(served):
    served.backend()
    answer = served.redeem(
        served.code(),
        client_id=None,
        client_assertion_type=TYPE,
        client_assertion=served.assertion(),
    )

    refused(answer, "unauthorized_client", 400)


@pytest.mark.requirement("T12", "BS1", "BS2")
def test_a_wrong_assertion_type_is_refused(served):
    served.backend()

    refused(served.serve(served.assertion(), client_assertion_type="not_an_assertion_type"))
    refused(served.serve(served.assertion(), client_assertion_type=None))
    refused(served.serve(None))


# --- forged and stale assertions -----------------------------------------------------------------


@pytest.mark.requirement("35", "61", "BS2", "BS5", "Z6")
@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"iss": "other"}, "both the client id"),
        ({"sub": "other"}, "both the client id"),
        ({"iss": None}, "both the client id"),
        ({"iss": "nobody", "sub": "nobody"}, "not of a client"),
        ({"aud": f"{BASE}/fhir"}, "`aud`"),
        ({"aud": BASE}, "`aud`"),
        ({"aud": f"{BASE}{TOKEN}/"}, "`aud`"),
        ({"aud": "https://evil.example/token"}, "`aud`"),
        ({"aud": [f"{BASE}{TOKEN}", "https://evil.example/token"]}, "`aud`"),
        ({"aud": None}, "`aud`"),
        ({"exp": None}, "`exp` is missing"),
        ({"exp": "soon"}, "`exp`"),
        ({"exp": True}, "`exp`"),
        ({"exp": 1e300}, "`exp`"),
        ({"jti": None}, "`jti`"),
        ({"jti": ""}, "`jti`"),
        ({"jti": 7}, "`jti`"),
        ({"jti": "x" * 257}, "`jti`"),
    ],
)
def test_an_assertion_with_a_wrong_claim_is_refused(served, claims, why):
    served.backend()

    assert why in refused(served.serve(served.assertion(**claims)))


@pytest.mark.requirement("35", "BS5")
@pytest.mark.parametrize(
    ("name", "seconds", "accepted"),
    [
        ("exp", 300, True),
        ("exp", 360, True),
        ("exp", 362, False),
        ("exp", -59, True),
        ("exp", -60, False),
        ("nbf", 0, True),
        ("nbf", 60, True),
        ("nbf", 62, False),
        ("iat", 62, False),
        ("iat", -3600, True),
    ],
)
def test_the_times_of_an_assertion_count_to_within_a_minute(served, name, seconds, accepted):
    served.backend()
    claim = {name: served.clock() // SECOND + seconds}

    assert (served.serve(served.assertion(**claim)).status_code == 200) is accepted


@pytest.mark.requirement("35")
def test_a_list_of_the_one_audience_is_taken(served):
    served.backend()

    assert served.serve(served.assertion(aud=[f"{BASE}{TOKEN}"])).status_code == 200


@pytest.mark.requirement("35", "BS2", "BS5")
def test_an_assertion_is_used_once_also_by_many_at_once(served):
    served.backend()
    used = served.assertion(jti="one")
    assert served.serve(used).status_code == 200
    assert refused(served.serve(used)) == "The assertion was used before: make one for each request"
    assert len(served.transaction(lambda tx: JTI.all(tx))) == 1

    form = {
        "grant_type": "client_credentials",
        "scope": "system/Patient.rs",
        "client_assertion_type": TYPE,
        "client_assertion": served.assertion(jti="two"),
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    async def all_at_once():
        post = served.http.asynchronous.post
        made = [post(TOKEN, content=urlencode(form), headers=headers) for _ in range(20)]
        return await asyncio.gather(*made)

    statuses = [each.status_code for each in served.run(all_at_once)]
    assert sorted(statuses) == [200] + [401] * 19


@pytest.mark.requirement("35", "BS5")
def test_two_clients_may_use_the_same_jti(served):
    served.backend()
    served.backend("second")

    for client in ("service", "second"):
        assert served.serve(served.assertion(client=client, jti="same")).status_code == 200


@pytest.mark.requirement("35")
def test_what_is_refused_for_another_reason_does_not_use_up_the_jti(served):
    served.backend()
    refused(served.serve(served.assertion(jti="one", aud=BASE)))

    assert served.serve(served.assertion(jti="one")).status_code == 200


def unsigned(served, **header):
    head = {"alg": "none", "kid": "rsa-1", **header}
    return f"{base64url(head)}.{base64url(served.claims())}."


def signed(served, header, payload=None, key=RSA, alg="RS384"):
    """Signed correctly, over a header and a payload that no library would write."""
    header = header if isinstance(header, bytes) else base64url(header).encode()
    payload = base64url(payload or served.claims()).encode()
    model = jws.JWSRegistry(algorithms=[alg]).get_alg(alg)
    signature = model.sign(header + b"." + payload, key)
    return b".".join((header, payload, base64url(signature).encode())).decode()


@pytest.mark.requirement("35", "BS2")
def test_a_hand_made_assertion_is_fair(served):
    served.backend()

    assert served.serve(signed(served, {"alg": "RS384", "kid": "rsa-1"})).status_code == 200


@pytest.mark.requirement("35", "BS2")
def test_an_assertion_with_a_wrong_signature_or_algorithm_is_refused(served):
    served.backend()
    weak = RSAKey.generate_key(2048, parameters={"kid": "rsa-1"})
    pem = RSA.as_pem(private=False)
    small = ECKey.generate_key("P-256", parameters={"kid": "ec-1"})
    claims = served.claims()
    hmac = jwt.encode(
        {"alg": "HS256", "kid": "rsa-1"},
        claims,
        OctKey.import_key(base64url(pem)),
        algorithms=["HS256"],
    )
    of_256 = jwt.encode({"alg": "ES256", "kid": "ec-1"}, claims, small, algorithms=["ES256"])
    head, body, signature = served.assertion().split(".")
    another = base64url({**served.claims(), "jti": "another"})

    for assertion in (
        served.assertion(key=weak),
        unsigned(served),
        unsigned(served, alg="NONE"),
        hmac,
        of_256,
        served.assertion("RS256", key=RSA),
        f"{head}.{another}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body}.{signature}.x",
        "x",
        "..",
        f"{base64url([])}.{body}.{signature}",
        f"{head}.{base64url([])}.{signature}",
    ):
        refused(served.serve(assertion))


@pytest.mark.requirement("35")
@pytest.mark.parametrize(
    "header",
    [
        {"kid": "unknown"},
        {"kid": None},
        {"kid": 7},
        {"kid": "ec-1"},
        {"jku": "https://evil.example/jwks"},
        {"jku": f"{BASE}/oauth/jwks"},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"typ": "at+jwt"},
        {"x": "y" * 1200},
    ],
)
def test_a_header_that_is_not_understood_or_names_another_key_is_refused(served, header):
    served.backend()
    head = {"alg": "RS384", "kid": "rsa-1", "typ": "JWT", **header}
    head = {name: value for name, value in head.items() if value is not None}

    refused(served.serve(signed(served, head)))


@pytest.mark.requirement("35")
def test_keys_that_an_assertion_brings_along_are_not_used(served):
    served.backend()
    own = RSAKey.generate_key(2048, parameters={"kid": "rsa-1"})
    small = {name: value for name, value in own.as_dict(private=False).items() if name != "n"}

    forged = served.assertion(key=own, header={"x5u": "https://evil.example/certificate"})
    refused(served.serve(forged))
    with_key = signed(served, {"alg": "RS384", "kid": "rsa-1", "jwk": small}, key=own)
    refused(served.serve(with_key))
    assert (
        served.serve(signed(served, {"alg": "RS384", "kid": "rsa-1", "jwk": small})).status_code
        == 200
    )


@pytest.mark.requirement("35", "53")
def test_an_assertion_that_is_too_long_or_ambiguous_is_refused(served):
    served.backend()
    twice = b'{"alg":"RS384","kid":"rsa-1","kid":"rsa-1"}'

    assert served.serve(served.assertion(padding="x" * 11_000)).status_code == 200
    assert "at most" in refused(served.serve(served.assertion(padding="x" * 12_300)))
    refused(served.serve(signed(served, base64url(twice).encode())))
    refused(
        served.serve(
            signed(served, {"alg": "RS384", "kid": "rsa-1"}, b'{"iss":"service","iss":"service"}')
        )
    )
    refused(served.serve(f"{base64url(b'[' * 6000)}.{base64url(b'{}')}.x"))


@pytest.mark.requirement("35", "BS4")
def test_of_several_keys_with_one_kid_none_is_used(served):
    other = RSAKey.generate_key(2048, parameters={"kid": "rsa-1"})
    served.backend(jwks=jwks(RSA, other, EC))

    assert "several" in refused(served.serve(served.assertion()))
    assert served.serve(served.assertion("ES384")).status_code == 200


@pytest.mark.requirement("BS3", "BS4")
def test_a_key_is_found_by_type_too_when_two_share_a_kid(served):
    both = [replace_kid(RSA, "k"), replace_kid(EC, "k")]
    served.backend(jwks={"keys": both})

    for alg in ("RS384", "ES384"):
        assert served.serve(served.assertion(alg, header={"kid": "k"})).status_code == 200


def replace_kid(key, kid):
    return {**key.as_dict(private=False), "kid": kid, "key_ops": ["verify"], "ext": True}


def weak():
    """An RSA key of 1024 bits."""
    modulus = base64url(bytes([255] * 127 + [1]))
    return {"kty": "RSA", "kid": "weak", "n": modulus, "e": "AQAB"}


@pytest.mark.requirement("35", "45")
@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"keys": []}, "no key with a `kid`"),
        ({"keys": "x"}, "no JWK Set"),
        ({"keys": [1]}, "no JWK Set"),
        ({}, "no JWK Set"),
        ({"keys": [RSA.as_dict(private=True)]}, "private"),
        ({"keys": [{"kty": "oct", "k": "AAAA", "kid": "a"}]}, "private or symmetric"),
        ({"keys": [{**RSA.as_dict(private=False), "use": "enc"}]}, "no key with a `kid`"),
        ({"keys": [{**RSA.as_dict(private=False), "alg": "RS256"}]}, "no key with a `kid`"),
        ({"keys": [{**RSA.as_dict(private=False), "key_ops": ["sign"]}]}, "no key with a `kid`"),
        ({"keys": [weak()]}, "2048 bits"),
        (jwks(ECKey.generate_key("P-256", parameters={"kid": "p"})), "no key with a `kid`"),
        ({"keys": [{"kty": "RSA", "kid": "a", "n": "!", "e": "AQAB"}]}, "cannot be read"),
        ({"keys": [RSA.as_dict(private=False)] * 51}, "more than 50"),
    ],
)
def test_keys_that_are_weak_private_or_of_no_use_cannot_be_registered(served, keys, why):
    with pytest.raises(OAuthError) as wrong:
        served.backend(jwks=keys)
    assert wrong.value.error == "invalid_client_metadata"
    assert why in wrong.value.description


@pytest.mark.requirement("34", "35")
def test_a_disabled_service_gets_nothing_and_its_token_ends(served):
    served.backend()
    token = served.serve(served.assertion()).json()["access_token"]
    served.grant(token)
    served.run(clients.disable, served.authority, "service")

    refused(served.serve(served.assertion()))
    with pytest.raises(OAuthError):
        served.grant(token)


@pytest.mark.requirement("P4", "BS6")
def test_a_service_is_registered_with_the_scopes_that_it_may_have(served):
    with pytest.raises(OAuthError):
        served.backend(scopes=())
    with pytest.raises(OAuthError):
        served.backend(scopes=("patient/Patient.rs",))


@pytest.mark.requirement("P4")
def test_a_scope_withdrawn_from_a_service_is_gone_from_its_tokens(served):
    service = served.backend().client
    token = served.serve(served.assertion(), scope="system/*.rs").json()["access_token"]
    assert len(served.grant(token).scopes) == 2

    async def withdraw(tx):
        await CLIENTS.write(tx, "service", replace(service, scopes=("system/Patient.rs",)))

    served.transaction(withdraw)
    served.authority.changed(None)

    assert served.grant(token).scopes == (Scope("system", "Patient", "rs"),)
