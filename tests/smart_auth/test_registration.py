"""Apps that register themselves."""

import pytest

from smart_auth import registration
from smart_auth.authority import REGISTER, Policy
from smart_auth.errors import OAuthError
from smart_auth.model import DAY, HOUR
from smart_auth.records import digest
from tests.smart_auth.served import BASE, CALLBACK, Served, jwks

APP = {
    "client_name": "My App",
    "redirect_uris": [CALLBACK],
    "token_endpoint_auth_method": "none",
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
    "scope": "launch/patient patient/Patient.rs profile",
    "logo_uri": "https://app.example/logo.png",
    "contacts": ["dev@app.example"],
    "software_id": "something unknown",
}
SERVICE = {
    "client_name": "Service",
    "token_endpoint_auth_method": "private_key_jwt",
    "grant_types": ["client_credentials"],
    "scope": "system/Patient.rs",
    "jwks": jwks(),
}


def bearing(token):
    return {"Authorization": f"Bearer {token}"} if token else {}


def register(served, token=None, http=None, **metadata):
    sent = {name: value for name, value in metadata.items() if value is not None}
    return (http or served.http).post(REGISTER, json=sent, headers=bearing(token))


def manage(served, method, id, token, **options):
    return served.http.request(method, f"{REGISTER}/{id}", headers=bearing(token), **options)


@pytest.fixture
def opened(tmp_path):
    """A server at which anybody may register an app."""
    with Served(tmp_path, Policy(registration="open")) as server:
        yield server


@pytest.fixture
def by_token(tmp_path):
    with Served(tmp_path / "by_token", Policy(registration="token")) as server:
        yield server


def wrong(answer, error="invalid_client_metadata", status=400):
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    return answer.json()["error_description"]


@pytest.mark.requirement("45")
def test_registration_is_off_unless_the_operator_wants_it(served):
    wrong(register(served, **APP), "access_denied", 403)


def test_an_app_registers_and_gets_tokens(opened):
    answer = register(opened, **APP)

    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    id, token = body.pop("client_id"), body.pop("registration_access_token")
    assert len(id) > 20
    assert body == {
        "client_id_issued_at": opened.clock() // 1_000_000,
        "client_name": "My App",
        "redirect_uris": [CALLBACK],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": "launch/patient patient/Patient.rs",
        "logo_uri": "https://app.example/logo.png",
        "contacts": ["dev@app.example"],
        "registration_client_uri": f"{BASE}{REGISTER}/{id}",
    }
    assert opened.redeem(opened.code(client=id), client_id=id).status_code == 200
    assert opened.http.get(f"{REGISTER}/{id}", headers=bearing(token)).json() == {
        "client_id": id,
        **body,
    }
    assert [(each.what, each.client) for each in opened.heard] == [
        ("register", id),
        ("token", id),
    ]


def test_an_app_with_a_secret_is_told_it_once(opened):
    body = register(opened, **{**APP, "token_endpoint_auth_method": None}).json()
    id, secret = body["client_id"], body["client_secret"]

    assert body["token_endpoint_auth_method"] == "client_secret_basic"
    assert body["client_secret_expires_at"] == 0
    assert (
        opened.redeem(opened.code(client=id), client_id=None, auth=(id, secret)).status_code == 200
    )
    again = manage(opened, "GET", id, body["registration_access_token"]).json()
    assert "client_secret" not in again
    assert "registration_access_token" not in again


@pytest.mark.requirement("45")
@pytest.mark.parametrize(
    "uri",
    [
        "http://app.example/callback",
        "http://localhost:8000/callback",
        "http://127.0.0.1:8000/callback",
        "https://*.example/callback",
        "https://app.example/*",
        "https://app.example/callback#x",
        "https://app.example/../callback",
        "https://app.example/%2e%2E/callback",
        "https://user@app.example/callback",
        "https://APP.example/callback",
        "https://app.example\\@evil.example/",
        "https:///callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "com.example.app:/callback",
        "app:/callback",
        "/callback",
        "https://app.example/call back",
        "https://app.example/" + "a" * 2000,
        "https://äpp.example/callback",
        "",
    ],
)
def test_a_redirect_uri_of_a_web_app_is_https_and_plain(opened, uri):
    wrong(register(opened, **{**APP, "redirect_uris": [uri]}), "invalid_redirect_uri")


@pytest.mark.requirement("45", "A10")
@pytest.mark.parametrize(
    ("uri", "fine"),
    [
        ("http://127.0.0.1/callback", True),
        ("http://[::1]:7/callback", True),
        ("http://localhost:8000/callback", True),
        ("com.example.app:/callback", True),
        ("https://app.example/callback", True),
        ("http://192.168.1.1/callback", False),
        ("http://127.0.0.1.evil.example/callback", False),
        ("app:/callback", False),
        ("javascript:alert(1)", False),
    ],
)
def test_an_app_on_a_device_may_use_loopback_and_its_own_scheme(opened, uri, fine):
    sent = {**APP, "redirect_uris": [uri], "application_type": "native"}

    assert (register(opened, **sent).status_code == 201) is fine


@pytest.mark.requirement("45", "52")
@pytest.mark.parametrize(
    "change",
    [
        {"client_name": ""},
        {"client_name": "x" * 101},
        {"client_name": "My\u202eApp"},
        {"client_name": "My\u200bApp"},
        {"client_name": "My\x00App"},
        {"logo_uri": "javascript:alert(1)"},
        {"logo_uri": "http://app.example/logo.png"},
        {"tos_uri": "data:text/html,<script>"},
        {"policy_uri": "https://app.example/<script>"},
        {"client_uri": "//app.example"},
        {"initiate_login_uri": "javascript:alert(1)"},
        {"contacts": ["<script>"]},
        {"token_endpoint_auth_method": "tls_client_auth"},
        {"grant_types": ["implicit"]},
        {"grant_types": ["authorization_code", "client_credentials"]},
        {"response_types": ["token"]},
        {"response_types": ["code", "token"]},
        {"scope": "system/Patient.rs"},
        {"scope": "patient/Patient.sr"},
        {"scope": "patient/Patient"},
        {"jwks": jwks()},
        {"jwks_uri": "https://app.example/jwks"},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks": jwks(),
            "jwks_uri": "https://a.example/j",
        },
        {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://10.0.0.1/jwks"},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://app.example/jwks"},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": []}},
        {"redirect_uris": CALLBACK},
        {"redirect_uris": [CALLBACK, 7]},
    ],
)
def test_what_must_not_be_registered_is_refused(opened, change):
    wrong(register(opened, **{**APP, **change}))


SERVERS_OWN = [
    "Salus",
    "SALUS Operator",
    "  salus-admin",
    "S a l u s",
    "\uff33alus",
    "S\u00e1lus",
    "\u0405\u0430lus",
    "5a1us",
    "SaIus",
    "Test Clinic",
    "test  CLINIC: records",
    "T\u0435st-Clinic",
]


@pytest.mark.requirement("45", "52")
@pytest.mark.parametrize("name", SERVERS_OWN)
def test_an_app_cannot_take_a_name_that_passes_for_the_servers_own(opened, by_token, mine, name):
    """Neither where anybody registers, nor by a token, nor later; the operator can name it so."""
    token = by_token.run(registration.offer, by_token.authority)
    id, own = mine["client_id"], mine["registration_access_token"]
    named = replacement(mine, client_name=name)

    assert "name of this server" in wrong(register(opened, **{**APP, "client_name": name}))
    assert "name of this server" in wrong(register(by_token, token, **{**APP, "client_name": name}))
    assert "name of this server" in wrong(manage(opened, "PUT", id, own, json=named))
    assert opened.client("operator-s", name=name).client.name == " ".join(name.split())
    fair = {**APP, "client_name": "Records of Test Clinic"}
    assert register(by_token, token, **fair).status_code == 201


@pytest.mark.requirement("45")
@pytest.mark.parametrize("uris", [[], None, [CALLBACK] * 51])
def test_the_number_of_redirect_uris_is_bounded(opened, uris):
    wrong(register(opened, **{**APP, "redirect_uris": uris}), "invalid_redirect_uri")


@pytest.mark.requirement("45")
def test_a_software_statement_of_an_unknown_issuer_is_refused(opened):
    answer = register(opened, **APP, software_statement="eyJhbGciOiJub25lIn0.e30.")

    wrong(answer, "unapproved_software_statement")


@pytest.mark.requirement("45", "53")
@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b"[]", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[" * 10_000, "application/json", 400),
        (b"{}", "text/plain", 400),
        (b'{"client_name":"' + b"x" * 65_536 + b'"}', "application/json", 413),
    ],
)
def test_a_body_that_is_no_metadata_is_refused(opened, body, media, status):
    answer = opened.http.post(REGISTER, content=body, headers={"Content-Type": media})

    assert answer.status_code == status


@pytest.mark.requirement("45")
def test_nobody_registers_a_service_without_the_operators_token(opened):
    assert "operator" in wrong(register(opened, **SERVICE))


@pytest.mark.requirement("45")
def test_a_token_of_the_operators_registers_once(by_token):
    token = by_token.run(registration.offer, by_token.authority)
    assert by_token.transaction(lambda tx: registration.OFFERS.all(tx))[0][0] == digest(token)

    wrong(register(by_token, **APP), "invalid_token", 401)
    wrong(register(by_token, "garbage", **APP), "invalid_token", 401)
    wrong(register(by_token, token, **{**APP, "client_name": ""}))
    assert register(by_token, token, **APP).status_code == 201
    wrong(register(by_token, token, **APP), "invalid_token", 401)


@pytest.mark.requirement("45")
def test_a_token_of_the_operators_expires(by_token):
    token = by_token.run(registration.offer, by_token.authority)
    by_token.clock.pass_(7 * DAY)

    wrong(register(by_token, token, **APP), "invalid_token", 401)


@pytest.mark.requirement("45", "P4")
@pytest.mark.parametrize(
    ("scope", "registered"),
    [
        ("system/Patient.rs", "system/Patient.rs"),
        ("system/Patient.cruds", "system/Patient.rs"),
        (None, "system/Patient.rs system/Observation.rs"),
        ("system/Encounter.rs", None),
        ("system/Patient.rs system/Encounter.rs", None),
    ],
)
def test_a_service_registers_with_the_scopes_that_the_operator_gave(by_token, scope, registered):
    async def offer():
        scopes = ("system/Patient.rs", "system/Observation.rs")
        return await registration.offer(by_token.authority, ("backend",), scopes)

    answer = register(by_token, by_token.run(offer), **{**SERVICE, "scope": scope})

    if registered is None:
        wrong(answer)
    else:
        assert answer.json()["scope"] == registered
        id = answer.json()["client_id"]
        token = by_token.serve(by_token.assertion(client=id), scope="system/*.rs")
        assert token.json()["scope"] == registered


@pytest.mark.requirement("40", "45", "M10")
def test_an_address_registers_twenty_an_hour(opened):
    for _ in range(20):
        assert register(opened, **APP).status_code == 201

    assert register(opened, **APP).status_code == 429
    assert register(opened, http=opened.at("192.0.2.2"), **APP).status_code == 201
    opened.clock.pass_(HOUR)
    assert register(opened, **APP).status_code == 201


# --- management ----------------------------------------------------------------------------------


@pytest.fixture
def mine(opened):
    return register(opened, **APP).json()


def replacement(mine, **changes):
    return {**APP, "client_id": mine["client_id"], **changes}


def test_an_app_replaces_what_it_registered(opened, mine):
    id, token = mine["client_id"], mine["registration_access_token"]
    new = "https://app.example/new"

    answer = manage(
        opened, "PUT", id, token, json=replacement(mine, redirect_uris=[new], contacts=[])
    )

    assert answer.status_code == 200
    assert answer.json()["redirect_uris"] == [new]
    assert "contacts" not in answer.json()
    assert manage(opened, "GET", id, token).json() == answer.json()


@pytest.mark.requirement("45")
@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "other"},
        {"client_id": None},
        {"client_secret": "mine"},
        {"redirect_uris": ["http://app.example/"]},
        {"scope": "launch/patient patient/Condition.rs"},
        {"scope": "patient/*.rs patient/Condition.rs"},
        {"scope": "user/Patient.rs"},
        {
            "grant_types": ["client_credentials"],
            "redirect_uris": [],
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks": jwks(),
            "scope": "system/Patient.rs",
            "response_types": None,
        },
    ],
)
def test_an_app_cannot_make_itself_another(opened, mine, change):
    id, token = mine["client_id"], mine["registration_access_token"]
    sent = {k: v for k, v in replacement(mine, **change).items() if v is not None}
    before = manage(opened, "GET", id, token).json()

    answer = manage(opened, "PUT", id, token, json=sent)

    assert answer.status_code == 400
    assert manage(opened, "GET", id, token).json() == before


@pytest.mark.requirement("45", "P4")
@pytest.mark.parametrize("scope", ["patient/Patient.cruds", "patient/*.rs", "patient/Patient.rs"])
def test_an_app_that_asks_for_wider_scopes_keeps_those_it_had(opened, mine, scope):
    id, token = mine["client_id"], mine["registration_access_token"]

    answer = manage(opened, "PUT", id, token, json=replacement(mine, scope=scope))

    assert answer.json()["scope"] == "patient/Patient.rs"


@pytest.mark.requirement("45")
def test_only_its_own_token_manages_a_client(opened, mine):
    other = register(opened, **APP).json()
    by_operator = opened.client("operator-s").client
    for id, token in (
        (mine["client_id"], other["registration_access_token"]),
        (mine["client_id"], "garbage"),
        (mine["client_id"], None),
        (by_operator.id, mine["registration_access_token"]),
        ("nobody", mine["registration_access_token"]),
    ):
        answers = [
            manage(opened, "GET", id, token),
            manage(opened, "PUT", id, token, json=replacement(mine)),
            manage(opened, "DELETE", id, token),
        ]
        for answer in answers:
            wrong(answer, "invalid_token", 401)
    assert (
        manage(opened, "GET", mine["client_id"], mine["registration_access_token"]).status_code
        == 200
    )


def test_an_app_that_leaves_takes_its_grants_along(opened, mine):
    id, token = mine["client_id"], mine["registration_access_token"]
    scopes = ("launch/patient", "patient/Patient.rs")
    access = opened.redeem(opened.code(client=id, scopes=scopes), client_id=id).json()
    opened.grant(access["access_token"])

    assert manage(opened, "DELETE", id, token).status_code == 204

    with pytest.raises(OAuthError):
        opened.grant(access["access_token"])
    wrong(manage(opened, "GET", id, token), "invalid_token", 401)


def test_a_change_of_authentication_brings_or_ends_a_secret(opened, mine):
    id, token = mine["client_id"], mine["registration_access_token"]
    sent = replacement(mine, token_endpoint_auth_method="client_secret_post")

    first = manage(opened, "PUT", id, token, json=sent).json()
    assert first["client_secret"]
    second = manage(
        opened, "PUT", id, token, json={**sent, "client_secret": first["client_secret"]}
    )
    assert second.status_code == 200
    assert "client_secret" not in second.json()
    public = manage(opened, "PUT", id, token, json=replacement(mine)).json()
    assert public["token_endpoint_auth_method"] == "none"
    assert opened.redeem(opened.code(client=id), client_id=id).status_code == 200
