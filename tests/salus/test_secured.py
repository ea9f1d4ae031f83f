"""A server that is started without more ado asks who calls, and its operator lets people and apps
in while it runs."""

import asyncio
import base64
import re
import secrets

import httpx
import pytest

from salus.app import open_product
from salus.operator import channel, requests
from salus.problem import Problem
from tests.secured import PASSWORD, Launch, Secured, answer, patient

JSON = {"content-type": "application/fhir+json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
EVERYTHING = "system/*.cruds"


def new(prefix="x"):
    return f"{prefix}-{secrets.token_hex(4)}"


def put(secured, id, **fields):
    with secured.client(secured.token()) as fhir:
        fhir.put(f"/Patient/{id}", content=patient(id, **fields), headers=JSON).raise_for_status()
    return id


@pytest.mark.requirement("M1", "F1")
def test_whoever_shows_no_token_is_told_how_to(secured):
    with secured.client() as fhir:
        refused = fhir.get("/Patient/nobody")
        public = fhir.get("/metadata")

    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Bearer realm="Salus"'
    assert refused.json()["issue"][0]["code"] == "login"
    assert public.status_code == 200


@pytest.mark.parametrize(
    "header", ["Basic YTpi", "Bearer", "Token x", "Bearer nonsense", "Bearer " + "a" * 60_000]
)
@pytest.mark.requirement("M2", "42")
def test_what_is_no_token_of_ours_opens_nothing(secured, header):
    with secured.client() as fhir:
        refused = fhir.get("/Patient", headers={"authorization": header})

    assert refused.status_code in (401, 431)
    assert "entry" not in refused.text


@pytest.mark.requirement("41")
def test_the_word_bearer_may_be_written_in_any_case(secured):
    token = secured.token()
    with secured.client() as fhir:
        answers = [
            fhir.get("/Patient?_count=1", headers={"authorization": f"{word} {token}"}).status_code
            for word in ("Bearer", "bearer", "BEARER")
        ]

    assert answers == [200, 200, 200]


@pytest.mark.requirement("M3", "41")
def test_a_token_counts_in_the_one_header_only(secured):
    token = secured.token()
    twice = [("authorization", f"Bearer {token}")] * 2
    with secured.client(address="127.0.0.8") as fhir:
        doubled = fhir.get("/Patient", headers=twice)
        in_query = fhir.get(f"/Patient?access_token={token}")
        in_cookie = fhir.get("/Patient", headers={"cookie": f"access_token={token}"})

    assert (doubled.status_code, in_query.status_code, in_cookie.status_code) == (400, 400, 401)
    assert token not in in_query.text
    with secured.client(token) as fhir:
        events = fhir.get("/AuditEvent?outcome=4&address=127.0.0.8&_sort=-date&_count=3")
    assert [each["resource"]["outcomeDesc"] for each in events.json()["entry"]] == [
        "login",
        "invalid",
        "invalid",
    ]
    assert token not in events.text
    assert token not in secured.log.read_text()


@pytest.mark.requirement("M3", "41")
@pytest.mark.parametrize(
    "name", ["access%5Ftoken", "access%5ftoken", "%61ccess_token", "access_token%3D"]
)
def test_a_token_in_the_address_is_refused_and_kept_nowhere_however_its_name_is_written(
    secured, name
):
    token, other = secured.token(), f"{name}={new('hidden')}"
    with secured.client(token) as fhir:
        answers = [
            fhir.get(f"/Patient?_count=1&{other}"),
            fhir.get(f"/Patient?{other}", headers={"prefer": "handling=lenient"}),
            fhir.post("/Patient/_search", content=other.encode(), headers=FORM),
        ]
        fair = fhir.get("/Patient?_count=1&identifier=http%3A%2F%2Fx%7Caccess%5Ftoken")
        events = fhir.get("/AuditEvent?_sort=-date&_count=6")

    queries = [base64.b64decode(each) for each in re.findall(r'"query":"([^"]+)"', events.text)]
    value = other.partition("=")[2]
    assert [each.status_code for each in answers] == [400, 400, 400]
    assert fair.status_code == 200
    assert any(b"identifier=" in each for each in queries)  # what is fair is kept
    assert value not in events.text
    assert not any(value.encode() in each for each in queries)
    assert not any(value in each.text for each in answers)
    assert value not in secured.log.read_text()


@pytest.mark.requirement("54", "E8")
def test_every_refusal_is_in_the_audit(secured):
    with secured.client(address="127.0.0.9") as fhir:
        fhir.get("/Patient/unseen")
    with secured.client(secured.token()) as fhir:
        found = fhir.get("/AuditEvent?outcome=4&address=127.0.0.9").json()["entry"]

    agents = found[0]["resource"]["agent"]
    assert agents[0]["who"] == {"display": "unauthenticated"}
    assert agents[0]["requestor"] is True


def test_a_token_grants_what_it_says_and_no_more(secured):
    id = put(secured, new("ada"))
    with secured.client(secured.token("system/Patient.r")) as fhir:
        read = fhir.get(f"/Patient/{id}")
        search = fhir.get(f"/Patient?_id={id}")
        other = fhir.get("/Observation/x")

    assert (read.status_code, search.status_code, other.status_code) == (200, 403, 403)
    assert "insufficient_scope" in search.headers["www-authenticate"]


def test_a_token_for_a_patient_shows_that_patient(secured):
    mine, other = put(secured, new("mine")), put(secured, new("other"))
    app, user = new("app"), new("user")
    secured.app(app, "patient/*.rs")
    secured.user(user, f"Patient/{mine}")
    with secured.client(secured.token("patient/*.rs", app, user, mine)) as fhir:
        assert fhir.get(f"/Patient/{mine}").status_code == 200
        assert fhir.get(f"/Patient/{other}").status_code == 404


def test_a_disabled_client_is_refused_at_once_and_works_again_when_enabled(secured):
    id = put(secured, new("pat"))
    backend = secured.backend(new("night"), "system/Patient.rs")
    token = secured.backend_token(backend, "system/Patient.rs").json()["access_token"]
    with secured.client(token) as fhir:
        seen = [fhir.get(f"/Patient/{id}").status_code]
        secured.operator(requests.ChangeClient(backend.id, "disabled"))
        seen.append(fhir.get(f"/Patient/{id}").status_code)
        secured.operator(requests.ChangeClient(backend.id, "enabled"))
        seen.append(fhir.get(f"/Patient/{id}").status_code)
        secured.operator(requests.ChangeClient(backend.id, "removed"))
        seen.append(fhir.get(f"/Patient/{id}").status_code)

    assert seen == [200, 401, 200, 401]


@pytest.mark.requirement("Z5", "36")
def test_a_disabled_user_takes_every_token_along(secured):
    id = put(secured, new("pat"))
    app, user = new("app"), new("user")
    secured.app(app, "patient/*.rs user/*.rs")
    secured.user(user, f"Patient/{id}")
    token = secured.token("patient/*.rs", app, user, id)
    with secured.client(token) as fhir:
        before = fhir.get(f"/Patient/{id}").status_code
        secured.operator(requests.ChangeUser(user, "disabled"), requests.UserShown)
        after = fhir.get(f"/Patient/{id}").status_code

    assert (before, after) == (200, 401)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (requests.IssueToken(client="nobody", scope="user/*.rs"), "There is no client nobody"),
        (requests.IssueToken(client=None, scope="patient/*.rs"), "may not have patient/*.rs"),
        (requests.IssueToken(client=None, scope="wonder"), "No scope of this server: wonder"),
        (requests.IssueToken(client=None, scope=EVERYTHING, minutes=9999), "between 1 and"),
        (requests.IssueToken(client=None, scope="system/Patient.sr"), "in that order"),
        (requests.ShowClient("nobody"), "There is no client nobody"),
        (requests.ChangeUser("nobody", "disabled"), "There is no account"),
        (requests.AddUser(name="x", password="short"), "password"),
        (
            requests.RegisterClient(
                id="a",
                name="a",
                profile="smart-2",
                authentication="none",
                redirect_uris=("http://elsewhere.example/back",),
            ),
            "Redirect URI",
        ),
    ],
)
def test_what_an_operator_asks_wrongly_is_explained(secured, asked, said):
    with pytest.raises(Problem) as refused:
        secured.operator(asked, requests.Done)

    assert said in str(refused.value)


def test_nobody_without_the_keys_is_heard_as_the_operator(secured):
    url = f"{secured.base}{channel.PATH}"
    now = 1_800_000_000_000_000
    forged = channel.sealed(secrets.token_bytes(32), "1", now, requests.ListUsers())
    for sent in (b"", b"x", forged, b"e" * (channel.LARGEST + 1)):
        reply = httpx.post(url, content=sent, trust_env=False)
        assert (reply.status_code, reply.content) == (404, b"")


def test_an_operators_message_counts_once_and_soon(secured):
    url, key = f"{secured.base}{channel.PATH}", channel.channel_key(secured.settings)
    now = __import__("time").time_ns() // 1000
    fresh = channel.sealed(key, new(), now, requests.ListUsers())
    late = channel.sealed(key, new(), now - 90_000_000, requests.ListUsers())
    reflected = channel.sealed(key, new(), now, requests.ListUsers(), answers=True)
    statuses = [
        httpx.post(url, content=each, trust_env=False).status_code
        for each in (fresh, fresh, late, reflected)
    ]

    assert statuses == [200, 404, 404, 404]


def test_what_a_client_may_see_is_said_in_words(secured):
    id = new("growth")
    made = secured.app(id, "launch/patient patient/Observation.rs?category=vital-signs openid")

    assert made.may == (
        "have a patient chosen when it starts",
        "read and search Observation of the one patient in context, where category is vital-signs",
        "learn who signed in",
    )
    assert made == secured.operator(requests.ShowClient(id), requests.ClientShown)


def test_a_person_signs_in_and_an_app_gets_what_was_consented(secured):
    id = put(secured, new("eve"))
    app, user = new("app"), new("user")
    secured.app(app, "launch/patient patient/*.rs")
    secured.user(user, f"Patient/{id}")
    launch = Launch.of(secured, app, "launch/patient patient/*.rs")
    with secured.browser(user) as browser:
        page = browser.get(launch.url)
        told = answer(browser.submit(page, action="allow"))
    tokens = httpx.post(
        secured.token_url,
        data={
            "grant_type": "authorization_code",
            "code": told["code"],
            "redirect_uri": "https://app.example/back",
            "client_id": app,
            "code_verifier": launch.verifier,
        },
        trust_env=False,
    ).json()

    assert told["state"] == launch.state
    assert tokens["patient"] == id
    with secured.client(tokens["access_token"]) as fhir:
        assert fhir.get(f"/Patient/{id}").status_code == 200


def test_the_first_start_says_how_to_become_the_administrator(secured):
    said = secured.log.read_text()

    assert "makes you admin, the administrator" in said
    assert f"{secured.base}/welcome?link=" in said
    assert f"{secured.base}/sign-in" in said


@pytest.mark.requirement("46", "C3", "C5", "64")
def test_other_sites_never_hear_of_resources_and_registered_ones_do(secured):
    secured.app(new("web"), "patient/*.rs")
    id, token = put(secured, new("pat")), secured.token()
    asks = {"access-control-request-method": "GET"}
    with secured.client() as fhir:
        told = {
            origin: fhir.request("OPTIONS", f"/Patient/{id}", headers={"origin": origin, **asks})
            for origin in ("https://app.example", "https://evil.example", "null")
        }
        there = fhir.get(
            f"/Patient/{id}",
            headers={"origin": "https://app.example", "authorization": f"Bearer {token}"},
        )
        public = fhir.get("/metadata", headers={"origin": "https://evil.example"})

    allowed = "access-control-allow-origin"
    assert told["https://app.example"].headers[allowed] == "https://app.example"
    assert allowed not in told["https://evil.example"].headers
    assert allowed not in told["null"].headers
    assert {each.status_code for each in told.values()} == {204}
    assert there.headers[allowed] == "https://app.example"
    assert "access-control-allow-credentials" not in there.headers
    assert "origin" in there.headers["vary"].lower()
    assert public.headers[allowed] == "*"


@pytest.mark.requirement("D10")
def test_clients_find_where_to_ask_for_access(secured):
    with secured.client() as fhir:
        (rest,) = fhir.get("/metadata").json()["rest"]
        known = fhir.get("/.well-known/smart-configuration").json()
        openid = fhir.get("/.well-known/openid-configuration").json()

    (extension,) = rest["security"]["extension"]
    named = {each["url"]: each["valueUri"] for each in extension["extension"]}
    assert (
        named["authorize"] == known["authorization_endpoint"] == f"{secured.base}/oauth/authorize"
    )
    assert named["token"] == known["token_endpoint"] == secured.token_url
    assert known["issuer"] == openid["issuer"] == secured.url
    assert rest["security"]["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    assert rest["security"]["cors"] is True


@pytest.mark.requirement("47")
def test_no_header_of_a_stranger_changes_a_link(secured):
    put(secured, new("pat"))
    lies = {
        "host": "evil.example",
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "https",
        "forwarded": "host=evil.example;proto=https;for=192.0.2.9",
        "x-forwarded-for": "192.0.2.9",
    }
    with secured.client(secured.token()) as fhir:
        known = fhir.get("/.well-known/smart-configuration", headers=lies)
        page = fhir.get("/Patient?_count=1", headers=lies)
        made = fhir.post(
            "/Patient", content=b'{"resourceType":"Patient"}', headers={**lies, **JSON}
        )
        events = fhir.get("/AuditEvent?_sort=-date&_count=5")

    assert known.json()["issuer"] == secured.url
    assert made.headers["location"].startswith(f"{secured.url}/Patient/")
    for answered in (known, page, made, events):
        assert "evil.example" not in answered.text
        assert "192.0.2.9" not in answered.text


def test_the_commands_do_what_they_say_while_the_server_runs(secured):
    app, user = new("app"), new("user")
    registered = secured.command(
        "client", "register", app, "--secret", "--redirect-uri", "https://app.example/back",
        "--scope", "user/*.rs",
    )  # fmt: skip
    added = secured.command("user", "add", user, "--who", "Practitioner/x", "--display", "Dr. X")
    token = secured.command("token", "--client", app, "--user", user, "--scope", "user/Patient.rs")
    listed = secured.command("client", "list"), secured.command("user", "list")
    shown = secured.command("client", "show", app)
    rotated = secured.command("client", "rotate", app)
    disabled = secured.command("user", "disable", user)

    said = (registered, added, token, *listed, shown, rotated, disabled)
    assert [each.returncode for each in said] == [0] * len(said), [each.stderr for each in said]
    assert added.stdout.startswith(f"{secured.base}/welcome?link=")
    assert "There is no Practitioner/x yet" in added.stderr
    assert app in listed[0].stdout
    assert user in listed[1].stdout
    assert "read and search every resource that the user who signed in may reach" in shown.stdout
    assert rotated.stdout.strip() != registered.stdout.strip().splitlines()[-1]
    with secured.client(token.stdout.strip()) as fhir:
        assert fhir.get("/Patient?_count=1").status_code == 401  # since the user is disabled


def test_files_are_loaded_with_the_operators_token_or_another_and_not_without(secured, tmp_path):
    file = tmp_path / "a.ndjson"
    file.write_text('{"resourceType":"Patient","gender":"female"}\n')
    url = ("--url", secured.url)
    foreign = {"SALUS_DATA": str(tmp_path / "d"), "SALUS_KEYS": str(tmp_path / "k")}
    own = secured.command("load", str(file), *url)
    given = secured.command("load", str(file), *url, SALUS_TOKEN=secured.token(), **foreign)
    wrong = secured.command("load", str(file), *url, "--token", "nonsense", **foreign)
    without = secured.command("load", str(file), *url, **foreign)

    assert [own.returncode, given.returncode] == [0, 0], own.stdout + given.stdout
    assert [wrong.returncode, without.returncode] == [2, 2]  # nothing was begun
    assert "The access token is not valid (any more)" in wrong.stderr
    assert "name its folders with --data and --keys" in without.stderr


def test_a_stopped_server_is_looked_after_in_its_folder(tmp_path):
    server = Secured(tmp_path)
    server.user("root", administrator=True)
    added = server.command("user", "add", "maria", "--who", "Practitioner/m")
    listed = server.command("user", "list")

    assert (added.returncode, listed.returncode) == (0, 0), added.stderr
    assert "maria" in listed.stdout
    assert added.stdout.startswith(f"{server.base}/welcome?link=")


def test_the_first_link_makes_one_administrator_once_and_is_kept_nowhere(tmp_path):
    server = Secured(tmp_path)
    server.start()
    link = server.told(r"http\S+/welcome\?link=(\S+)")
    with server.browser() as browser:
        page = browser.get(link.group())
        chosen = browser.submit(page, password=PASSWORD, again=PASSWORD)
        again = browser.get(link.group())
    with server.browser("admin") as browser:
        apps = browser.get("/account/apps")
    server.stop()
    kept = [value for _, value in kept_records(server)]
    server.log.write_bytes(b"")
    server.start()
    server.stop()

    assert chosen.response.status_code == 200
    assert "password" not in again.text or again.response.status_code >= 400
    assert apps.url.endswith("/account/apps")
    assert not any(link.group(1).encode() in value for value in kept)
    assert any(b"argon2id" in value for value in kept)
    assert not any(PASSWORD.encode() in value for value in kept)
    assert "/welcome?link=" not in server.log.read_text()


def kept_records(server):
    """Every record of accounts and invitations, as it lies in the store."""

    async def read():
        async with open_product(server.settings) as product:
            keeper = product.authority.keeper

            async def work(tx):
                spaces = ("smart.account", "smart.invitation", "smart.session")
                found = [await tx.range(each, "", "\U0010ffff") for each in spaces]
                return [(each.key, each.value) for some in found for each in some]

            return await keeper.transaction(work)

    return asyncio.run(read())


def test_an_open_server_asks_nobody(living):
    with living.client() as fhir:
        bare = fhir.get("/Patient?_count=1")
        with_token = fhir.get("/Patient?_count=1", headers={"authorization": "Bearer nonsense"})
        (rest,) = fhir.get("/metadata").json()["rest"]

    assert (bare.status_code, with_token.status_code) == (200, 200)
    assert "extension" not in rest["security"]


def test_a_password_may_come_from_a_file(secured, tmp_path):
    file, user = tmp_path / "password", new("user")
    file.write_text(f"{PASSWORD}\n")
    added = secured.command("user", "add", user, "--who", "Patient/x", "--password-file", str(file))
    with secured.browser(user) as browser:
        page = browser.get("/account/apps")

    assert (added.returncode, added.stdout) == (0, "")
    assert page.url.endswith("/account/apps")


def test_an_app_that_was_offered_it_registers_itself_once(tmp_path):
    server = Secured(tmp_path, SALUS_REGISTRATION="token")
    server.start()
    offered = server.command(
        "client", "offer", "--scope", "patient/Patient.rs", SALUS_REGISTRATION="off"
    )
    asked = {
        "client_name": "Growth",
        "redirect_uris": ["https://growth.example/back"],
        "token_endpoint_auth_method": "none",
        "scope": "patient/*.rs",
    }
    url, token = f"{server.base}/oauth/register", offered.stdout.strip()
    shown = {"authorization": f"Bearer {token}"}
    made, again, without = (
        httpx.post(url, json=asked, headers=headers, trust_env=False)
        for headers in (shown, shown, {})
    )
    clients = server.operator(requests.ListClients(), requests.Clients).clients
    server.stop()

    assert (made.status_code, again.status_code, without.status_code) == (201, 401, 401), made.text
    assert [each.scopes for each in clients] == [("patient/Patient.rs",)]
    assert offered.stderr == ""  # what counts is the server's setting, not the command's


def test_an_offer_that_nobody_can_use_is_told_so(secured):
    offered = secured.command("client", "offer")

    assert offered.returncode == 0
    assert "SALUS_REGISTRATION is off, so nobody can use it now" in offered.stderr
