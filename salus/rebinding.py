"""Who may talk to a server that was started with --open: programs and pages of this machine, not
pages of other sites in a browser on it.

A name of another site may come to mean a loopback address while its page is shown, and any page may
send a form to one (https://owasp.org/www-community/attacks/csrf, https://fetch.spec.whatwg.org/#origin-header).
"""

from __future__ import annotations

from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from conformance.json import encode
from conformance.outcome import Issue, outcome
from fhir_server.guarding import guards
from salus.settings import is_loopback
from smart_auth.uris import origin

Scope: TypeAlias = MutableMapping[str, Any]

_SAFE = frozenset(
    {"GET", "HEAD", "OPTIONS"}
)  # https://www.rfc-editor.org/rfc/rfc9110#section-9.2.1
_MISDIRECTED = "This server was started with --open, so it answers to names of this machine only"
_CROSS_SITE = "This server was started with --open, so pages of other sites can change nothing here"


class Refusal:
    """An ASGI answer that is always the same."""

    def __init__(self, status: int, code: str, text: str) -> None:
        body = encode(outcome([Issue("error", code, text)]))
        headers = [
            (b"content-type", b"application/fhir+json; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            *guards(False),  # an open server is on this machine only
        ]
        self.status = status
        self._start = {"type": "http.response.start", "status": status, "headers": headers}
        self._body = {"type": "http.response.body", "body": body}

    async def __call__(self, send: Any) -> None:
        await send({**self._start})
        await send({**self._body})


_NOT_HERE = Refusal(421, "security", _MISDIRECTED)
_NOT_FROM_THERE = Refusal(403, "forbidden", _CROSS_SITE)


class ThisMachine:
    """Says whom not to answer. `base_url`: the server's own, under which it is addressed too."""

    def __init__(self, base_url: str) -> None:
        self._host, self._origin = urlsplit(base_url).hostname, origin(base_url)
        self._is_here, self._is_ours = lru_cache(1024)(self._here), lru_cache(1024)(self._ours)

    def refusal(self, scope: Scope) -> Refusal | None:
        """421 for a request to another name, 403 for a write by a page of another site."""
        safe = scope["method"] in _SAFE
        for name, value in scope["headers"]:
            if name == b"host" and not self._is_here(value):
                return _NOT_HERE
            if name == b"origin" and not safe and not self._is_ours(value):
                return _NOT_FROM_THERE
        return None

    def _here(self, value: bytes) -> bool:
        host = _host(value.decode("latin-1"))
        return host == self._host or is_loopback(host)

    def _ours(self, value: bytes) -> bool:
        page = value.decode("latin-1")
        scheme, _, host = page.partition("://")
        local = scheme in ("http", "https") and is_loopback(_host(host))
        return local or page == self._origin


def _host(text: str) -> str:
    """The name or address of a host, perhaps with a port; empty when it is none."""
    try:
        return (urlsplit(f"//{text}").hostname or "").removesuffix(".")
    except ValueError:
        return ""
