"""Who asks: from the one Authorization header of a request to what its token grants.

https://www.rfc-editor.org/rfc/rfc6750
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from conformance.outcome import FhirError
from fhir_server.audit.event import NO_INTERACTION, TOKEN_END, Caller
from fhir_server.interaction import Interaction, Unauthenticated
from fhir_server.metering import FREE, Meter
from fhir_server.request_id import request_of
from fhir_server.server import Server
from smart_auth.errors import OAuthError
from smart_auth.grant import NOBODY, Grant
from smart_auth.tokens import Tokens

Headers = Mapping[bytes, bytes]
WhoAsks = Callable[[Headers, str], Caller | Awaitable[Caller]]

_REALM = 'Bearer realm="Salus"'
_BARE = Interaction(NO_INTERACTION)
_MISSING = "Send an access token: `Authorization: Bearer TOKEN`"
_WRONG = "This access token is not valid: it expired, was revoked, or is none of this server's"
_LONGEST = 4096  # bytes of an Authorization header


def anybody(server: Server) -> WhoAsks:
    """The caller of a server that was started with --open: whoever is on this machine."""
    grant, site = Grant.open(), _site(server)

    def caller(headers: Headers, address: str) -> Caller:
        return Caller(grant, address, site, request_of(headers))

    return caller


def bearers(server: Server, tokens: Tokens, meter: Meter = FREE) -> WhoAsks:
    """The caller that an access token stands for. FhirError 401 without a valid one, which is
    audited; 503 when it cannot be looked up now; Throttled when an address tries too many."""
    site = _site(server)

    def caller(headers: Headers, address: str) -> Caller | Awaitable[Caller]:
        token, request = _bearer(headers.get(b"authorization")), request_of(headers)
        if token and (grant := tokens.remembered(token)) is not None:
            return Caller(grant, address, site, request, token[-TOKEN_END:])
        return asked(token, address, request)

    async def asked(token: str | None, address: str, request: str) -> Caller:
        if token:
            try:
                grant = await tokens.grant(token, lambda: _tried(meter, address))
                return Caller(grant, address, site, request, token[-TOKEN_END:])
            except OAuthError as error:
                refusal = _refusal(error)
        else:
            refusal = Unauthenticated(_MISSING, _REALM)
        await server.refuse(_BARE, Caller(NOBODY, address, site, request), refusal)
        raise refusal

    return caller


def _tried(meter: Meter, address: str) -> None:
    """A token that nobody showed before may be guessed."""
    meter.stranger(address)


def _bearer(header: bytes | None) -> str | None:
    """The token of an Authorization header; None when it has none of the kind."""
    if header is None or len(header) > _LONGEST:
        return None
    scheme, _, token = header.partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    return token.strip().decode("ascii", "replace")


def _refusal(error: OAuthError) -> FhirError:
    if error.status >= 500:
        return FhirError("transient", "Tokens cannot be looked up now; try again", status=503)
    return Unauthenticated(_WRONG, f'{_REALM}, error="invalid_token"')


def _site(server: Server) -> str:
    return urlsplit(server.core.base_url).netloc
