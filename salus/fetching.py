"""Files to import, fetched from hosts that the operator allows and from nowhere else: no redirect
is followed, and the connection goes to the address that was judged.

https://owasp.org/www-community/attacks/Server_Side_Request_Forgery
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx

from conformance.outcome import FhirError
from smart_auth.addresses import is_public

_SECONDS = 30.0  # without a byte
_WHOLE_SECONDS = 3600.0  # for a file


class Fetching:
    """Fetches from `hosts` (HOST or HOST:PORT)."""

    def __init__(self, hosts: frozenset[str]) -> None:
        self._hosts = hosts

    async def __call__(self, url: str, most: int) -> AsyncIterator[bytes]:
        """The bytes of a file, at most `most`. FhirError."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "https" or not ({host, parts.netloc} & self._hosts):
            raise _refused("its host is none that the operator allows")
        there = httpx.URL(url).copy_with(host=await _address(host, parts.port or 443))
        headers = {"Host": parts.netloc, "Accept-Encoding": "identity"}
        client = httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=_SECONDS)
        try:
            async with (
                asyncio.timeout(_WHOLE_SECONDS),
                client as http,
                http.stream(
                    "GET", there, headers=headers, extensions={"sni_hostname": host}
                ) as answer,
            ):
                async for part in _bounded(answer, most):
                    yield part
        except (httpx.HTTPError, TimeoutError) as error:
            raise _refused(f"it did not come ({type(error).__name__})") from None


async def _bounded(answer: httpx.Response, most: int) -> AsyncIterator[bytes]:
    if answer.status_code != 200:
        raise _refused(f"it was answered with {answer.status_code}")
    received = 0
    async for part in answer.aiter_raw():
        received += len(part)
        if received > most:
            raise _refused(f"it has more than {most} bytes")
        yield part


async def _address(host: str, port: int) -> str:
    """An address of a host that the operator allows, be it on a private network; not where some of
    its addresses are private and some are not, nor on the link, where clouds tell their secrets.
    FhirError."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise _refused("its host cannot be found") from None
    addresses = [str(each[4][0]) for each in found]
    private = {not is_public(each) for each in addresses}
    if len(private) != 1 or any(map(_is_on_link, addresses)):
        raise _refused("its host has no address that is fetched from")
    return addresses[0]


def _is_on_link(address: str) -> bool:
    meant = ip_address(address.partition("%")[0])
    mapped = getattr(meant, "ipv4_mapped", None)
    return (mapped or meant).is_link_local


def _refused(why: str) -> FhirError:
    return FhirError("not-found", why)
