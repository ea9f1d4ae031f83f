"""What a token is, told to its own client and to resource servers that the operator trusts.

https://www.rfc-editor.org/rfc/rfc7662, https://hl7.org/fhir/smart-app-launch/token-introspection.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers

from smart_auth.authority import INTROSPECT
from smart_auth.bearer import bearer
from smart_auth.client_auth import authenticate
from smart_auth.clients import introspects_all, permitted
from smart_auth.errors import OAuthError
from smart_auth.identity import user_claims
from smart_auth.issuing import launch_parameters
from smart_auth.model import CLIENTS, SECOND, TOKENS, AccessToken, Client
from smart_auth.records import Transaction, digest
from smart_auth.scopes import read_scope
from smart_auth.standing import Standing, standing
from smart_auth.tokens import Tokens

INACTIVE: Mapping[str, Any] = {"active": False}


async def introspect(
    tokens: Tokens, headers: Headers, parameters: Mapping[str, str]
) -> Mapping[str, Any]:
    """What `token` stands for; only that it is not active, for whatever reason it may not be told.
    OAuthError when the caller does not show who it is."""
    caller = await _caller(tokens, headers, parameters)
    asked = parameters.get("token")
    if asked is None:
        raise OAuthError("invalid_request", "`token` is missing")
    found = await _found(tokens, asked)
    if found is None or not (introspects_all(caller) or found[0].client == caller.id):
        return INACTIVE
    return _told(tokens, *found)


async def _caller(tokens: Tokens, headers: Headers, parameters: Mapping[str, str]) -> Client:
    """Whoever proves to be a client: by its credentials, or by an access token of its own."""
    token = bearer(headers)
    if token is not None:
        grant = await tokens.grant(token)
        caller = await tokens.authority.keeper.transaction(
            lambda tx: CLIENTS.read(tx, grant.client)
        )
    else:
        caller = await authenticate(tokens, headers, parameters, INTROSPECT)
        caller = caller if caller.confidential else None
    if caller is None:
        raise OAuthError("invalid_client", "Authenticate to introspect tokens")
    return caller


async def _found(tokens: Tokens, token: str) -> tuple[AccessToken, Standing] | None:
    now = tokens.authority.clock()

    async def read(tx: Transaction) -> tuple[AccessToken, Standing] | None:
        found = await TOKENS.read(tx, digest(token))
        if found is None or found.expires <= now:
            return None
        stands = await standing(tx, found.grant)
        return (found, stands) if stands else None

    return await tokens.authority.keeper.transaction(read)


def _told(tokens: Tokens, token: AccessToken, stands: Standing) -> Mapping[str, Any]:
    authority = tokens.authority
    granted = (each for each in (read_scope(text) for text in token.scopes) if each)
    scopes = tuple(each.text for each in permitted(stands.client, granted))
    said: dict[str, Any] = {
        "active": True,
        "client_id": token.client,
        "scope": " ".join(scopes),
        "token_type": "Bearer",
        "exp": token.expires // SECOND,
        "iat": token.issued // SECOND,
        "aud": authority.site.fhir,
        "iss": authority.site.fhir,
        **launch_parameters(authority, stands),
    }
    if stands.account is not None:
        said |= user_claims(authority.site, stands.account, stands.record, token.scopes)
    return said
