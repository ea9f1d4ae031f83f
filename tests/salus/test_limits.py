"""Who asks too much is told to wait, and how long; everybody else is answered meanwhile."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.secured import Secured, patient

JSON = {"content-type": "application/fhir+json"}
PAGE = {"accept": "text/html"}
SECONDS = 4
QUOTA = 60  # of an app in so many seconds: a unit comes in 67 ms, and a slow machine is faster
LOW = {
    "SALUS_RATE_SECONDS": str(SECONDS),
    "SALUS_RATE_CLIENT": str(QUOTA),
    "SALUS_RATE_USER": "25",
    "SALUS_RATE_ADDRESS": "20",
    "SALUS_RATE_EXEMPT": "nightly",
    "SALUS_REGISTRATION": "open",
}


@pytest.fixture(scope="module")
def low(tmp_path_factory):
    """A server on which little is much."""
    server = Secured(tmp_path_factory.mktemp("low"), **LOW)
    server.start()
    with server.client(server.token()) as fhir:
        put = fhir.put("/Patient/ada", content=patient("ada"), headers=JSON)
        assert put.status_code == 201
        made = {"resourceType": "Practitioner", "id": "anna"}
        assert fhir.put("/Practitioner/anna", json=made, headers=JSON).status_code == 201
    server.user("anna", "Practitioner/anna")
    yield server
    assert server.stop() == 0


@pytest.fixture
def app(low, request):
    """A client of the FHIR base by a token of an app of its own."""
    id = f"app-{abs(hash(request.node.name)) % 10**8}"
    low.backend(id, "system/*.cruds")
    with low.client(low.token("system/*.cruds", client=id)) as fhir:
        yield fhir


@pytest.fixture(scope="module")
def web(low):
    """A browser, or a program, that is nobody known."""
    with httpx.Client(base_url=low.base, trust_env=False, timeout=60) as client:
        yield client


def flood(ask, most=500):
    """The answers to the same request over and over, until one is 429."""
    answers = []
    for _ in range(most):
        answers.append(ask())
        if answers[-1].status_code == 429:
            return answers
    raise AssertionError(f"not refused within {most}")


def left(answer):
    """Units that an answer says are left."""
    return int(answer.headers["ratelimit"].split(";r=")[1].split(";")[0])


def refused(answer, policy):
    """What a refusal says, whole; the seconds to wait."""
    wait = int(answer.headers["retry-after"])
    assert 0 < wait <= SECONDS
    assert answer.headers["ratelimit-policy"].split(";")[0] == f'"{policy}"'
    assert answer.headers["ratelimit"].startswith(f'"{policy}";r=')
    assert answer.headers["ratelimit"].endswith(f";t={wait}")
    return wait


def rest():
    """Long enough for the buckets of this address to fill."""
    time.sleep(SECONDS)


# --- the FHIR API --------------------------------------------------------------------------------


def test_a_burst_of_reads_is_told_to_wait_and_another_app_goes_on(low, app):
    low.backend("beside", "system/*.rs")
    with low.client(low.token("system/*.rs", client="beside")) as beside:
        first = app.get("/Patient/ada")
        assert first.headers["ratelimit-policy"] == f'"client";q={QUOTA};w={SECONDS}'
        assert first.headers["ratelimit"] == f'"client";r={QUOTA - 1};t=1'

        answers = flood(lambda: app.get("/Patient/ada"))
        others = [beside.get("/Patient/ada").status_code for _ in range(20)]

    assert {each.status_code for each in answers[:-1]} == {200}
    assert len(answers) >= QUOTA - 1
    wait = refused(answers[-1], "client")
    assert answers[-1].json() == {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "error",
                "code": "throttled",
                "diagnostics": "This app asks for more than this server gives in a time: "
                f"wait {wait} s",
            }
        ],
    }
    assert others == [200] * 20


def test_who_waits_as_long_as_told_is_answered(app):
    wait = refused(flood(lambda: app.get("/Patient/ada"))[-1], "client")

    time.sleep(wait)
    assert app.get("/Patient/ada").status_code == 200


def test_requests_at_once_are_counted_too(low, app):
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda _: app.get("/Patient/ada").status_code, range(3 * QUOTA))]

    assert QUOTA <= answers.count(200) < len(answers)
    assert {*answers} == {200, 429}


@pytest.mark.parametrize(
    ("path", "units"),
    [
        ("/Patient/ada", 1),
        ("/Patient?name=ada", 3),
        ("/Patient?name:contains=ada", 13),
        ("/Patient?_count=200", 13),
        ("/Patient?_total=accurate", 13),
        ("/Observation?patient.name=ada", 8),
        ("/Patient?_has:Observation:patient:code=x", 8),
        ("/Patient?_revinclude=Observation:patient", 6),
        ("/Patient/ada/_history", 3),
    ],
)
def test_a_search_costs_by_what_it_asks(app, path, units):
    began = time.monotonic()
    before = left(app.get("/Patient/ada"))
    after = app.get(path)
    came = (time.monotonic() - began) * QUOTA / SECONDS  # back meanwhile

    assert after.status_code == 200
    assert before - units <= left(after) <= before - units + came + 1


def test_a_search_that_is_posted_and_the_entries_of_a_bundle_cost_as_much(app):
    form = {"content-type": "application/x-www-form-urlencoded"}
    entry = {"request": {"method": "GET", "url": "Patient?_total=accurate"}}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry, entry]}
    began = time.monotonic()
    before = left(app.get("/Patient/ada"))
    posted = app.post("/Patient/_search", content="_total=accurate", headers=form)
    batch = app.post("", json=bundle, headers=JSON)
    came = (time.monotonic() - began) * QUOTA / SECONDS

    assert (posted.status_code, batch.status_code) == (200, 200)
    assert before - 13 <= left(posted) <= before - 13 + came + 1
    assert before - 42 <= left(batch) <= before - 42 + came + 1


def test_a_burst_of_searches_is_refused_before_the_store_is_asked(app):
    answers = flood(lambda: app.get("/Patient?_total=accurate&name:contains=a"))

    assert len(answers) <= 6
    refused(answers[-1], "client")


def test_a_bundle_that_costs_more_than_is_left_is_refused_whole(app):
    entry = {
        "request": {"method": "PUT", "url": "Basic/never"},
        "resource": {"resourceType": "Basic", "id": "never", "code": {"text": "x"}},
    }
    read = {"request": {"method": "GET", "url": "Patient?_total=accurate"}}
    app.get("/Patient/ada")
    answer = app.post(
        "",
        json={"resourceType": "Bundle", "type": "batch", "entry": [entry, *[read] * 20]},
        headers=JSON,
    )

    refused(answer, "client")
    time.sleep(int(answer.headers["retry-after"]))
    assert app.get("/Basic/never").status_code == 404


def test_a_user_is_limited_by_all_apps_together_and_others_of_the_app_are_not(low):
    for id in ("one", "two"):
        low.app(id, "user/*.rs")
    tokens = [low.token("user/*.rs", client=id, user="anna") for id in ("one", "two")]
    with low.client(tokens[0]) as one, low.client(tokens[1]) as two:
        answers = flood(lambda: one.get("/Patient/ada"))
        assert (
            answers[0].headers["ratelimit-policy"]
            == f'"client";q={QUOTA};w={SECONDS}, "user";q=25;w={SECONDS}'
        )
        assert answers[-1].headers["ratelimit"].startswith('"user";r=0;')
        assert two.get("/Patient/ada").status_code == 429


def test_the_operator_and_exempt_apps_have_no_rate(low):
    low.backend("nightly", "system/*.rs")
    for token in (low.token(), low.token("system/*.rs", client="nightly")):
        with low.client(token) as fhir:
            answers = [fhir.get("/Patient/ada") for _ in range(2 * QUOTA)]
        assert {each.status_code for each in answers} == {200}
        assert not any("ratelimit" in each.headers for each in answers)


# --- strangers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer guessed"}])
def test_strangers_are_told_to_wait_and_who_is_known_at_their_address_is_not(low, app, web, header):
    rest()
    assert app.get("/Patient/ada").status_code == 200
    with low.client() as stranger:
        answers = flood(lambda: stranger.get("/Patient/ada", headers=header))
        known = app.get("/Patient/ada")
        page = web.get("/sign-in")

    assert {each.status_code for each in answers[:-1]} == {401}
    refused(answers[-1], "address")
    assert answers[-1].json()["issue"][0]["code"] == "throttled"
    assert known.status_code == 200
    assert page.status_code == 200


def test_a_burst_at_the_token_endpoint_is_told_to_slow_down_and_pages_go_on(low, web):
    rest()
    sent = {"grant_type": "client_credentials", "client_id": "nobody"}
    answers = flood(lambda: web.post("/oauth/token", data=sent))
    beside = low.backend("punctual", "system/*.rs")
    page = web.get("/", headers=PAGE)
    time.sleep(SECONDS)
    later = low.backend_token(beside, "system/*.rs")

    assert {each.status_code for each in answers[:-1]} == {401}
    assert answers[-1].status_code == 429
    assert answers[-1].json()["error"] == "slow_down"
    assert 0 < int(answers[-1].headers["retry-after"]) <= SECONDS
    assert page.status_code == 200
    assert later.status_code == 200


def test_an_app_that_floods_the_token_endpoint_leaves_others_of_its_address_room(low, web):
    rest()
    backend = low.backend("beside-it", "system/*.rs")
    sent = {"grant_type": "client_credentials", "client_id": "flooding"}
    answers = flood(lambda: web.post("/oauth/token", data=sent))

    assert answers[-1].headers["ratelimit"].startswith('"app";')
    assert low.backend_token(backend, "system/*.rs").status_code == 200


@pytest.mark.parametrize("path", ["/sign-in", "/account"])
def test_a_burst_at_pages_ends_at_a_page_that_says_so(low, web, path):
    rest()
    answers = flood(lambda: web.get(path, headers=PAGE))

    refused(answers[-1], "address")
    assert "<h1>Wait a moment</h1>" in answers[-1].text
    assert "form-action 'self'" in answers[-1].headers["content-security-policy"]


def test_a_burst_of_registrations_is_told_to_slow_down(low, web):
    rest()
    sent = {"redirect_uris": ["https://a.example/b"]}
    answers = flood(lambda: web.post("/oauth/register", json=sent))

    assert len(answers) <= 6
    assert answers[-1].json()["error"] == "slow_down"
    refused(answers[-1], "address")


def test_whether_the_server_is_up_can_always_be_asked(web):
    asked = [web.get("/health/live") for _ in range(100)]

    assert {each.status_code for each in asked} == {200}


# --- what is told of it --------------------------------------------------------------------------


def test_refusals_are_counted_and_the_first_of_each_is_in_the_audit(low, web):
    low.backend("loud", "system/*.rs")
    before = counted(web)
    with low.client(low.token("system/*.rs", client="loud")) as loud:
        flood(lambda: loud.get("/Patient/ada"))
        more = [loud.get("/Patient/ada").status_code for _ in range(30)].count(429)

    rest()
    assert counted(web) == before + 1 + more
    with low.client(low.token()) as fhir:
        found = fhir.get("/AuditEvent?outcome=4&_count=500").json()["entry"]
    events = [each["resource"] for each in found]
    throttled = [each for each in events if each.get("outcomeDesc") == "throttled"]
    assert [agents(each) for each in throttled].count("loud") == 1


def counted(web):
    lines = web.get("/metrics").text.splitlines()
    name = 'salus_throttled_total{policy="client"} '
    return sum(float(each.removeprefix(name)) for each in lines if each.startswith(name))


def agents(event):
    return "loud" if "loud" in str(event["agent"]) else ""


def test_a_fair_client_never_meets_a_limit(secured):
    """On a server as it comes."""
    secured.backend("fair", "system/*.cruds")
    with secured.client(secured.token("system/*.cruds", client="fair")) as fhir:
        fhir.put("/Patient/fair", content=patient("fair"), headers=JSON).raise_for_status()
        answers = [fhir.get("/Patient/fair") for _ in range(200)]
        answers += [fhir.get("/Patient?name=fair&_total=accurate&_count=100") for _ in range(100)]

    assert {each.status_code for each in answers} == {200}
    assert answers[-1].headers["ratelimit-policy"] == '"client";q=120000;w=60'
    assert min(map(left, answers)) > 100_000
