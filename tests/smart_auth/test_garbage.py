"""Requests that make no sense are refused in words, whatever they hold: never by an error of ours."""

import json
from base64 import b64encode
from random import Random

import pytest

from smart_auth.assertions import TYPE
from smart_auth.authority import INTROSPECT, REGISTER, REVOKE, TOKEN, Policy
from tests.smart_auth.served import RSA, Served, base64url, jwks

TEXTS = (
    "",
    "app",
    "service",
    "a\u0000b",
    "\u00e4\U0001f600",
    "%",
    "\ufffd",
    " ",
    "'; DROP TABLE kept;--",
    "x" * 20_000,
    "../../x",
    "patient/Patient.rs",
    "system/*.cruds",
    "system/Patient.rs?a=%ff",
    "{}",
    "null",
)
KINDS = ("authorization_code", "refresh_token", "client_credentials", "x", "")
NAMES = """grant_type code redirect_uri client_id client_secret code_verifier refresh_token scope
token token_type_hint client_assertion client_assertion_type""".split()


def assertion(chance):
    values = (None, 1, -1, 1e308, True, "x", [], {}, [["x"]], "service", 2**70, "\ud800")
    head = {"alg": chance.choice(("RS384", "none", 7, None)), "kid": chance.choice(values)}
    body = {name: chance.choice(values) for name in ("iss", "sub", "aud", "exp", "jti", "nbf")}
    if chance.random() < 0.5:
        body |= {"iss": "service", "sub": "service"}
        head |= {"alg": "RS384", "kid": "rsa-1"}
    return f"{base64url(head)}.{base64url(body)}.{base64url(bytes(chance.randrange(300)))}"


def form(chance):
    found = {name: chance.choice(TEXTS) for name in NAMES if chance.random() < 0.4}
    if chance.random() < 0.9:
        found["grant_type"] = chance.choice(KINDS)
    if chance.random() < 0.4:
        found |= {"client_assertion": assertion(chance), "client_assertion_type": TYPE}
    return found


def header(chance):
    octets = bytes(chance.randrange(256) for _ in range(chance.randrange(30)))
    credentials = chance.choice(
        (b64encode(octets), b64encode(b"app:" + octets), octets.hex().encode())
    )
    scheme = chance.choice((b"Basic ", b"Bearer ", b"basic  ", b"DPoP ", b""))
    return {b"Authorization": scheme + credentials} if chance.random() < 0.5 else {}


@pytest.mark.requirement("53", "M9")
@pytest.mark.parametrize("seed", range(4))
def test_no_form_makes_an_endpoint_fail(served, seed):
    chance = Random(seed)
    served.backend()
    served.client()
    for _ in range(100):
        path = chance.choice((TOKEN, INTROSPECT, REVOKE))
        answer = served.post(path, form(chance), headers=header(chance))
        served.clock.pass_(10_000_000)  # so that no limit is in the way
        assert answer.status_code in (200, 400, 401, 413), answer.text
        if answer.status_code != 200:
            assert answer.json().keys() == {"error", "error_description"}
    assert not [each for each in served.heard if each.what == "token"]


def register(served, metadata):
    """Written by the standard library, which escapes lone surrogates."""
    headers = {"Content-Type": "application/json"}
    return served.http.post(REGISTER, content=json.dumps(metadata), headers=headers)


VALUES = (None, 1, True, "", "x", [], ["x"], {}, {"a": 1}, [None], "https://a.example/", "\ud83d")
MEMBERS = """client_name redirect_uris token_endpoint_auth_method grant_types response_types scope
contacts jwks jwks_uri logo_uri software_statement application_type initiate_login_uri""".split()


@pytest.mark.requirement("45", "53")
@pytest.mark.parametrize("seed", range(2))
def test_no_metadata_makes_registration_fail(tmp_path, seed):
    chance = Random(seed)
    usual = {"client_name": "App", "redirect_uris": ["https://a.example/"]}
    with Served(tmp_path, Policy(registration="open")) as served:
        for _ in range(150):
            changed = chance.sample(MEMBERS, chance.randrange(4))
            sent = {**usual, **{name: chance.choice(VALUES) for name in changed}}
            answer = register(served, sent)
            served.clock.pass_(10_000_000_000)
            assert answer.status_code in (201, 400), answer.text


@pytest.mark.requirement("35", "53")
@pytest.mark.parametrize("member", ["kty", "kid", "n", "e", "use", "alg", "key_ops", "crv"])
def test_no_key_set_makes_registration_fail(tmp_path, member):
    key = RSA.as_dict(private=False)
    with Served(tmp_path, Policy(registration="open")) as served:
        for value in (*VALUES, "AQAB", "AA", "!", 3, -1, "A" * 5000):
            sent = {
                "client_name": "App",
                "redirect_uris": ["https://a.example/"],
                "jwks": {"keys": [{**key, member: value}]},
            }
            answer = register(served, sent)
            assert answer.status_code in (201, 400), answer.text
        fair = {**sent, "jwks": jwks()}
        assert register(served, fair).status_code == 201
