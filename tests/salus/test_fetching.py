"""Files to import come from where the operator allows, and from nowhere that a name leads to."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest

from conformance.outcome import FhirError
from salus import fetching
from salus.fetching import Fetching

HOSTS = frozenset({"files.example", "other.example:8443"})


def fetched(url: str) -> bytes:
    async def all() -> bytes:
        return b"".join([part async for part in Fetching(HOSTS)(url, 100)])

    return asyncio.run(all())


def resolves(monkeypatch, *addresses: str) -> None:
    def found(host, port, *_, **__):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def answers(monkeypatch, answer) -> list[httpx.Request]:
    """What a server says to every request; the requests that it got."""
    asked: list[httpx.Request] = []

    class Client(httpx.AsyncClient):
        def __init__(self, **options):
            assert options["follow_redirects"] is False and options["trust_env"] is False

            def handle(request):
                asked.append(request)
                return answer

            super().__init__(transport=httpx.MockTransport(handle))

    monkeypatch.setattr(fetching.httpx, "AsyncClient", Client)
    return asked


@pytest.mark.parametrize(
    "url",
    [
        "http://files.example/x",
        "https://elsewhere.example/x",
        "https://files.example@elsewhere.example/x",
        "https://other.example/x",
        "https://other.example:443/x",
        "file:///etc/passwd",
        "https://169.254.169.254/latest",
    ],
)
def test_nothing_is_fetched_from_elsewhere(monkeypatch, url):
    asked = answers(monkeypatch, httpx.Response(200))
    with pytest.raises(FhirError):
        fetched(url)
    assert asked == []


@pytest.mark.parametrize(
    "addresses",
    [("169.254.169.254",), ("8.8.8.8", "10.0.0.1"), ("fe80::1",), ("::ffff:169.254.169.254",)],
)
def test_a_name_does_not_lead_to_the_link_nor_half_inside(monkeypatch, addresses):
    resolves(monkeypatch, *addresses)
    asked = answers(monkeypatch, httpx.Response(200))
    with pytest.raises(FhirError, match="no address that is fetched from"):
        fetched("https://files.example/x")
    assert asked == []


def test_the_connection_goes_to_the_address_that_was_judged(monkeypatch):
    resolves(monkeypatch, "8.8.8.8")
    asked = answers(monkeypatch, httpx.Response(200, stream=httpx.ByteStream(b"line\n")))
    assert fetched("https://files.example/x") == b"line\n"
    (request,) = asked
    assert request.url.host == "8.8.8.8"
    assert request.headers["host"] == "files.example"
    assert request.extensions["sni_hostname"] == "files.example"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (httpx.Response(302, headers={"location": "https://10.0.0.1/"}), "answered with 302"),
        (httpx.Response(404), "answered with 404"),
        (httpx.Response(200, stream=httpx.ByteStream(b"x" * 101)), "more than 100 bytes"),
    ],
)
def test_redirects_are_not_followed_and_sizes_are_held(monkeypatch, answer, why):
    resolves(monkeypatch, "8.8.8.8")
    asked = answers(monkeypatch, answer)
    with pytest.raises(FhirError, match=why):
        fetched("https://files.example/x")
    assert len(asked) == 1
