"""Parameters of requests, in a query or a form, read strictly: one encoding, nothing twice.

https://www.rfc-editor.org/rfc/rfc6749#section-3.1, https://url.spec.whatwg.org/#urlencoded-parsing
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from smart_auth.errors import OAuthError

FORM = "application/x-www-form-urlencoded"
_BYTES = 65_536  # of a form, and of a query
_FIELDS = 1000
_SECONDS = 30.0  # in which a body has to come
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UTF_8 = ("", "charset=utf-8", 'charset="utf-8"')


async def form(request: Request, limit: int = _BYTES) -> dict[str, str]:
    """The parameters of a form; one without a value counts as absent. OAuthError invalid_request
    for another media type, more than `limit` bytes, and a parameter that comes twice."""
    return once(await form_pairs(request, limit))


async def form_pairs(request: Request, limit: int = _BYTES) -> list[tuple[str, str]]:
    """The fields of a form as they were sent, for pages with fields that may come several times."""
    media, _, parameters = request.headers.get("content-type", "").partition(";")
    if media.strip().lower() != FORM or parameters.strip().lower() not in _UTF_8:
        raise OAuthError("invalid_request", f"Send the parameters as {FORM}")
    return pairs(await body(request, limit))


def query(request: Request) -> dict[str, str]:
    """The parameters of a query, under the same rules as a form."""
    sent: bytes = request.scope["query_string"]
    if len(sent) > _BYTES:
        raise OAuthError("invalid_request", f"A query has at most {_BYTES} bytes", status=414)
    return once(pairs(sent))


async def body(request: Request, limit: int) -> bytes:
    """The body of a request, read no further than `limit` bytes. OAuthError with status 413, and
    408 when it does not come in time."""
    received = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for chunk in request.stream():
                received += chunk
                if len(received) > limit:
                    text = f"A body has at most {limit} bytes"
                    raise OAuthError("invalid_request", text, status=413)
    except TimeoutError:
        raise OAuthError("invalid_request", "The body came too slowly", status=408) from None
    except ClientDisconnect:
        text = "The body ended before it was complete"
        raise OAuthError("invalid_request", text, status=400) from None
    return bytes(received)


def pairs(encoded: bytes) -> list[tuple[str, str]]:
    """Names and values in their order. OAuthError when they are not well encoded."""
    if _BAD_PERCENT.search(encoded):
        raise OAuthError("invalid_request", "A `%` begins no pair of hexadecimal digits")
    try:
        found = parse_qsl(encoded.decode("ascii"), True, errors="strict", max_num_fields=_FIELDS)
    except UnicodeError:
        raise OAuthError(
            "invalid_request", "The parameters are not percent-encoded UTF-8"
        ) from None
    except ValueError:
        raise OAuthError("invalid_request", f"At most {_FIELDS} parameters") from None
    if any("\0" in name or "\0" in value for name, value in found):
        raise OAuthError("invalid_request", "A parameter holds a character of no text")
    return found


def once(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Parameters by name, those without a value left out. OAuthError when one comes twice."""
    seen: set[str] = set()
    kept = {}
    for name, value in found:
        if name in seen:
            raise OAuthError("invalid_request", f"Parameter `{name[:40]}` comes twice")
        seen.add(name)
        if value:
            kept[name] = value
    return kept
