"""The few lines of HTTP that a witness and a signer speak: one POST, one GET, small bodies.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple, TypeAlias

from fhir_server.log.witness import BYTES, SIZE_TYPE, Refused

PLAIN = "text/plain; charset=utf-8"
SECONDS = 10.0  # that a request may take to arrive

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class Asked(NamedTuple):
    """A request: its headers by lower-case name, and its body."""

    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    status: int
    text: str
    type: str = PLAIN
    headers: tuple[tuple[str, str], ...] = ()


Routes: TypeAlias = Mapping[str, Mapping[str, Callable[[Asked], Answer]]]  # by path and method


def refusal(refused: Refused) -> Answer:
    """The answer that tells why nothing is signed, in the words of tlog-witness."""
    if refused.size is not None:
        return Answer(refused.status, f"{refused.size}\n", SIZE_TYPE)
    return Answer(refused.status, f"{refused}\n")


def application(routes: Routes, told: Callable[[str], None]) -> Application:
    """An ASGI application. A handler runs on its own, nothing between its first and last line."""

    async def answer(scope: Scope, receive: Receive) -> Answer:
        methods = routes.get(scope["path"])
        if methods is None:
            return Answer(404, "Nothing is here\n")
        handler = methods.get(scope["method"])
        if handler is None:
            return Answer(405, "Not with this method\n", headers=(("allow", ", ".join(methods)),))
        try:
            async with asyncio.timeout(SECONDS):
                body = await _body(receive)
        except TimeoutError:
            return Answer(408, "The request took too long to arrive\n")
        if body is None:
            return Answer(413, f"A request has at most {BYTES} bytes\n")
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        try:
            return handler(Asked(headers, body))
        except OSError as error:
            told(f"Nothing can be signed now: {error}")
            return Answer(503, "The state cannot be kept now\n", headers=(("retry-after", "5"),))

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        said = await answer(scope, receive)
        body = said.text.encode()
        headers = (("content-type", said.type), ("content-length", str(len(body))), *said.headers)
        sent = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": said.status, "headers": sent})
        await send({"type": "http.response.body", "body": body})

    return application


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when it is too long."""
    parts, length, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        part = message.get("body", b"")
        length += len(part)
        if length > BYTES:
            return None
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)
