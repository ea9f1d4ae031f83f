"""What an event says in its body, what is kept apart of it, and the keys that it is found by."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from conformance.json import parse
from fhir_server.audit.apart import is_named, whole
from fhir_server.audit.event import Caller
from fhir_server.audit.links import entries_of
from fhir_server.audit.strangers import SINGLE
from fhir_server.storage.memory import MemoryStore
from fhir_server.storage.store import EVENTS, Entry, Event, Store, Version
from salus.happenings import KINDS
from salus.happenings import event as happened
from smart_auth.authority import Happening
from smart_auth.grant import NOBODY, Grant
from tests.security import people
from tests.security.clinic import BASE, Clinic, core, grant, opened

SYSTEM = grant("system/*.cruds", id="service", client="service")
DOCTOR = grant("user/*.rs", agent="Practitioner/doc", reach=None, id="doctor", client="chart")
MINE = grant("patient/*.rs", patient="a", reach=frozenset({"a"}), id="mine")
SECRET = "Lovelace"
REPORTED: dict[str, Any] = {
    "resourceType": EVENTS,
    "meta": {"tag": [{"system": "urn:x", "code": "x", "display": SECRET}]},
    "text": {
        "status": "generated",
        "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{SECRET}</div>',
    },
    "type": {"code": "rest", "display": SECRET},
    "subtype": [{"system": "urn:x", "code": "login"}, {"display": SECRET}],
    "recorded": "2024-01-01T00:00:00Z",
    "outcome": "0",
    "outcomeDesc": SECRET,
    "purposeOfEvent": [{"text": SECRET}],
    "agent": [
        {
            "requestor": True,
            "who": {"reference": f"{BASE}/Practitioner/doc", "display": SECRET},
            "name": SECRET,
            "altId": SECRET,
            "network": {"address": "192.0.2.1", "type": "2"},
        },
        {"requestor": False, "who": {"reference": f"Device?identifier={SECRET}"}},
    ],
    "source": {"site": SECRET, "observer": {"display": SECRET}},
    "entity": [
        {"what": {"reference": "Patient/a/_history/1", "display": SECRET}, "name": SECRET},
        {"description": SECRET, "query": b64encode(SECRET.encode()).decode()},
        {"what": {"reference": "http://elsewhere.example/Patient/a"}},
        {"what": {"identifier": {"value": SECRET}}},
    ],
}
ASKED: tuple[tuple[Grant | None, str, str, Any], ...] = (
    (DOCTOR, "GET", "Patient/a", None),
    (DOCTOR, "GET", "Patient/a?_elements=name", None),
    (DOCTOR, "GET", f"Patient?_id=a&name:contains={SECRET}", None),
    (DOCTOR, "GET", f"Patient?name={SECRET}", None),
    (DOCTOR, "GET", f"Patient?{SECRET}=1", None),
    (DOCTOR, "GET", f"Patient/a/Observation?code:text={SECRET}", None),
    (DOCTOR, "GET", f"Observation?patient=a,b&_has:Provenance:target:agent={SECRET}", None),
    (DOCTOR, "GET", f"Patient/$x {SECRET}", None),
    (DOCTOR, "GET", "Observation/lab-a/_history", None),
    (DOCTOR, "GET", "metadata", None),
    (DOCTOR, "DELETE", f"Patient?name={SECRET}", None),
    (MINE, "GET", f"Observation?code:text={SECRET}", None),
    (None, "GET", f"Patient?name={SECRET}", None),
    (SYSTEM, "POST", "Patient", {"resourceType": "Patient", "name": [{"family": SECRET}]}),
    (SYSTEM, "PUT", f"Patient?identifier=urn:x|{SECRET}", {"resourceType": "Patient"}),
    (SYSTEM, "POST", EVENTS, REPORTED),
    (SYSTEM, "GET", f"{EVENTS}?entity=Patient/a&entity-name={SECRET}", None),
    (SYSTEM, "GET", f"?_type=Patient&_id=a,b&_text={SECRET}", None),
    (
        SYSTEM,
        "POST",
        "",
        {
            "resourceType": "Bundle",
            "type": "batch",
            "entry": [
                {"request": {"method": "GET", "url": f"Patient?name={SECRET}"}},
                {"request": {"method": "GET", "url": "Patient/a"}},
                {
                    "request": {"method": "POST", "url": "Patient"},
                    "resource": {"resourceType": "Patient"},
                },
            ],
        },
    ),
)


class Tapped(MemoryStore):
    """Remembers the events as they were recorded."""

    async def events(self) -> list[Version]:
        found: list[Version] = []

        async def work(tx: Any) -> None:
            while (one := await tx.get(EVENTS, str(len(found) + 1))) is not None:
                found.append(one)

        await self.transaction(work)
        return found

    def recorded(self, version: Version) -> tuple[Entry, ...]:
        """The entries that came with an event, without those that every event has."""
        return tuple(each for each in self.entries(version) if each.shape in ("link",))


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def store(runner: asyncio.Runner) -> Tapped:
    """A store in which everything was asked for, and everything has happened."""
    store = Tapped()
    clinic = Clinic(store, runner)
    clinic.put(*people.ALL)
    for who, method, url, body in ASKED:
        clinic.ask(who, method, url, body)
    told = [
        happened(Happening(what, client="app", account="login", who=who, patient="a"), "here", 1)
        for what in KINDS
        for who in ("Practitioner/doc", None)
    ]
    told += [happened(Happening("token-refused", False, client=f"{SECRET} {SECRET}"), "here", 1)]
    told += [
        happened(Happening("sign-in", account=SECRET, who=f"{type}/a"), "here", 1)
        for type in ("Patient", "RelatedPerson", "Person")
    ]

    async def flood() -> None:
        await clinic.server.record(*told)
        strangers = clinic.server._strangers
        for _ in range(SINGLE + 2):
            strangers.single(Caller(NOBODY, "192.0.2.1", "here"))
        await strangers.close()

    runner.run(flood())
    return store


@pytest.fixture(scope="module")
def events(runner: asyncio.Runner, store: Tapped) -> list[Version]:
    return runner.run(store.events())


@pytest.mark.requirement("54")
def test_a_body_has_no_name_no_free_text_and_no_value_that_was_asked_for(events):
    hidden = (SECRET, b64encode(SECRET.encode()).decode()[:-2], SECRET.lower())
    kept = [each for each in events if each.apart and SECRET.encode() in each.apart]

    assert len(kept) >= 10
    for each in events:
        assert not any(word.encode() in each.body for word in hidden), each.body


def test_the_entries_of_an_event_are_those_that_were_recorded_with_it(events, store):
    types = core().definitions.types
    for each in events:
        assert entries_of(parse(each.body), BASE, types) == store.recorded(each)
    assert {len(store.recorded(each)) for each in events} >= {0, 1, 2, 3}


def queries(event: dict[str, Any]) -> list[str]:
    """The queries in an event, in the clear."""
    every = event.get("entity", ())
    return [b64decode(each["query"]).decode() for each in every if "query" in each]


def test_who_reads_an_event_finds_the_query_in_its_place(events):
    found = [query for each in events for query in queries(parse(whole(each)))]

    assert f"Patient?_id=a&name:contains={SECRET}" in found
    assert f"Patient/a/Observation?code:text={SECRET}" in found
    assert f"Patient?identifier=urn:x|{SECRET}" in found
    assert not [query for each in events for query in queries(parse(each.body)) if "=" in query]


@pytest.mark.parametrize("asked", [f"Patient?_id=a&name:contains={SECRET}"])
def test_a_query_is_named_by_a_hash_and_its_parameters(events, asked):
    (event,) = (each for each in events if each.apart and each.apart[16:] == asked.encode())
    (entity,) = (each for each in parse(event.body)["entity"] if "description" in each)
    absent, hashed = entity["_query"]["extension"]

    assert entity["description"] == "Patient?_id&name:contains"
    assert absent["valueCode"] == "masked"
    assert is_named(event)
    assert hashed["url"] == "urn:salus:audit:sha-256"
    (shown,) = (each for each in parse(whole(event))["entity"] if "description" in each)
    assert shown == {
        **{name: value for name, value in entity.items() if name != "_query"},
        "query": b64encode(asked.encode()).decode(),
        "_query": {"extension": [hashed]},
    }


def test_the_same_question_twice_has_two_hashes(runner):
    store = Tapped()
    clinic = Clinic(store, runner)
    for _ in range(2):
        clinic.ask(DOCTOR, "GET", f"Patient?name={SECRET}")
    one, other = (each.apart for each in runner.run(store.events()))

    assert one[16:] == other[16:]
    assert one[:16] != other[:16]


def test_what_is_gone_or_is_not_what_the_body_names_is_not_shown(events):
    event = next(each for each in events if each.apart and b"name=" in each.apart)
    other = next(each for each in events if each.apart and each.apart != event.apart)

    assert whole(replace(event, apart=None)) == event.body
    assert whole(replace(event, apart=other.apart)) == event.body
    assert whole(replace(event, apart=event.apart + b"x")) == event.body
    assert b'"query":' in whole(event)


def test_a_parameter_that_fhir_does_not_know_is_not_written_down(events):
    (refused,) = (
        parse(each.body)
        for each in events
        if each.apart and each.apart[16:] == f"Patient?{SECRET}=1".encode()
    )

    assert refused["outcome"] == "4"
    assert [e["description"] for e in refused["entity"] if "description" in e] == ["Patient?*"]


def test_an_event_of_another_system_is_shown_as_it_was_sent_and_stored_without_its_words(events):
    (event,) = (each for each in events if each.apart and b"reported" in each.body)
    bare, shown = parse(event.body), parse(whole(event))
    tags = REPORTED["meta"]["tag"]

    assert {n: v for n, v in shown.items() if n not in ("id", "meta")} == {
        n: v for n, v in REPORTED.items() if n not in ("id", "meta")
    }
    assert shown["id"] == bare["id"] == event.id
    assert shown["meta"]["tag"][:-1] == tags
    assert [each["code"] for each in bare["meta"]["tag"]] == ["reported"]
    assert bare["agent"] == [
        {
            "who": {"reference": f"{BASE}/Practitioner/doc"},
            "requestor": True,
            "network": {"address": "192.0.2.1", "type": "2"},
        },
        {"requestor": False},
    ]
    assert bare["entity"] == [
        {"what": {"reference": "Patient/a/_history/1"}},
        {"what": {"reference": "http://elsewhere.example/Patient/a"}},
    ]


def test_what_is_left_of_an_event_is_a_valid_one(events):
    checked = core().validator
    for each in events:
        for body in (each.body, whole(each)):
            issues = checked.validate(parse(body))
            assert [one for one in issues if one.severity in ("error", "fatal")] == [], body


class Recording:
    """A store of which the events are kept as they came."""

    def __init__(self) -> None:
        self.made: list[Event] = []

    def of(self, store: Store) -> Any:
        record = store.record

        async def told(events: Any) -> None:
            self.made += events
            await record(events)

        return told


@pytest.mark.requirement("54")
def test_what_was_asked_belongs_to_the_one_patient_whom_the_answer_names(runner, monkeypatch):
    store, recording = MemoryStore(), Recording()
    clinic = Clinic(store, runner)
    clinic.put(*people.ALL)
    monkeypatch.setattr(store, "record", recording.of(store))
    for url in (
        "Patient?_id=a",
        "Patient?_id=a,b",
        "Patient?_id=nobody",
        "Observation?patient=a",
        "Patient?wrong=Patient/a",
        "Patient/nobody?_elements=id",
    ):
        clinic.ask(DOCTOR, "GET", url)
    clinic.ask(DOCTOR, "GET", "Patient/a")

    assert [each.owner for each in recording.made] == [
        "Patient/a",
        None,
        None,
        "Patient/a",
        None,
        None,
        None,
    ]
    assert [each.apart is None for each in recording.made] == [*([False] * 6), True]


def test_an_erased_patient_takes_the_questions_along_and_leaves_the_events(runner, tmp_path):
    store = runner.run(opened(tmp_path / "data"))
    clinic = Clinic(store, runner)
    clinic.put(*people.ALL)
    clinic.ask(DOCTOR, "GET", "Observation?patient=a&_sort=date")

    def told() -> dict[str, Any]:
        found = clinic.ask(SYSTEM, "GET", f"{EVENTS}?entity=Patient/a&action=E").json["entry"]
        return next(e["resource"] for e in found if "Observation?" in json.dumps(e))

    before = told()
    runner.run(store.transaction(lambda tx: tx.erase("Patient/a"), write=True))
    after = told()
    runner.run(store.close())

    assert queries(before) == ["Observation?patient=a&_sort=date"]
    assert queries(after) == []
    assert after["id"] == before["id"]
    assert [e["_query"]["extension"][0]["valueCode"] for e in after["entity"] if "_query" in e] == [
        "masked"
    ]
