"""Where a request came from, when a proxy stands before this server: believed of proxies that the
operator named, and of nobody else.

https://www.rfc-editor.org/rfc/rfc7239
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, NamedTuple, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network
Scope: TypeAlias = MutableMapping[str, Any]

_LONGEST = 4096  # bytes of a header that is looked at
_PAIR = re.compile(r'\s*([A-Za-z]+)\s*=\s*("[^"]*"|[^",;\s]*)\s*')
_SCHEMES = frozenset({"http", "https"})


class Hop(NamedTuple):
    """One step of a request's way: who sent it, and over which scheme, if that is said."""

    address: str
    scheme: str | None = None


class Forwarded:
    """Rewrites the client and the scheme of a request that a trusted proxy passed on. No header
    changes anything else: links are made of the base URL only."""

    def __init__(self, proxies: Sequence[Network]) -> None:
        self._trusts = lru_cache(1024)(lambda address: _within(address, tuple(proxies)))

    def scope(self, scope: Scope) -> Scope:
        """The scope as the first machine that is no trusted proxy made it."""
        client = scope.get("client")
        if client is None or not self._trusts(client[0]):
            return scope
        found = self._stranger(_hops(scope["headers"]))
        if found is None:
            return scope
        rewritten = {**scope, "client": (found.address, 0)}
        if found.scheme:
            rewritten["scheme"] = found.scheme
        return rewritten

    def _stranger(self, hops: Sequence[Hop]) -> Hop | None:
        """The nearest hop that is no trusted proxy, or the farthest there is. Each proxy adds who
        it got the request from: whatever stands before a stranger is that stranger's own word."""
        found = None
        for hop in reversed(hops):
            address = _address(hop.address)
            if address is None:
                break
            found = Hop(str(address), hop.scheme)
            if not self._trusts(found.address):
                break
        return found


def _within(address: str, proxies: tuple[Network, ...]) -> bool:
    found = _address(address)
    return found is not None and any(found in each for each in proxies)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as it is written in these headers, perhaps with brackets and port."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def _hops(headers: Sequence[tuple[bytes, bytes]]) -> list[Hop]:
    """The way of a request, the farthest first. Forwarded wins over the older headers."""
    standard = _joined(headers, b"forwarded")
    return _standard(standard) if standard else _older(headers)


def _standard(text: str) -> list[Hop]:
    hops = []
    for element in text.split(","):
        pairs = {name.lower(): value.strip('"') for name, value in _PAIR.findall(element)}
        hops.append(Hop(pairs.get("for", ""), _scheme(pairs.get("proto", ""))))
    return hops


def _older(headers: Sequence[tuple[bytes, bytes]]) -> list[Hop]:
    """X-Forwarded-For has an address for each proxy; X-Forwarded-Proto one scheme, or as many."""
    addresses = _joined(headers, b"x-forwarded-for")
    if not addresses:
        return []
    named = addresses.split(",")
    schemes = _joined(headers, b"x-forwarded-proto").split(",")
    if len(schemes) != len(named):
        schemes = [schemes[-1]] * len(named)
    return [Hop(each, _scheme(scheme)) for each, scheme in zip(named, schemes, strict=True)]


def _scheme(text: str) -> str | None:
    lowered = text.strip().lower()
    return lowered if lowered in _SCHEMES else None


def _joined(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> str:
    """A header that may come several times, as one."""
    value = b",".join(value for key, value in headers if key == name)
    return value.decode("latin-1") if len(value) <= _LONGEST else ""
