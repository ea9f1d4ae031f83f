"""Which client sends a request, and whether it shows what it registered to be known by.

https://www.rfc-editor.org/rfc/rfc6749#section-2.3, https://openid.net/specs/openid-connect-core-1_0.html#
ClientAuthentication
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import unquote_plus

from starlette.datastructures import Headers

from smart_auth import assertions
from smart_auth.authority import TOKEN
from smart_auth.clients import client as registered
from smart_auth.clients import profile, secret_is
from smart_auth.errors import OAuthError
from smart_auth.model import Client
from smart_auth.profiles import BASIC, POST
from smart_auth.tokens import Tokens

_CHALLENGE = (("WWW-Authenticate", 'Basic realm="Salus"'),)
_LONGEST = 4096  # characters of an Authorization header
_NAME = 100


class _Pair(NamedTuple):
    id: str
    secret: str


async def authenticate(
    tokens: Tokens, headers: Headers, parameters: Mapping[str, str], endpoint: str
) -> Client:
    """The client of a request to `endpoint`, a path of ours: confidential and proven to be itself,
    or public and named. OAuthError invalid_client; invalid_request for several credentials."""
    basic = _basic(headers)
    sent = [basic is not None, "client_secret" in parameters, "client_assertion" in parameters]
    if sum(sent) > 1:
        raise OAuthError("invalid_request", "Authenticate in one way, not in several")
    if "client_assertion" in parameters or "client_assertion_type" in parameters:
        found = await _by_assertion(tokens, parameters, endpoint)
    elif basic is not None:
        found = await _by_secret(tokens, _readings(basic), BASIC)
    elif "client_secret" in parameters:
        pair = _Pair(parameters.get("client_id", ""), parameters["client_secret"])
        found = await _by_secret(tokens, (pair,), POST)
    else:
        found = await _public(tokens, parameters)
    if parameters.get("client_id", found.id) != found.id:
        raise _refused(basic is not None)
    return found


def is_anonymous(headers: Headers, parameters: Mapping[str, str]) -> bool:
    """Whether a request names no client at all."""
    named = ("client_id", "client_secret", "client_assertion", "client_assertion_type")
    return "authorization" not in headers and not any(each in parameters for each in named)


def claimed(headers: Headers, parameters: Mapping[str, str]) -> str:
    """Which client a request says that it is of, for counting and the audit; nothing is proven."""
    name = parameters.get("client_id")
    if name is None and "client_assertion" in parameters:
        name = assertions.claimed_issuer(parameters["client_assertion"])
    if name is None:
        with suppress(OAuthError):
            name = (_basic(headers) or "").partition(":")[0]
    return (name or "")[:_NAME]


async def _by_assertion(tokens: Tokens, parameters: Mapping[str, str], endpoint: str) -> Client:
    if parameters.get("client_assertion_type") != assertions.TYPE:
        raise assertions.refused(f"`client_assertion_type` is {assertions.TYPE}")
    site = tokens.authority.site
    return await assertions.verify(
        tokens.authority,
        tokens.key_sets,
        parameters.get("client_assertion", ""),
        {site.at(TOKEN), site.at(endpoint)},
    )


async def _by_secret(tokens: Tokens, pairs: tuple[_Pair, ...], method: str) -> Client:
    now = tokens.authority.clock()
    for pair in pairs:
        found = await registered(tokens.authority, pair.id)
        # Compared also for nobody, so that the time tells nothing of which clients there are.
        if secret_is(found, pair.secret, now) and found and not found.disabled:
            if method in profile(found).authentication:
                return found
            break
    raise _refused(method == BASIC)


async def _public(tokens: Tokens, parameters: Mapping[str, str]) -> Client:
    found = await registered(tokens.authority, parameters.get("client_id", ""))
    if found is None or found.disabled or found.confidential or profile(found).backend:
        raise _refused(False)
    return found


def _basic(headers: Headers) -> str | None:
    """The credentials of a Basic header, decoded."""
    values = headers.getlist("authorization")
    if len(values) > 1:
        raise OAuthError("invalid_request", "There are two Authorization headers")
    if not values:
        return None
    scheme, _, credentials = values[0].partition(" ")
    try:
        if scheme.lower() != "basic" or len(values[0]) > _LONGEST:
            raise _refused(True)
        return b64decode(credentials.strip(), validate=True).decode()
    except ValueError:
        raise _refused(True) from None


def _readings(credentials: str) -> tuple[_Pair, ...]:
    """Id and secret as they stand, which clients send in the field, and percent-decoded, which the
    standard says."""
    id, _, secret = credentials.partition(":")
    plain, decoded = _Pair(id, secret), _Pair(unquote_plus(id), unquote_plus(secret))
    return (plain,) if plain == decoded else (plain, decoded)


def _refused(basic: bool) -> OAuthError:
    return OAuthError(
        "invalid_client",
        "The client is unknown, or did not authenticate as it is registered to",
        headers=_CHALLENGE if basic else (),
    )
