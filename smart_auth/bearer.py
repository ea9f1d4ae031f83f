"""Access tokens in requests to the protocol's own endpoints.

https://www.rfc-editor.org/rfc/rfc6750#section-2.1
"""

from __future__ import annotations

from starlette.datastructures import Headers

from smart_auth.errors import OAuthError

_LONGEST = 4096  # characters of an Authorization header


def bearer(headers: Headers) -> str | None:
    """The token of the Authorization header; None when it has none of the kind. OAuthError
    invalid_request for two headers."""
    values = headers.getlist("authorization")
    if len(values) > 1:
        raise OAuthError("invalid_request", "There are two Authorization headers")
    scheme, _, token = (values[0] if values else "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    if len(token) > _LONGEST:
        raise invalid_token()
    return token.strip()


def invalid_token() -> OAuthError:
    return OAuthError(
        "invalid_token",
        "The token is unknown, expired or revoked",
        headers=(("WWW-Authenticate", 'Bearer realm="Salus", error="invalid_token"'),),
    )


def missing_token() -> OAuthError:
    return OAuthError(
        "invalid_token",
        "Send a token: `Authorization: Bearer TOKEN`",
        headers=(("WWW-Authenticate", 'Bearer realm="Salus"'),),
    )
