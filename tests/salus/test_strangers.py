"""A flood of requests of nobody known fills no disk, and is in the audit all the same."""

import asyncio
from collections import Counter

import pytest

from conformance.outcome import FhirError
from fhir_server.audit import strangers
from fhir_server.audit.event import Caller
from fhir_server.audit.strangers import SINGLE, Strangers, network
from smart_auth.grant import NOBODY
from tests.secured import Secured

FLOOD = 3 * SINGLE


def said(event):
    return event["resource"].get("outcomeDesc"), event["resource"]["agent"][0]["network"]["address"]


@pytest.mark.requirement("54")
def test_the_first_refusals_have_an_event_each_and_the_others_one_with_their_number(tmp_path):
    server = Secured(tmp_path)
    server.start()
    with server.client() as fhir:
        answers = {fhir.get("/Patient").status_code for _ in range(FLOOD)}
        answers |= {
            fhir.get("/Patient", headers={"authorization": "Bearer x"}).status_code
            for _ in range(FLOOD)
        }
    server.stop()  # what was counted is told at the latest now
    server.start()
    with server.client(server.token()) as fhir:
        found = fhir.get("/AuditEvent?outcome=4&_count=500").json()["entry"]
    server.stop()

    assert answers == {401}
    assert Counter(map(said, found)) == {
        ("login", "127.0.0.1"): SINGLE,
        (f"login: {2 * FLOOD - SINGLE} more such requests", "127.0.0.1"): 1,
    }


def test_what_is_known_is_never_only_counted(secured):
    with secured.client(secured.token("system/Patient.rs")) as fhir:
        before = fhir.get("/Patient/nobody-1").status_code
        refused = {fhir.get("/Observation/nobody-1").status_code for _ in range(FLOOD)}
    with secured.client(secured.token("system/*.rs")) as fhir:
        found = fhir.get("/AuditEvent?outcome=4&entity=Observation/nobody-1&_summary=count").json()

    assert (before, refused) == (404, {403})
    assert found["total"] == FLOOD


def counted(addresses):
    """How many of these requests have an event, and the events that tell of the others."""

    async def run():
        told = []

        async def record(*events):
            told.extend(events)

        counting = Strangers(record, lambda: 0)
        single = sum(counting.single(Caller(NOBODY, each, "here")) for each in addresses)
        await asyncio.sleep(0.05)  # the minute is over
        return single, told

    return asyncio.run(run())


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(strangers, "_SECONDS", 0.01)
    monkeypatch.setattr(strangers, "_ADDRESSES", 3)


def test_each_address_is_counted_by_itself_and_told_when_the_minute_is_over(short):
    single, told = counted(["192.0.2.1"] * (SINGLE + 2) + ["192.0.2.2"])

    assert single == SINGLE + 1
    assert len(told) == 1
    assert b"login: 2 more such requests" in told[0].tail
    assert b"192.0.2.1" in told[0].tail


def test_a_flood_from_many_addresses_is_counted_as_one_beyond_those_told_apart(short):
    single, told = counted([f"192.0.2.{n}" for n in range(3 + SINGLE + 5)])

    assert single == 3 + SINGLE
    assert [b"many addresses" in each.tail for each in told] == [True]


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ("unknown", "unknown"),
    ],
)
def test_one_network_of_version_6_is_one_address(address, counts_as):
    assert network(address) == counts_as


def test_what_cannot_be_told_now_is_told_another_time():
    told = []

    async def record(*events):
        told.append(len(events))
        if len(told) == 1:
            raise FhirError("transient", "full", status=503)

    async def run():
        count = Strangers(record, lambda: 0)
        for _ in range(SINGLE + 5):
            count.single(Caller(NOBODY, "10.0.0.1", "site"))
        with pytest.raises(FhirError):
            await count.close()
        await count.close()
        await count.close()

    asyncio.run(run())
    assert told == [1, 1]
