"""The protocol over HTTP: addresses, answers, errors; what they mean is in the modules beside it.

https://hl7.org/fhir/smart-app-launch/, https://www.rfc-editor.org/rfc/rfc6749
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from smart_auth import brands, discovery, limits, registration
from smart_auth.authority import (
    BRANDS,
    INTROSPECT,
    JWKS,
    REGISTER,
    REVOKE,
    STYLE,
    TOKEN,
    USERINFO,
    Happening,
)
from smart_auth.client_auth import claimed
from smart_auth.cors import ANYWHERE, PREFLIGHT
from smart_auth.errors import OAuthError
from smart_auth.forms import body, form
from smart_auth.introspection import introspect
from smart_auth.model import SECOND
from smart_auth.revocation import revoke
from smart_auth.style import STYLES
from smart_auth.token import exchange
from smart_auth.tokens import Document, Tokens
from smart_auth.userinfo import userinfo

router = APIRouter(include_in_schema=False)

Answering = Callable[[Tokens, Request], Awaitable[Response]]

_METADATA_BYTES = 65_536
_KEPT = 10 * SECOND
_SECRET = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_JSON = "application/json"


def address(request: Request) -> str:
    """Where a request comes from; behind a proxy, as far as the proxy is trusted."""
    return request.client.host if request.client else ""


def said(content: Any, status: int = 200, headers: Mapping[str, str] = _SECRET) -> Response:
    """An answer in JSON."""
    return Response(msgspec.json.encode(content), status, {**_SAFE, **headers}, _JSON)


# --- public documents ----------------------------------------------------------------------------


def _published(path: str, document: Callable[[Tokens], Awaitable[Any]], media: str = _JSON) -> None:
    """A document that anybody may read from anywhere, the same for everybody."""

    async def get(request: Request) -> Response:
        tokens = _tokens(request)
        if tokens is None:
            return _unavailable(ANYWHERE)
        content = await _content(tokens, path, document)
        tag = f'W/"{hashlib.sha256(content).hexdigest()[:16]}"'
        headers = {**_SAFE, **ANYWHERE, "Cache-Control": "public, max-age=300", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(None, 304, headers)
        return Response(content, 200, headers, media)

    async def options(request: Request) -> Response:
        return Response(None, 204, {**ANYWHERE, **PREFLIGHT})

    router.add_api_route(path, get, methods=["GET", "HEAD"])
    router.add_api_route(path, options, methods=["OPTIONS"])


async def _content(
    tokens: Tokens, path: str, document: Callable[[Tokens], Awaitable[Any]]
) -> bytes:
    """A document as it is sent, made once in a while: it is for anybody to ask for."""
    now = tokens.authority.clock()
    made = tokens.documents.get(path)
    if made is None or not 0 <= now - made.at < _KEPT or path == JWKS:
        made = Document(now, msgspec.json.encode(await document(tokens)))
        tokens.documents[path] = made
    return made.content


async def _smart(tokens: Tokens) -> Any:
    return discovery.smart_configuration(tokens.authority)


async def _openid(tokens: Tokens) -> Any:
    return discovery.openid_configuration(tokens.authority)


async def _oauth(tokens: Tokens) -> Any:
    return discovery.oauth_metadata(tokens.authority)


async def _keys(tokens: Tokens) -> Any:
    return await tokens.signing.public()


async def _style(tokens: Tokens) -> Any:
    return STYLES


async def _brands(tokens: Tokens) -> Any:
    since = datetime.fromtimestamp(tokens.opened // SECOND, UTC)
    return brands.bundle(tokens.authority.site, since.strftime("%Y-%m-%dT%H:%M:%SZ"))


_published("/fhir/.well-known/smart-configuration", _smart)
_published("/fhir/.well-known/openid-configuration", _openid)
# The well-known part stands between host and path of the issuer (RFC 8414); some append it.
_published("/.well-known/oauth-authorization-server/fhir", _oauth)
_published("/fhir/.well-known/oauth-authorization-server", _oauth)
_published(JWKS, _keys)
_published(STYLE, _style)
_published(BRANDS, _brands, "application/fhir+json")


# --- the protocol --------------------------------------------------------------------------------


def _protocol(path: str, **methods: Answering) -> None:
    """An endpoint that pages of registered apps may call."""
    for method, answering in methods.items():
        router.add_api_route(path, _guarded(answering), methods=[method])

    async def options(request: Request) -> Response:
        tokens = _tokens(request)
        if tokens is None:
            return _unavailable({})
        return Response(None, 204, await tokens.origins.preflight(request.headers.get("origin")))

    router.add_api_route(path, options, methods=["OPTIONS"])


def _guarded(answering: Answering) -> Callable[[Request], Awaitable[Response]]:
    async def guarded(request: Request) -> Response:
        tokens = _tokens(request)
        if tokens is None:
            return _unavailable({})
        try:
            answered = await answering(tokens, request)
        except OAuthError as error:
            answered = said(error.body(), error.status, {**_SECRET, **dict(error.headers)})
        answered.headers.update(await tokens.origins.headers(request.headers.get("origin")))
        return answered

    return guarded


async def _token(tokens: Tokens, request: Request) -> Response:
    return await _limited(tokens, request, _exchanged, "token-refused")


async def _exchanged(tokens: Tokens, request: Request, sent: Mapping[str, str]) -> Response:
    return said(await exchange(tokens, request.headers, sent, address(request)))


async def _introspect(tokens: Tokens, request: Request) -> Response:
    return await _limited(tokens, request, _introspected, "token-refused")


async def _introspected(tokens: Tokens, request: Request, sent: Mapping[str, str]) -> Response:
    return said(await introspect(tokens, request.headers, sent))


async def _revoke(tokens: Tokens, request: Request) -> Response:
    return await _limited(tokens, request, _revoked, "token-refused")


async def _revoked(tokens: Tokens, request: Request, sent: Mapping[str, str]) -> Response:
    await revoke(tokens, request.headers, sent, address(request))
    return said({})


async def _limited(
    tokens: Tokens,
    request: Request,
    perform: Callable[[Tokens, Request, Mapping[str, str]], Awaitable[Response]],
    what: str,
) -> Response:
    """Perform a request with a form; failures are counted and audited, and too many wait."""
    if "access_token" in request.query_params or "client_secret" in request.query_params:
        raise OAuthError("invalid_request", "Nothing secret belongs into an address")
    sent = await form(request)
    named, come_from = claimed(request.headers, sent), address(request)
    tokens.admit(named, come_from)
    counted = limits.failures(named, come_from)
    await limits.check(tokens.authority, counted)
    try:
        return await perform(tokens, request, sent)
    except OAuthError as error:
        await limits.add(tokens.authority, counted)
        await tokens.authority.audit(
            Happening(what, False, client=named or None, address=come_from, detail=error.error)
        )
        raise


async def _userinfo(tokens: Tokens, request: Request) -> Response:
    return said(await userinfo(tokens, request.headers))


async def _register(tokens: Tokens, request: Request) -> Response:
    sent = await _metadata(request)
    done = await registration.register(tokens.authority, request.headers, sent, address(request))
    return said(done, 201)


async def _registered(tokens: Tokens, request: Request) -> Response:
    id = request.path_params["id"]
    return said(await registration.read(tokens.authority, request.headers, id))


async def _reregister(tokens: Tokens, request: Request) -> Response:
    sent, id = await _metadata(request), request.path_params["id"]
    return said(
        await registration.update(tokens.authority, request.headers, id, sent, address(request))
    )


async def _unregister(tokens: Tokens, request: Request) -> Response:
    id = request.path_params["id"]
    await registration.delete(tokens.authority, request.headers, id, address(request))
    return Response(None, 204, {**_SAFE, **_SECRET})


async def _metadata(request: Request) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise OAuthError("invalid_client_metadata", f"Send the metadata as {_JSON}")
    return await body(request, _METADATA_BYTES)


_protocol(TOKEN, POST=_token)
_protocol(INTROSPECT, POST=_introspect)
_protocol(REVOKE, POST=_revoke)
_protocol(USERINFO, GET=_userinfo, POST=_userinfo)
_protocol(REGISTER, POST=_register)
_protocol(f"{REGISTER}/{{id}}", GET=_registered, PUT=_reregister, DELETE=_unregister)


# --- while the store opens -----------------------------------------------------------------------


def _tokens(request: Request) -> Tokens | None:
    """None while the store opens."""
    found = getattr(request.app.state, "tokens", None)
    return found if isinstance(found, Tokens) else None


def _unavailable(headers: Mapping[str, str]) -> Response:
    error = OAuthError("temporarily_unavailable", "The server is starting: try again")
    return said(error.body(), error.status, {**_SECRET, "Retry-After": "1", **headers})
