"""Buckets: what they hold, what they give, that they stay few; and what requests cost."""

import asyncio
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.interaction import Interaction, pairs
from fhir_server.metering import FREE, Throttled, cost
from fhir_server.storage.effort import counted, counting
from salus.rates import DEBT, OTHERS, TOLD_AGAIN, Buckets, Policy, Quotas, Rates
from smart_auth.grant import Grant

APP = Grant("an app", client="charts")
ANNA = Grant("Anna", client="charts", agent="Practitioner/anna")
ANNA_ELSEWHERE = Grant("Anna", client="notes", agent="Practitioner/anna")
OTHER = Grant("another app", client="notes")


class Clock:
    """Seconds that pass only when told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def buckets(quota=10, seconds=10, **more):
    return Buckets(Policy("client", quota, seconds, "This app asks"), **more)


def rates(told=lambda policy: None, clock=None, **quotas):
    usual = {"client": 10, "user": 10, "address": 10, "seconds": 10}
    return Rates(Quotas(**(usual | quotas)), told, clock or Clock())


def said(bill):
    return {name.decode(): value.decode() for name, value in bill.headers()}


# --- one bucket ----------------------------------------------------------------------------------


def test_a_bucket_gives_what_it_holds_and_then_as_fast_as_it_fills():
    held = buckets(quota=10, seconds=20)

    assert [held.take("a", 4, 100.0) for _ in range(2)] == [0.0, 0.0]
    assert held.take("a", 4, 100.0) == pytest.approx(4.0)  # two are there, two more come in 4 s
    assert held.take("a", 2, 100.0) == 0.0
    assert held.take("a", 4, 107.9) == pytest.approx(0.1)
    assert held.take("a", 4, 108.0) == 0.0
    assert held.take("b", 10, 108.0) == 0.0


def test_what_costs_more_than_a_bucket_holds_takes_all_of_it():
    held = buckets()

    assert held.take("a", 1, 0.0) == 0.0
    assert held.take("a", 500, 0.0) == pytest.approx(1.0)
    assert held.take("a", 500, 1.0) == 0.0


def test_a_debt_is_never_more_than_can_be_paid_soon():
    held = buckets()
    held.owe("a", 1_000_000, 0.0)

    assert held.take("a", 1, 0.0) == pytest.approx((DEBT - 1) * 10 + 1)
    assert held.take("a", 1, DEBT * 10.0) == 0.0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 12)), max_size=60))
def test_nobody_is_given_more_than_a_bucket_and_what_came_since(asked):
    held, now, given_ = buckets(), 0.0, 0
    for pause, units in asked:
        now += pause
        if not held.take("a", units, now):
            given_ += min(units, 10)
        assert given_ <= 10 + now + 1e-3


@given(st.lists(st.floats(0, 3), max_size=60))
def test_who_waits_as_long_as_told_is_given(pauses):
    held, now = buckets(), 0.0
    for pause in pauses:
        now += pause
        if wait := held.take("a", 3, now):
            now += wait
            assert held.take("a", 3, now) == 0.0


# --- many buckets --------------------------------------------------------------------------------


def test_full_buckets_are_forgotten_and_the_others_stay_few():
    held = buckets(most=100)
    for number in range(100):
        held.take(f"early {number}", 1, 0.0)
    for number in range(50):
        held.take(f"late {number}", 1, 5.0)

    assert len(held) == 50
    for number in range(1000):
        held.take(f"flood {number}", 5, 5.1)
    assert len(held) <= 101


def test_beyond_their_number_keys_share_a_bucket_and_the_known_keep_their_own():
    held = buckets(most=2)
    held.take("a", 5, 0.0)
    held.take("b", 5, 0.0)

    assert held.take("c", 10, 0.0) == 0.0
    assert held.take("d", 1, 0.0) > 0
    assert held.left(OTHERS, 0.0)[0] == 0
    assert held.take("a", 5, 0.0) == 0.0


# --- accounts ------------------------------------------------------------------------------------


def test_an_answer_says_what_is_left_of_the_bucket_with_the_least():
    clock = Clock()
    made = rates(clock=clock, user=5)

    assert said(made.known(APP)) == {
        "ratelimit-policy": '"client";q=10;w=10',
        "ratelimit": '"client";r=9;t=1',
    }
    bill = made.known(ANNA)
    bill.charge(2)
    assert said(bill) == {
        "ratelimit-policy": '"client";q=10;w=10, "user";q=5;w=10',
        "ratelimit": '"user";r=2;t=6',
    }


def test_a_user_has_one_bucket_whatever_app_asks_and_a_refusal_takes_nothing():
    made = rates(user=2)
    made.known(ANNA)
    made.known(ANNA_ELSEWHERE)

    with pytest.raises(Throttled) as refused:
        made.known(ANNA)
    assert dict(refused.value.headers) == {
        b"ratelimit-policy": b'"client";q=10;w=10, "user";q=2;w=10',
        b"ratelimit": b'"user";r=0;t=5',
        b"retry-after": b"5",
    }
    assert refused.value.status == 429
    assert said(made.known(APP))["ratelimit"] == '"client";r=8;t=2'


def test_who_is_refused_is_counted_each_time_and_told_once_a_minute():
    told, clock = [], Clock()
    made = rates(told.append, clock, client=1, seconds=3600)
    made.known(APP)

    def first(grant):
        with pytest.raises(Throttled) as refused:
            made.known(grant)
        return refused.value.first

    assert [first(APP), first(APP)] == [True, False]
    made.known(OTHER)
    assert first(OTHER)
    clock.now += TOLD_AGAIN
    assert [first(APP), first(APP)] == [True, False]
    assert told == ["client"] * 5


def test_what_took_long_is_charged_afterwards():
    made = rates(client=1000)
    bill = made.known(APP)
    bill.settle(0.001)
    assert said(made.known(APP))["ratelimit"] == '"client";r=998;t=1'

    bill.settle(0.301)
    assert said(made.known(APP))["ratelimit"] == '"client";r=697;t=4'


def test_what_a_thread_works_for_a_request_is_counted_for_it_alone():
    def work():
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass
        return threading.get_ident()

    async def request(works):
        effort = counted()
        if works:
            assert await asyncio.to_thread(counting(work)) != threading.get_ident()
        return effort.seconds

    async def both():
        return await asyncio.gather(request(True), request(False))

    busy, idle = asyncio.run(both())
    assert 0.02 <= busy < 1
    assert idle == 0
    assert counting(work) is work  # nobody counts


def test_no_rate_holds_the_operator_an_exempt_app_and_a_quota_of_nothing():
    made = rates(exempt=frozenset({"charts"}))

    assert made.known(APP) is FREE
    assert made.known(Grant.open()) is FREE
    assert made.known(OTHER) is not FREE
    unlimited = rates(client=0, user=0, address=0)
    assert {unlimited.known(ANNA), unlimited.stranger("10.0.0.1")} == {FREE}
    unlimited.app("charts", "10.0.0.1", 5)


def test_addresses_of_one_network_share_and_areas_do_not():
    made = rates(address=2)
    made.visitor("sign-in", "2001:db8::1", 1)
    made.visitor("sign-in", "2001:db8::ffff:2", 1)

    with pytest.raises(Throttled):
        made.visitor("sign-in", "2001:db8::3", 1)
    made.visitor("protocol", "2001:db8::3", 1)
    made.visitor("sign-in", "2001:db8:0:1::1", 1)


def test_apps_behind_one_address_leave_each_other_room():
    made = rates(address=10)
    made.app("charts", "10.0.0.1", 5)

    with pytest.raises(Throttled):
        made.app("charts", "10.0.0.1", 5)
    made.app("notes", "10.0.0.1", 5)
    made.app("charts", "10.0.0.2", 5)


# --- costs ---------------------------------------------------------------------------------------


def entry(method, url, **more):
    return {"request": {"method": method, "url": url, **more}}


def about(*references):
    """A create of a resource that refers to these."""
    subjects = [{"reference": each} for each in references]
    resource = {"resourceType": "Observation", "performer": subjects}
    return {"request": {"method": "POST", "url": "Observation"}, "resource": resource}


def bundle(*entries):
    return {"resourceType": "Bundle", "type": "batch", "entry": list(entries)}


@pytest.mark.parametrize(
    ("asked", "units"),
    [
        (Interaction("read", "Patient", "1"), 0),
        (Interaction("create", "Patient"), 2),
        (Interaction("create", "Patient", weight=160 * 1024), 12),
        (Interaction("create", "Patient", condition=(("identifier", "x"),)), 5),
        (Interaction("history-system"), 4),
        (Interaction("search-type", "Patient", parameters=(("name", "x"),)), 2),
        (Interaction("search-type", "Patient", parameters=(("name:exact", "x"),)), 2),
        (Interaction("search-type", "Patient", parameters=(("name:contains", "x"),)), 12),
        (Interaction("search-type", "Patient", parameters=(("_count", "1000"),)), 52),
        (Interaction("search-type", "Patient", parameters=(("_count", "9" * 5000),)), 2),
        (Interaction("search-type", "Patient", parameters=(("_total", "accurate"),)), 12),
        (Interaction("search-type", "Patient", parameters=(("_total", "none"),)), 2),
        (Interaction("search-type", "Observation", parameters=(("patient.name", "x"),)), 7),
        (
            Interaction(
                "search-type",
                "Observation",
                parameters=(("subject:Patient.organization.name:contains", "x"),),
            ),
            22,
        ),
        (
            Interaction(
                "search-type", "Patient", parameters=(("_has:Observation:patient:code", "x"),)
            ),
            7,
        ),
        (
            Interaction(
                "search-type",
                "Patient",
                parameters=(("_revinclude:iterate", "Observation:patient"),),
            ),
            10,
        ),
        (Interaction("operation", "Patient", "1", operation="validate"), 9),
        (Interaction("batch", resource=bundle()), 0),
        (Interaction("batch", resource=bundle(entry("GET", "Patient/1"))), 2),
        (Interaction("batch", resource=bundle(entry("GET", "Patient?_total=accurate"))), 14),
        (Interaction("transaction", resource=bundle(*[entry("PUT", "Patient/1")] * 3)), 12),
        (Interaction("batch", resource=bundle(entry("POST", "Observation/$validate"))), 11),
        (Interaction("transaction", resource=bundle(about("Patient/1", "urn:uuid:1"))), 4),
        (Interaction("transaction", resource=bundle(about("Patient?identifier=x"))), 7),
        (Interaction("transaction", resource=bundle(*[about("Patient?identifier=x")] * 3)), 15),
        (Interaction("transaction", resource=bundle(about("Patient?name:contains=x"))), 17),
        (Interaction("batch", resource=bundle("nonsense", {"request": 1}, entry(1, 2))), 3),
        (Interaction("batch", resource={"entry": 7}), 0),
    ],
)
def test_a_request_costs_what_it_asks(asked, units):
    assert cost(asked) == units


@pytest.mark.parametrize(
    ("query", "units"),
    [
        ("identifier=x", 3),
        ("name:contains=x", 13),
        ("name%3Acontains=x", 13),
        ("name:contains=x&_has:Observation:patient:code:text=y", 28),
        ("organization.name=x&_count=1000", 58),
    ],
)
def test_a_condition_in_a_bundle_costs_as_much_as_the_same_search_there_and_alone(query, units):
    conditional = [
        entry("POST", "Patient", ifNoneExist=query),
        entry("POST", "Patient", ifNoneExist=f"?{query}"),
        entry("PUT", f"Patient?{query}"),
        entry("PATCH", f"Patient?{query}"),
        entry("DELETE", f"Patient?{query}"),
    ]
    costs = [cost(Interaction("batch", resource=bundle(each))) for each in conditional]

    assert costs == [1 + 3 + units] * 5
    assert (
        cost(Interaction("batch", resource=bundle(entry("GET", f"Patient?{query}")))) == 1 + units
    )
    condition = pairs(query, 9)
    alone = [
        Interaction("create", "Patient", condition=condition),
        Interaction("search-type", "Patient", parameters=condition),
    ]
    assert [cost(each) + 1 for each in alone] == [3 + units, units]
