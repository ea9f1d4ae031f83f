"""Who the user is, told to an app that holds a token with `openid`.

https://openid.net/specs/openid-connect-core-1_0.html#UserInfo
"""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers

from smart_auth.bearer import bearer, invalid_token, missing_token
from smart_auth.errors import OAuthError
from smart_auth.identity import user_claims
from smart_auth.model import TOKENS, AccessToken
from smart_auth.records import Transaction, digest
from smart_auth.standing import Standing, standing
from smart_auth.tokens import Tokens

_SCOPE = (("WWW-Authenticate", 'Bearer realm="Salus", error="insufficient_scope", scope="openid"'),)


async def userinfo(tokens: Tokens, headers: Headers) -> dict[str, Any]:
    """The claims of the token's user. OAuthError invalid_token, insufficient_scope."""
    sent = bearer(headers)
    if sent is None:
        raise missing_token()
    now = tokens.authority.clock()

    async def read(tx: Transaction) -> tuple[AccessToken, Standing] | None:
        token = await TOKENS.read(tx, digest(sent))
        stands = await standing(tx, token.grant) if token and token.expires > now else None
        return (token, stands) if token and stands else None

    found = await tokens.authority.keeper.transaction(read)
    if found is None:
        raise invalid_token()
    token, stands = found
    claims = (
        user_claims(tokens.authority.site, stands.account, stands.record, token.scopes)
        if stands.account
        else {}
    )
    if not claims:
        raise OAuthError("insufficient_scope", "The token was not granted `openid`", headers=_SCOPE)
    return claims
