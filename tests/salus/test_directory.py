"""What the authorization server learns of users and patients, and what it leaves in the audit."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from conformance.definitions import load
from conformance.validator import Validator
from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction
from fhir_server.storage.store import Unavailable
from salus.app import open_product
from salus.happenings import KINDS, audit_of, event
from salus.settings import Settings
from smart_auth.authority import Happening, Policy
from smart_auth.errors import OAuthError
from smart_auth.grant import Grant
from smart_auth.model import MINUTE
from smart_auth.scopes import read_scope

OPERATOR = Caller(Grant.operator("test"), "local", "test")
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def product(runner, tmp_path_factory):
    folder = tmp_path_factory.mktemp("directory")
    opened = open_product(Settings(data=folder / "data", keys=folder / "keys"))
    made = runner.run(opened.__aenter__())
    for resource in world():
        asked = Interaction("update", resource["resourceType"], resource["id"], resource=resource)
        runner.run(made.server.perform(asked, OPERATOR))
    yield made
    runner.run(opened.__aexit__(None, None, None))


def world():
    """Patients, and people who care for them."""
    today = datetime.now(UTC)
    past, future = (today - 2 * DAY).date().isoformat(), (today + 2 * DAY).date().isoformat()
    yield patient("ann", "Berg", "Ann", identifier=[{"system": "urn:mrn", "value": "MRN-1"}])
    yield patient("bob", "Berg", "Bob", birthDate="1980-05-06", gender="male")
    yield patient("eve", "Lund", "Eve")
    yield {"resourceType": "Practitioner", "id": "doc"}
    for id, more in {
        "lasting": {"active": True, "period": {"start": past, "end": future}},
        "plain": {},
        "ended": {"period": {"end": past}},
        "coming": {"period": {"start": future}},
        "inactive": {"active": False},
        "until-today": {"period": {"end": today.date().isoformat()}},
    }.items():
        yield {
            "resourceType": "RelatedPerson",
            "id": id,
            "patient": {"reference": "Patient/ann"},
        } | more
    links = [
        {"target": {"reference": f"{each}"}}
        for each in (
            "Patient/bob",
            "RelatedPerson/lasting",
            "RelatedPerson/ended",
            "Practitioner/doc",
        )
    ]
    yield {"resourceType": "Person", "id": "both", "link": links}
    yield {"resourceType": "Person", "id": "gone", "active": False, "link": links}
    for id, start in {"older": "2024-01-02T08:00:00Z", "newer": "2025-03-04T09:00:00Z"}.items():
        yield {
            "resourceType": "Encounter",
            "id": id,
            "status": "finished",
            "class": {"code": "AMB", "display": "ambulatory"},
            "type": [{"text": "Check-up"}] if id == "newer" else [{"coding": [{"code": "x"}]}],
            "subject": {"reference": "Patient/ann"},
            "period": {"start": start},
        }


def patient(id, family, given, **more):
    names = [
        {"use": "old", "family": "Former", "given": ["Name"]},
        {"family": family, "given": [given]},
    ]
    return {"resourceType": "Patient", "id": id, "name": names, **more}


# --- reach ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "reached"),
    [
        ("Practitioner/doc", None),
        ("Patient/ann", {"ann"}),
        ("RelatedPerson/lasting", {"ann"}),
        ("RelatedPerson/plain", {"ann"}),
        ("RelatedPerson/until-today", {"ann"}),
        ("RelatedPerson/ended", set()),
        ("RelatedPerson/coming", set()),
        ("RelatedPerson/inactive", set()),
        ("RelatedPerson/nobody", set()),
        ("RelatedPerson/../ann", set()),
        ("Person/both", {"ann", "bob"}),
        ("Person/gone", set()),
        ("Device/one", set()),
        ("", set()),
        (None, set()),
    ],
)
def test_a_user_reaches_the_patients_that_they_care_for_now(runner, product, who, reached):
    found = runner.run(product.authority.directory.reach(who))

    assert found == (None if reached is None else frozenset(reached))


@pytest.mark.requirement("25")
@pytest.mark.parametrize(
    ("written", "reached"),
    [
        ("Patient/ann", {"ann"}),
        ("Patient/ann/_history/1", {"ann"}),
        ("BASE/Patient/ann", {"ann"}),
        ("Patient/ann/_history/", set()),
        ("Patient/ann/_history/~", set()),
        ("Patient/ann/", set()),
        ("http://elsewhere.example/fhir/Patient/ann", set()),
    ],
)
def test_a_reference_reaches_whom_the_index_finds_under_it(runner, product, written, reached):
    """Else somebody could be named where nobody looks, and reached all the same."""
    target = {"reference": written.replace("BASE", product.server.core.base_url)}
    for named in (
        {"resourceType": "Person", "id": "odd", "link": [{"target": target}]},
        {"resourceType": "RelatedPerson", "id": "odd", "patient": target},
    ):
        type = named["resourceType"]
        asked = Interaction("update", type, "odd", resource=named)
        runner.run(product.server.perform(asked, OPERATOR))
        searched = Interaction(
            "search-type",
            type,
            parameters=(("patient", "Patient/ann"), ("_id", "odd")),
        )
        found = json.loads(runner.run(product.server.perform(searched, OPERATOR)).body)

        assert runner.run(product.authority.directory.reach(f"{type}/odd")) == reached
        assert bool(found.get("entry")) is bool(reached)


def test_finding_out_whom_somebody_reaches_is_in_the_audit_under_their_name(runner, product):
    runner.run(product.authority.directory.reach("RelatedPerson/plain"))
    asked = Interaction(
        "search-type", "AuditEvent", parameters=(("agent", "RelatedPerson/plain"), ("_count", "5"))
    )
    found = json.loads(runner.run(product.server.perform(asked, OPERATOR)).body)

    (latest, *_) = [each["resource"] for each in found["entry"]]
    assert latest["entity"][0]["what"]["reference"].startswith("RelatedPerson/plain")


# --- pickers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "text", "found"),
    [
        ("Practitioner/doc", "", ["ann", "bob", "eve"]),
        ("Practitioner/doc", "berg", ["ann", "bob"]),
        ("Practitioner/doc", "ber an", ["ann"]),
        ("Practitioner/doc", "MRN-1", ["ann"]),
        ("Practitioner/doc", "nobody", []),
        ("Practitioner/doc", "a,b|c$d\\", []),
        ("Patient/bob", "", ["bob"]),
        ("Patient/bob", "ann", []),
        ("RelatedPerson/lasting", "", ["ann"]),
        ("RelatedPerson/ended", "", []),
    ],
)
def test_a_picker_shows_whom_the_user_may_see_by_name(runner, product, who, text, found):
    shown = runner.run(product.authority.directory.patients(who, text, 10))

    assert [each.id for each in shown] == found


def test_a_picker_shows_no_more_than_it_is_asked_for(runner, product):
    shown = runner.run(product.authority.directory.patients("Practitioner/doc", "", 2))

    assert [each.id for each in shown] == ["ann", "bob"]


def test_a_patient_is_shown_with_what_tells_them_apart(runner, product):
    directory = product.authority.directory
    bob = runner.run(directory.patient("Practitioner/doc", "bob"))
    ann = runner.run(directory.patient("Practitioner/doc", "ann"))

    assert bob == ("bob", "Bob Berg", "1980-05-06", "male", "")
    assert ann.identifier == "MRN-1"


@pytest.mark.parametrize("id", ["ann", "nobody", "../x", "a" * 65, ""])
def test_a_hidden_patient_is_none_like_one_that_is_not_there(runner, product, id):
    assert runner.run(product.authority.directory.patient("Patient/bob", id)) is None


def test_encounters_are_listed_newest_first_to_those_who_may_see_them(runner, product):
    directory = product.authority.directory
    ours = runner.run(directory.encounters("Practitioner/doc", "ann", 10))
    theirs = runner.run(directory.encounters("Patient/bob", "ann", 10))

    assert ours == [("newer", "2025-03-04 Check-up"), ("older", "2024-01-02 ambulatory")]
    assert theirs == []


# --- scopes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "grantable"),
    [
        ("patient/Observation.rs?category=laboratory", True),
        ("user/*.cruds", True),
        ("patient/Nonsense.rs", False),
        ("patient/Observation.rs?wonder=1", False),
        ("patient/Observation.rs?code-value-quantity=1$2", False),
    ],
)
def test_a_scope_that_cannot_be_held_against_data_is_not_granted(product, text, grantable):
    reason = product.authority.directory.ungrantable(read_scope(text).clinical)

    assert (reason is None) is grantable


def test_the_types_are_those_of_r4(product):
    types = product.authority.directory.types()

    assert len(types) == 146
    assert "Patient" in types


# --- policy --------------------------------------------------------------------------------------


def test_what_the_operator_sets_is_the_policy_and_unset_it_is_the_usual_one():
    from salus.app import _policy

    chosen = Settings(
        registration="token", jwks_hosts=("a:1",), access_minutes=5, refresh_days=2,
        session_minutes=10, session_hours=3,
    )  # fmt: skip

    assert _policy(Settings()) == Policy()
    assert _policy(chosen) == Policy(
        registration="token",
        jwks_hosts=frozenset({"a:1"}),
        access=5 * MINUTE,
        refresh=2 * 1440 * MINUTE,
        session_idle=10 * MINUTE,
        session_most=180 * MINUTE,
    )


# --- happenings ----------------------------------------------------------------------------------

WHOLE = {
    "client": "growth",
    "account": "maria",
    "who": "Practitioner/m",
    "patient": "ann",
    "address": "192.0.2.7",
    "detail": "a word",
}


def resource_of(happening):
    made = event(happening, "clinic.example", 1_800_000_000_000_000)
    return json.loads(made.head + b"1" + made.tail), made


@pytest.mark.parametrize("what", [*KINDS, "something-new"])
@pytest.mark.parametrize("fields", [{}, WHOLE, {"client": "growth"}, {"account": "maria"}])
@pytest.mark.requirement("54")
def test_every_happening_is_a_valid_event_of_r4(what, fields):
    made, _ = resource_of(Happening(what, **fields))
    issues = Validator(load()).validate(made)

    assert [each for each in issues if each.severity in ("error", "fatal")] == []
    assert {"system": "urn:salus:audit", "code": what} in made["subtype"]


def test_an_event_names_who_took_part_and_can_be_found_by_them():
    made, raw = resource_of(Happening("sign-in-refused", False, **WHOLE))

    assert made["type"]["code"] == "110114"
    assert made["subtype"][0]["code"] == "110122"
    assert (made["outcome"], made["outcomeDesc"]) == ("4", "a word")
    user, app, server = made["agent"]
    assert user["who"] == {"reference": "Practitioner/m"}
    assert user["altId"] == "maria"
    assert user["network"] == {"address": "192.0.2.7", "type": "2"}
    assert (user["requestor"], app["requestor"], server["requestor"]) == (True, False, False)
    assert app["who"] == {"identifier": {"value": "growth"}}
    assert server["who"] == made["source"]["observer"]
    assert made["entity"][0]["what"] == {"reference": "Patient/ann"}
    assert {(each.param, each.system, each.code) for each in raw.entries} == {
        ("agent", "Practitioner", "m"),
        ("entity", "Patient", "ann"),
    }


@pytest.mark.requirement("54")
def test_what_cannot_be_audited_does_not_happen(runner, product, monkeypatch):
    async def full(events):
        raise Unavailable("disk full")

    monkeypatch.setattr(product.server.store, "record", full)

    with pytest.raises(OAuthError) as refused:
        runner.run(audit_of(product.server)(Happening("token")))
    assert (refused.value.error, refused.value.status) == ("temporarily_unavailable", 503)
