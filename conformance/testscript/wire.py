"""Requests over HTTP to the servers under test, and nowhere else.

https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from conformance.testscript.message import ActionError, Message, read_resource

_READS = frozenset({"GET", "HEAD"})
FIRST = 1  # the destination of operations that name none


class Limits(NamedTuple):
    """What one exchange may take, and one script."""

    seconds: float = 60.0
    bytes: int = 32 * 1024 * 1024
    actions: int = 2000
    regex_seconds: float = 2.0


class Target(NamedTuple):
    """The servers under test by the index of the script's destination; a destination that is not
    named is the first. `secrets` are never shown: what is told of an exchange is cleaned of them.
    `headers` go with every request."""

    destinations: Mapping[int, str]
    token: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    verify: ssl.SSLContext | bool = True

    @property
    def base(self) -> str:
        return self.destinations[FIRST]

    def at(self, destination: int | None) -> str:
        return self.destinations.get(destination or FIRST, self.base).rstrip("/")


class Request(NamedTuple):
    method: str
    url: str
    headers: httpx.Headers
    body: bytes = b""


class Wire:
    """Connections to a target; several threads may use them."""

    def __init__(self, target: Target, limits: Limits) -> None:
        self._target, self._limits = target, limits
        self._origins = {_origin(each) for each in target.destinations.values()}
        secured = any(scheme == "https" for scheme, _, _ in self._origins)
        verify = target.verify if secured else False  # reading certificates takes a while
        # A server may close a connection just when it is used again. A read is then sent anew;
        # what changes something goes over connections of its own, where that cannot happen.
        self._reading, self._writing = (
            httpx.Client(
                verify=verify,
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(limits.seconds),
                limits=httpx.Limits(max_connections=32, max_keepalive_connections=kept),
            )
            for kept in (32, 0)
        )

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reading.close()
        self._writing.close()

    def exchange(self, request: Request) -> tuple[Message, Message]:
        """The request as it was sent, and its response. ActionError where there is none."""
        if _origin(request.url) not in self._origins:
            raise ActionError(
                f"{_bare(request.url)} is another server than those under test: it is not asked"
            )
        headers = self._headers(request.headers)
        sent = Message(
            *(read_resource(request.body, headers.get("content-type", ""))[:1]),
            body=request.body,
            headers=headers,
            method=request.method,
            url=request.url,
        )
        try:
            return sent, self._response(request, headers)
        except httpx.RemoteProtocolError as error:
            if request.method not in _READS:
                raise _unanswered(request, error) from None
        try:
            return sent, self._response(request, headers)
        except httpx.RemoteProtocolError as error:
            raise _unanswered(request, error) from None

    def clean(self, text: str) -> str:
        """A text without the token and the values of the headers that were handed in."""
        for secret in (self._target.token, *(value for _, value in self._target.headers)):
            if len(secret) > 3:
                text = text.replace(secret, "…")
        return text

    def _headers(self, own: httpx.Headers) -> httpx.Headers:
        """The script's headers before ours; Authorization: none is a request without a token."""
        made = httpx.Headers(list(self._target.headers))
        if self._target.token:
            made["Authorization"] = f"Bearer {self._target.token}"
        made.update(own)
        if made.get("Authorization", "").strip().lower() == "none":
            del made["Authorization"]
        return made

    def _response(self, request: Request, headers: httpx.Headers) -> Message:
        until = time.monotonic() + self._limits.seconds
        body = bytearray()
        try:
            url = httpx.URL(request.url)
            client = self._reading if request.method in _READS else self._writing
            with client.stream(
                request.method, url, headers=headers, content=request.body or None
            ) as answer:
                for piece in answer.iter_bytes():
                    body += piece
                    if len(body) > self._limits.bytes:
                        raise ActionError(f"The answer has more than {self._limits.bytes} bytes")
                    if time.monotonic() > until:
                        raise ActionError(f"The answer took more than {self._limits.seconds:g} s")
        except httpx.RemoteProtocolError:
            raise
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unanswered(request, error) from None
        resource, unread = read_resource(bytes(body), answer.headers.get("content-type", ""))
        return Message(
            resource,
            bytes(body),
            answer.headers,
            answer.status_code,
            url=request.url,
            unread=unread,
        )


def _unanswered(request: Request, error: Exception) -> ActionError:
    said = str(error) or type(error).__name__
    return ActionError(f"No answer from {_bare(request.url)}: {said}")


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ("", url, None)
    return parts.scheme, (parts.hostname or "").lower(), port


def _bare(url: str) -> str:
    """The origin of an address, without what it carries."""
    scheme, host, port = _origin(url)
    return f"{scheme}://{host}:{port}"
