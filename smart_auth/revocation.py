"""Tokens that their client gives back.

https://www.rfc-editor.org/rfc/rfc7009
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers

from smart_auth import grants
from smart_auth.authority import REVOKE, Happening
from smart_auth.client_auth import authenticate
from smart_auth.errors import OAuthError
from smart_auth.model import REFRESH, TOKENS, GrantRecord
from smart_auth.records import Transaction, digest
from smart_auth.tokens import Tokens


async def revoke(
    tokens: Tokens, headers: Headers, parameters: Mapping[str, str], address: str
) -> None:
    """End a token of the calling client: a refresh token with its whole grant, an access token by
    itself. Nothing tells whether there was one. OAuthError for who is not the client."""
    client = await authenticate(tokens, headers, parameters, REVOKE)
    token = parameters.get("token")
    if token is None:
        raise OAuthError("invalid_request", "`token` is missing")
    authority, key = tokens.authority, digest(token)

    async def work(tx: Transaction) -> tuple[str, GrantRecord | None] | None:
        refresh = await REFRESH.read(tx, key)
        if refresh and refresh.client == client.id:
            return refresh.grant, await grants.end(authority, tx, refresh.grant)
        access = await TOKENS.read(tx, key)
        if access and access.client == client.id:
            await TOKENS.take(tx, key)
            return access.grant, None
        return None

    ended = await authority.keeper.transaction(work, write=True)
    if ended is None:
        return
    grant, record = ended
    authority.changed(grant)
    await authority.audit(
        Happening(
            "revoke",
            client=client.id,
            account=record.account if record else None,
            who=record.who if record else None,
            address=address,
            detail="grant" if record else "access_token",
        )
    )
