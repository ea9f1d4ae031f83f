"""What takes too long is given up: bodies that hardly come, and requests that do not end."""

import asyncio
import socket
import time

import pytest
from starlette.requests import Request

from conformance.outcome import FhirError
from fhir_server.body import SLOWEST, read_body
from fhir_server.deadlines import Deadlines, Late
from smart_auth import forms
from smart_auth.errors import OAuthError
from tests.secured import Secured, patient

JSON = {"content-type": "application/fhir+json"}
HURRY = {"SALUS_LIMITS_BODY_SECONDS": "0.5", "SALUS_LIMITS_REQUEST_SECONDS": "0.0001"}


@pytest.fixture(scope="module")
def hurried(tmp_path_factory):
    """A server without patience."""
    server = Secured(tmp_path_factory.mktemp("hurried"), **HURRY)
    server.start()
    yield server
    assert server.stop() == 0


def slowly(server, token, *pieces, pause=0.0):
    """What is answered to a body of which pieces come with a pause before each, but never all."""
    head = (
        f"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/fhir+json\r\nContent-Length: 1000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
        wire.sendall(head.encode())
        for piece in pieces:
            time.sleep(pause)
            wire.sendall(piece)
        return wire.recv(4000)


@pytest.mark.parametrize("pieces", [(), (b"{",), (b"{", b" " * 100)])
def test_a_body_that_stalls_is_given_up(hurried, pieces):
    answered = slowly(hurried, hurried.token(), *pieces)

    assert answered.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"timeout"' in answered


def test_a_body_that_trickles_is_given_up_though_it_never_stalls():
    """One byte now and then would hold a connection for ever."""

    async def receive():
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b" ", "more_body": True}

    began = time.monotonic()
    with pytest.raises(FhirError) as refused:
        asyncio.run(read_body(receive, {}, 1_000_000, Deadlines(0.4)))
    assert refused.value.status == 408
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("before", [[], [b"{"]])
def test_a_body_that_ends_before_it_is_complete_is_none(before):
    """Of which nothing came is no empty body: an empty search would find everything."""
    pieces = [*before]

    async def receive():
        if pieces:
            return {"type": "http.request", "body": pieces.pop(), "more_body": True}
        return {"type": "http.disconnect"}

    with pytest.raises(FhirError) as refused:
        asyncio.run(read_body(receive, {}, 1_000, Deadlines(1)))
    assert (refused.value.status, refused.value.issues[0].code) == (400, "incomplete")


def test_a_body_that_comes_as_fast_as_it_must_is_read_whole():
    pieces = [b"x" * SLOWEST] * 3

    async def receive():
        await asyncio.sleep(0.3)
        piece = pieces.pop()
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    assert asyncio.run(read_body(receive, {}, 1_000_000, Deadlines(0.4))) == b"x" * 3 * SLOWEST


def test_a_form_that_does_not_come_is_given_up(monkeypatch):
    monkeypatch.setattr(forms, "_SECONDS", 0.05)

    class Stalling:
        async def stream(self):
            yield b"a"
            await asyncio.sleep(60)

    with pytest.raises(OAuthError) as refused:
        asyncio.run(forms.body(Stalling(), 100))
    assert (refused.value.status, refused.value.error) == (408, "invalid_request")


def test_a_form_that_ends_too_early_is_none():
    async def receive():
        return {"type": "http.disconnect"}

    cut = Request({"type": "http", "headers": []}, receive)
    with pytest.raises(OAuthError) as refused:
        asyncio.run(forms.body(cut, 100))
    assert (refused.value.status, refused.value.error) == (400, "invalid_request")


def test_what_lasts_too_long_is_cancelled_and_its_task_goes_on():
    done = []

    async def work(seconds):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            done.append("undone")
            raise
        return seconds

    async def request(deadlines, seconds):
        try:
            return await deadlines.within(work(seconds))
        except Late:
            await asyncio.sleep(0.01)  # nothing more is cancelled
            return "late"

    async def all_of_them():
        deadlines = Deadlines(0.1)
        first = await asyncio.gather(*(request(deadlines, each) for each in (0.01, 10, 0.02, 10)))
        await asyncio.sleep(0.2)
        return first, await request(deadlines, 10), await request(deadlines, 0.01)

    assert asyncio.run(all_of_them()) == ([0.01, "late", 0.02, "late"], "late", 0.01)
    assert done == ["undone"] * 3


def test_who_is_cancelled_by_another_is_cancelled():
    async def cancelled():
        task = asyncio.create_task(Deadlines(10).within(asyncio.sleep(10)))
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())


def test_a_request_beyond_its_time_is_given_up_whole(hurried):
    with hurried.client(hurried.token()) as fhir:
        late = fhir.put("/Patient/late", content=patient("late"), headers=JSON)
        assert late.status_code == 503
        assert late.headers["retry-after"] == "5"
        assert late.json()["issue"][0]["code"] == "timeout"

        found = fhir.get("/Patient/late")  # reads by id have no such limit
        assert found.status_code in (200, 404)
    assert hurried.stop() == 0

    patient_server = Secured(hurried.data.parent)
    patient_server.start()
    with patient_server.client(patient_server.token()) as fhir:
        events = fhir.get("/AuditEvent?entity=Patient/late&_count=100").json()["entry"]
        versions = fhir.get("/Patient/late/_history")
    assert patient_server.stop() == 0
    hurried.start()
    outcomes = [each["resource"].get("outcomeDesc", "") for each in events]
    assert "timeout" in outcomes
    assert versions.status_code in (200, 404)
    assert found.status_code == versions.status_code
