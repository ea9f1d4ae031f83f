"""Events claim a BALP profile when they obey every rule of it, and never otherwise; told on a real
server, one rule at a time."""

from __future__ import annotations

import json
import secrets
from typing import Any

import httpx
import pytest

from conformance.definitions import load
from conformance.validator import Validator
from tests.audit.profiles import PROFILES, Rule, broken, claimed, holds, rules
from tests.secured import Secured

OPAQUE = "IHE.BasicAudit.OAUTHaccessTokenUse.Opaque"
JSON = {"content-type": "application/fhir+json"}
PATCH = {"content-type": "application/json-patch+json"}


def _balp(name: str, *more: str) -> set[str]:
    return {f"IHE.BasicAudit.{name}", *more}


# What is asked, of which an id names the case, and what its event claims. {p}: a patient, {o}: an
# Observation of it, {g}: an Organization, {q}: another patient; each case may use each up.
SUCCEEDS: dict[str, tuple[str, str, Any, set[str]]] = {
    "create": ("POST", "Observation", "observation", _balp("PatientCreate")),
    "create-patient": ("POST", "Patient", {"resourceType": "Patient"}, _balp("PatientCreate")),
    "create-other": ("POST", "Organization", "organization", _balp("Create")),
    "create-conditional": (
        "POST?identifier=urn:no|none",
        "Organization",
        "organization",
        _balp("Create"),
    ),
    "read": ("GET", "Observation/{o}", None, _balp("PatientRead")),
    "read-patient": ("GET", "Patient/{p}", None, _balp("PatientRead")),
    "read-other": ("GET", "Organization/{g}", None, _balp("Read")),
    "read-shaped": ("GET", "Patient/{p}?_summary=true", None, _balp("PatientRead")),
    "vread": ("GET", "Observation/{o}/_history/1", None, _balp("PatientRead")),
    "update": ("PUT", "Observation/{o}", "observation", _balp("PatientUpdate")),
    "update-other": ("PUT", "Organization/{g}", "organization", _balp("Update")),
    "update-conditional": ("PUT", "Organization?_id={g}", "organization", _balp("Update")),
    "patch": ("PATCH", "Observation/{o}", "patch", _balp("PatientUpdate")),
    "delete": ("DELETE", "Observation/{o}", None, _balp("PatientDelete")),
    "delete-other": ("DELETE", "Organization/{g}", None, _balp("Delete")),
    "delete-conditional": ("DELETE", "Observation?_id={o}", None, _balp("PatientDelete")),
    "search": ("GET", "Observation?patient={p}", None, _balp("PatientQuery")),
    "search-posted": ("POST", "Observation/_search", "patient={p}", _balp("PatientQuery")),
    "search-compartment": ("GET", "Patient/{p}/Observation?code=1", None, _balp("PatientQuery")),
    "search-system": ("GET", "?_type=Patient&_id={p}", None, _balp("PatientQuery")),
    "search-other": ("GET", "Organization?_id={g}", None, _balp("Query")),
    "search-nothing": ("GET", "Patient?_id=nobody", None, _balp("Query")),
    "search-plain": ("GET", "Questionnaire", None, _balp("Query")),
    "search-several": ("GET", "Patient?_id={p},{q}", None, _balp("Query")),
    "search-audit": ("GET", "AuditEvent?entity=Patient/{p}", None, _balp("Query")),
    "history": ("GET", "Observation/{o}/_history", None, set()),
    "history-type": ("GET", "Observation/_history?_count=1", None, set()),
    "operation": ("GET", "Observation/{o}/$validate", None, set()),
    "capabilities": ("GET", "metadata", None, set()),
    "transaction": ("POST", "", "transaction", set()),
    "batch": ("POST", "", "batch", set()),
    "create-found": ("POST?_id={g}", "Organization", "organization", set()),
    "delete-gone": ("DELETE", "Observation/nobody", None, set()),
    "delete-nothing": ("DELETE", "Observation?_id=nobody", None, set()),
}
FAILS: dict[str, tuple[str, str, Any]] = {
    "absent": ("GET", "Patient/nobody", None),
    "absent-version": ("GET", "Patient/{p}/_history/9", None),
    "unknown-parameter": ("GET", "Patient?secretly=1", None),
    "invalid": ("POST", "Observation", {"resourceType": "Observation"}),
    "conflict": ("PUT*", "Observation/{o}", "observation"),
    "patch": ("PATCH", "Observation/{o}", "bad patch"),
    "delete": ("DELETE", "AuditEvent/1", None),
    "history": ("GET", "Observation/nobody/_history", None),
    "operation": ("GET", "Observation/nobody/$validate", None),
    "no-operation": ("GET", "Observation/{o}/$Ada Lovelace", None),
    "transaction": ("POST", "", "bad transaction"),
    "no-type": ("GET", "Nothing/1", None),
}


class World:
    """A server on which a user of an app, and a service without a user, ask for everything."""

    def __init__(self, secured: Secured) -> None:
        self.secured = secured
        part = secrets.token_hex(4)
        self.doctor = f"Practitioner/{part}"
        app, user = f"app-{part}", f"doctor-{part}"
        secured.app(app, "user/*.cruds")
        secured.user(user, self.doctor)
        self.tokens = {
            "user": secured.token("user/*.cruds", app, user),
            "service": secured.token(),
            "reader": secured.token("user/Patient.r", app, user),
        }
        self.app = app
        with secured.client(self.tokens["service"]) as fhir:
            practitioner = {"resourceType": "Practitioner", "id": part}
            fhir.put(self.doctor, json=practitioner).raise_for_status()
        self._events: dict[tuple[str, str], dict[str, Any]] = {}

    def event(self, who: str, case: str) -> dict[str, Any]:
        """The event of a case, asked for once."""
        if (who, case) not in self._events:
            asked = SUCCEEDS[case][:3] if case in SUCCEEDS else FAILS[case.removeprefix("!")]
            request, answer = self._ask(self.tokens[who], *asked)
            assert (answer.status_code < 400) is (case in SUCCEEDS), answer.text
            self._events[who, case] = self.found(request)[-1]
        return self._events[who, case]

    def found(self, request: str) -> list[dict[str, Any]]:
        """The events of a request, newest first."""
        with self.secured.client(self.tokens["service"]) as fhir:
            newest = fhir.get("/AuditEvent?_sort=-date&_count=30").json()["entry"]
        every = [each["resource"] for each in newest]
        return [event for event in every if request in json.dumps(event.get("entity", ()))]

    def _made(self) -> dict[str, str]:
        """The ids of what a case is about: two patients, an Observation, an Organization."""
        patient = {"resourceType": "Patient"}
        subject = {"reference": "urn:uuid:00000000-0000-4000-8000-000000000001"}
        entries = [
            _entry(subject["reference"], patient),
            _entry("urn:uuid:00000000-0000-4000-8000-000000000002", patient),
            _entry("urn:uuid:00000000-0000-4000-8000-000000000003", _observation(subject)),
            _entry(
                "urn:uuid:00000000-0000-4000-8000-000000000004",
                {"resourceType": "Organization", "name": "x"},
            ),
        ]
        sent = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        with self.secured.client(self.tokens["service"]) as fhir:
            made = fhir.post(self.secured.url, json=sent).raise_for_status().json()["entry"]
        ids = [each["response"]["location"].split("/")[-3] for each in made]
        return dict(zip("pqog", ids, strict=True))

    def _ask(self, token: str, method: str, path: str, body: Any) -> tuple[str, httpx.Response]:
        request = f"case-{secrets.token_hex(8)}"
        ids = self._made()
        named = {} if "nobody" in path else ids
        method, _, condition = method.partition("?")
        method, star, _ = method.partition("*")
        headers = {**JSON, "x-request-id": request}
        headers |= {"if-none-exist": condition.format(**ids)} if condition else {}
        headers |= {"if-match": 'W/"9"'} if star else {}
        content = _content(body, path, ids)
        if body == "patch" or body == "bad patch":
            headers |= PATCH
        if path.endswith("_search"):
            headers["content-type"] = "application/x-www-form-urlencoded"
        with self.secured.client(token) as fhir:
            path = path.format(**named) if named else path
            url = f"{self.secured.url}/{path}" if path else self.secured.url
            return request, fhir.request(method, url, content=content, headers=headers)


def _entry(url: str, resource: dict[str, Any]) -> dict[str, Any]:
    type = resource["resourceType"]
    return {"fullUrl": url, "request": {"method": "POST", "url": type}, "resource": resource}


def _observation(subject: dict[str, str], **more: Any) -> dict[str, Any]:
    code = {"coding": [{"system": "urn:codes", "code": "1"}]}
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": code,
        "subject": subject,
        **more,
    }


def _content(body: Any, path: str, ids: dict[str, str]) -> bytes | None:
    if body is None:
        return None
    if isinstance(body, str) and path.endswith("_search"):
        return body.format(**ids).encode()
    subject = {"reference": f"Patient/{ids['p']}"}
    put = {"id": ids["o"]} if path.startswith("Observation/") else {}
    own = {"id": ids["g"]} if path.startswith("Organization/") else {}
    entry = {
        "request": {"method": "POST", "url": "Observation"},
        "resource": _observation(subject),
    }
    bundle = {"resourceType": "Bundle", "entry": [entry]}
    known: dict[str, Any] = {
        "observation": _observation(subject, **put),
        "organization": {"resourceType": "Organization", "name": "y", **own},
        "patch": [{"op": "replace", "path": "/status", "value": "amended"}],
        "bad patch": [{"op": "replace", "path": "/nothing", "value": "x"}],
        "transaction": {**bundle, "type": "transaction"},
        "batch": {**bundle, "type": "batch"},
        "bad transaction": {**bundle, "type": "transaction", "entry": [entry, {"request": {}}]},
    }
    return json.dumps(known[body] if isinstance(body, str) else body).encode()


@pytest.fixture(scope="module")
def world(secured: Secured) -> World:
    return World(secured)


# --- claims --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SUCCEEDS)
@pytest.mark.requirement("54")
def test_what_succeeds_claims_the_profile_that_it_fits_and_no_other(
    world: World, case: str
) -> None:
    expected = SUCCEEDS[case][3]

    assert claimed(world.event("user", case)) == expected | {OPAQUE}
    assert claimed(world.event("service", case)) == expected
    assert world.event("user", case)["outcome"] == "0"


@pytest.mark.parametrize("case", FAILS)
@pytest.mark.parametrize("who", ["user", "service"])
@pytest.mark.requirement("54")
def test_what_fails_claims_nothing(world: World, who: str, case: str) -> None:
    event = world.event(who, f"!{case}")

    assert event["outcome"] in ("4", "8")
    assert "profile" not in event["meta"]


def test_what_is_not_granted_claims_nothing(world: World) -> None:
    request, answer = world._ask(world.tokens["reader"], "GET", "Observation/{o}", None)
    (event,) = world.found(request)

    assert answer.status_code == 403
    assert (event["outcome"], event["outcomeDesc"]) == ("4", "forbidden")
    assert "profile" not in event["meta"]


def _claiming(profile: str) -> list[tuple[str, str]]:
    """Who asked, and for what, where an event claims a profile."""
    of_user = {OPAQUE} if profile == OPAQUE else set()
    return [
        (who, case)
        for case, (_, _, _, found) in SUCCEEDS.items()
        for who in ("user", "service")
        if profile in (found | of_user if who == "user" else found)
    ]


RULES = [rule for profile in PROFILES for rule in rules(profile)]


@pytest.mark.parametrize("rule", RULES, ids=[f"{each.profile}-{each.id}" for each in RULES])
@pytest.mark.requirement("54")
def test_every_event_that_claims_a_profile_obeys_each_rule_of_it(world: World, rule: Rule) -> None:
    events = [world.event(*each) for each in _claiming(rule.profile)]
    altered = [made for made in (broken(rule, each) for each in events) if made is not None]

    assert events
    assert all(holds(rule, each) for each in events)
    assert not any(holds(rule, each) for each in altered)


@pytest.mark.parametrize("case", [*SUCCEEDS, *(f"!{each}" for each in FAILS)])
@pytest.mark.requirement("54")
def test_every_event_is_a_valid_resource_of_r4(world: World, case: str) -> None:
    issues = [
        issue
        for who in ("user", "service")
        for issue in Validator(load()).validate(world.event(who, case))
    ]

    assert [each for each in issues if each.severity in ("error", "fatal")] == []


# --- who and what --------------------------------------------------------------------------------


def test_an_event_names_the_user_the_app_and_the_end_of_the_token(world: World) -> None:
    user, client, server = world.event("user", "read")["agent"]
    end = world.tokens["user"][-12:]

    assert user == {
        "type": {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
                    "code": "IRCP",
                },
                {
                    "system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/UserAgentTypes",
                    "code": "UserOauthAgent",
                },
            ]
        },
        "who": {"reference": world.doctor},
        "requestor": True,
        "policy": [end],
    }
    assert client["who"] == {"identifier": {"value": world.app}}
    assert (client["requestor"], client["network"]) == (
        False,
        {"address": "127.0.0.1", "type": "2"},
    )
    assert server["who"] == world.event("user", "read")["source"]["observer"]


def test_a_service_without_a_user_is_the_one_who_asked(world: World) -> None:
    client, _ = world.event("service", "read")["agent"]

    assert client["requestor"] is True
    assert client["policy"] == [world.tokens["service"][-12:]]


@pytest.mark.requirement("42")
def test_no_event_holds_what_a_token_could_be_used_by(world: World) -> None:
    told = "".join(json.dumps(world.event(who, "read")) for who in ("user", "service"))

    for token in world.tokens.values():
        assert len(token) >= 43
        assert token[-13:] not in told


def test_a_write_points_at_the_version_that_it_made(world: World) -> None:
    named = {
        case: next(
            each["what"]["reference"].rpartition("/_history/")[2]
            for each in world.event("user", case)["entity"]
            if each["type"]["code"] == "2"
        )
        for case in ("create", "update", "patch", "delete")
    }

    assert named == {"create": "1", "update": "2", "patch": "2", "delete": "2"}


def test_one_event_names_every_patient_of_a_search(world: World) -> None:
    event = world.event("user", "search-several")
    people = [each for each in event["entity"] if each["type"]["code"] == "1"]

    assert len(people) == 2
    assert all(each["what"]["reference"].startswith("Patient/") for each in people)


def test_what_is_no_operation_is_not_written_down(world: World) -> None:
    assert "Lovelace" not in json.dumps(world.event("user", "!no-operation"))
