"""Key sets of clients by URL: fetched without following anybody into a private network, and kept no
longer than their owner allows.

https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html, https://www.rfc-editor.org/rfc/rfc9111
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpx
import msgspec

from smart_auth.addresses import is_public
from smart_auth.authority import Authority
from smart_auth.model import HOUR, MINUTE, SECOND
from smart_auth.uris import fetch_problem, is_trusted

_SECONDS = 5.0
_BYTES = 262_144
_SETS = 1000  # remembered
_UNSAID = 5 * MINUTE  # how long a set is kept whose owner says nothing of it
_LONGEST = HOUR
_AGAIN = MINUTE  # until a set is fetched anew for a key that it did not have
_FAILED = 5 * SECOND  # until an address that failed is tried again
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?(\d{1,9})", re.IGNORECASE)
_NEVER = re.compile(r"(?:^|[\s,])(?:no-store|no-cache)(?:$|[\s,=])", re.IGNORECASE)


class Unfetched(Exception):
    """A key set could not be had; the text says why, for the audit and the client's developer."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """`jwks` None: the last try failed, as `problem` says."""

    jwks: dict[str, Any] | None
    fetched: int
    until: int
    problem: str = ""


class KeySets:
    """What was fetched of clients' key sets, for this process."""

    def __init__(self, authority: Authority) -> None:
        self._clock, self._policy = authority.clock, authority.policy
        self._kept: dict[str, _Kept] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def read(self, url: str) -> dict[str, Any]:
        """The set at a URL, as fresh as its owner demands. Unfetched."""
        return await self._read(url, 0)

    async def read_anew(self, url: str) -> dict[str, Any]:
        """The set, fetched again because a key was not in it; at most once a minute. Unfetched."""
        return await self._read(url, self._clock() - _AGAIN)

    async def _read(self, url: str, since: int) -> dict[str, Any]:
        lock = self._locks.setdefault(url, asyncio.Lock())
        async with lock:  # many assertions at once are one fetch
            kept, now = self._kept.get(url), self._clock()
            if kept is None or now >= kept.until or kept.fetched < since:
                kept = await self._fetched(url, now)
                self._remember(url, kept)
        if kept.jwks is None:
            raise Unfetched(kept.problem)
        return kept.jwks

    async def _fetched(self, url: str, now: int) -> _Kept:
        try:
            async with asyncio.timeout(_SECONDS):
                body, headers = await fetch(url, self._policy.jwks_hosts)
            found = msgspec.json.decode(body)
            if not isinstance(found, dict):
                raise Unfetched("The key set is no JSON object")
        except (TimeoutError, msgspec.DecodeError, RecursionError):
            return _Kept(
                None, now, now + _FAILED, "The key set did not come in time, or is no JSON"
            )
        except Unfetched as error:
            return _Kept(None, now, now + _FAILED, str(error))
        return _Kept(found, now, now + _freshness(headers.get("cache-control", "")))

    def _remember(self, url: str, kept: _Kept) -> None:
        self._kept.pop(url, None)
        self._kept[url] = kept
        if len(self._kept) > _SETS:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            if not self._locks[oldest].locked():
                del self._locks[oldest]


def _freshness(cache_control: str) -> int:
    """How long an answer may be kept, in microseconds."""
    if _NEVER.search(cache_control):
        return 0
    said = _MAX_AGE.search(cache_control)
    return min(int(said[1]) * SECOND, _LONGEST) if said else _UNSAID


async def fetch(url: str, trusted: frozenset[str]) -> tuple[bytes, Mapping[str, str]]:
    """Body and headers of a GET, from a public address or a trusted host. Unfetched."""
    problem = fetch_problem(url, trusted)
    if problem:
        raise Unfetched(f"The address of the key set {problem}")
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = await _resolved(parts, is_trusted(parts, trusted))
    # The connection goes to the address that was judged, whatever the name means a moment later.
    there = httpx.URL(url).copy_with(host=address)
    headers = {"Host": parts.netloc, "Accept": "application/json", "Accept-Encoding": "identity"}
    client = httpx.AsyncClient(
        verify=_tls(), trust_env=False, follow_redirects=False, timeout=_SECONDS
    )
    try:
        async with (
            client as http,
            http.stream("GET", there, headers=headers, extensions={"sni_hostname": host}) as answer,
        ):
            return await _body(answer), answer.headers
    except httpx.HTTPError as error:
        raise Unfetched(f"The key set could not be fetched ({type(error).__name__})") from None


@cache
def _tls() -> ssl.SSLContext:
    """Whom we believe to be who they say; reading that takes milliseconds, so it is done once."""
    return httpx.create_ssl_context(trust_env=False)


async def _body(answer: httpx.Response) -> bytes:
    if answer.status_code != 200:
        raise Unfetched(f"The address of the key set answers {answer.status_code}")
    received = bytearray()
    async for chunk in answer.aiter_raw():
        received += chunk
        if len(received) > _BYTES:
            raise Unfetched(f"The key set has more than {_BYTES} bytes")
    return bytes(received)


async def _resolved(parts: SplitResult, trusted: bool) -> str:
    """An address of a host, when all of them are public. Unfetched."""
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unfetched("The host of the key set cannot be found") from None
    addresses = [str(each[4][0]) for each in found]
    if not addresses or not (trusted or all(is_public(each) for each in addresses)):
        raise Unfetched("The host of the key set has a private address")
    return addresses[0]
