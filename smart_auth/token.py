"""The token endpoint: codes, refresh tokens and backend clients' assertions in exchange for access.

https://www.rfc-editor.org/rfc/rfc6749#section-3.2, https://hl7.org/fhir/smart-app-launch/app-launch.html,
https://hl7.org/fhir/smart-app-launch/backend-services.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec.structs import replace
from starlette.datastructures import Headers

from smart_auth import codes, grants, issuing
from smart_auth.authority import TOKEN, Happening
from smart_auth.client_auth import authenticate, is_anonymous
from smart_auth.clients import client as registered
from smart_auth.clients import permitted, profile
from smart_auth.codes import Replayed
from smart_auth.errors import OAuthError
from smart_auth.identity import id_claims
from smart_auth.issuing import Issued
from smart_auth.model import DAY, GRANTS, HOUR, REFRESH, Client, GrantRecord, RefreshToken
from smart_auth.profiles import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, REFRESH_TOKEN
from smart_auth.records import Transaction, digest
from smart_auth.scopes import OPENID, Asked, allowed, read_scope
from smart_auth.standing import Standing, standing
from smart_auth.tokens import Tokens, parsed, refuse_ungrantable

Parameters = Mapping[str, str]

_REMEMBERED = 30 * DAY  # in which the reuse of a rotated refresh token ends its grant


async def exchange(
    tokens: Tokens, headers: Headers, parameters: Parameters, address: str
) -> dict[str, Any]:
    """The token response to a request. OAuthError."""
    kind = parameters.get("grant_type")
    if kind is None:
        raise OAuthError("invalid_request", "`grant_type` is missing")
    perform = _GRANT_TYPES.get(kind)
    if perform is None:
        raise OAuthError("unsupported_grant_type", f"`grant_type` is one of {_NAMES}")
    client = await _client(tokens, headers, parameters)
    if kind not in profile(client).grants:
        raise OAuthError("unauthorized_client", f"This client may not use `{kind}`")
    if kind == AUTHORIZATION_CODE:
        await tokens.signing.ready()  # a code is not to be spent on what cannot be signed
    try:
        issued = await perform(tokens, client, parameters)
    except Replayed as replay:
        tokens.authority.changed(replay.ended)
        raise
    id_token = await _id_token(tokens, issued) if kind == AUTHORIZATION_CODE else None
    await _audited(tokens, issued, kind, address)
    return issuing.answer(tokens.authority, issued, id_token)


async def _client(tokens: Tokens, headers: Headers, parameters: Parameters) -> Client:
    """The authenticated client. A public one that refreshes need not name itself: its refresh token
    is its own, and does."""
    if parameters["grant_type"] == REFRESH_TOKEN and is_anonymous(headers, parameters):
        key = digest(parameters.get("refresh_token", ""))
        found = await tokens.authority.keeper.transaction(lambda tx: REFRESH.read(tx, key))
        client = await registered(tokens.authority, found.client) if found else None
        if client is None or client.confidential or client.disabled:
            raise _invalid("The refresh token is unknown, or its client must authenticate")
        return client
    return await authenticate(tokens, headers, parameters, TOKEN)


# --- authorization_code --------------------------------------------------------------------------


async def _by_code(tokens: Tokens, client: Client, parameters: Parameters) -> Issued:
    code, redirect_uri = _needed(parameters, "code"), _needed(parameters, "redirect_uri")
    authority = tokens.authority

    async def work(tx: Transaction) -> Issued | OAuthError:
        verifier = parameters.get("code_verifier")
        taken = await codes.redeem(authority, tx, code, client.id, redirect_uri, verifier)
        if isinstance(taken, OAuthError):
            return taken
        stands = await standing(tx, taken.grant)
        if stands is None:
            return _invalid("What the code was issued for has ended")
        scopes = _still(client, stands.record.scopes)
        if not scopes:
            return _invalid("Nothing is left of what was granted")
        again = stands.record.scopes if issuing.is_refreshable(scopes) else None
        return await issuing.issue(authority, tx, stands, scopes, refreshed=again)

    return _raised(await authority.keeper.transaction(work, write=True))


# --- refresh_token -------------------------------------------------------------------------------


async def _by_refresh(tokens: Tokens, client: Client, parameters: Parameters) -> Issued:
    key = digest(_needed(parameters, "refresh_token"))
    wanted = parameters.get("scope")
    asked = parsed(wanted) if wanted else None
    authority = tokens.authority

    async def work(tx: Transaction) -> Issued | OAuthError:
        found = await REFRESH.read(tx, key)
        now = authority.clock()
        if found is None or found.client != client.id or found.expires <= now:
            return _invalid("The refresh token is unknown or has expired")
        if found.rotated is not None and now - found.rotated > authority.policy.grace:
            await grants.end(authority, tx, found.grant)
            return Replayed("The refresh token was used before: its grant is ended", found.grant)
        stands = await standing(tx, found.grant)
        if stands is None:
            return _invalid("What the refresh token was issued for has ended")
        still = _still(client, found.scopes)
        if not issuing.is_refreshable(still):
            return _invalid("The client may no longer go on without its user")
        scopes = _narrowed(still, asked)
        if isinstance(scopes, OAuthError):
            return scopes
        await _rotate(tx, key, found, now)
        return await issuing.issue(authority, tx, stands, scopes, refreshed=found.scopes)

    return _raised(await authority.keeper.transaction(work, write=True))


async def _rotate(tx: Transaction, key: str, found: RefreshToken, now: int) -> None:
    """A token that was exchanged is remembered, so that its reuse is noticed. The time of its first
    exchange stays, or the grace would have no end."""
    rotated = found.rotated if found.rotated is not None else now
    until = min(found.expires, rotated + _REMEMBERED)
    await REFRESH.write(tx, key, replace(found, rotated=rotated), until=until)


def _narrowed(
    granted: tuple[str, ...], asked: tuple[Asked, ...] | None
) -> tuple[str, ...] | OAuthError:
    """The scopes of a refresh: those granted, or those among them that are asked for. A scope
    without the query part of a granted one would be wider than it."""
    if asked is None:
        scopes = granted
    else:
        within = tuple(each for each in (read_scope(text) for text in granted) if each)
        if allowed(asked, within) != asked:
            return OAuthError("invalid_scope", "A refresh asks for no more than was granted")
        scopes = tuple(each.text for each in asked)
    return scopes or OAuthError("invalid_scope", "No scope is left to be granted")


# --- client_credentials --------------------------------------------------------------------------


async def _by_credentials(tokens: Tokens, client: Client, parameters: Parameters) -> Issued:
    authority = tokens.authority
    asked = [each for each in parsed(_needed(parameters, "scope")) if each.clinical]
    outside = [each.text for each in asked if each.clinical and each.clinical.context != "system"]
    if outside:
        raise OAuthError("invalid_scope", "A backend service is granted system/ scopes only")
    granted = permitted(client, asked)
    if not granted:
        raise OAuthError("invalid_scope", "None of the scopes is registered for this client")
    refuse_ungrantable(authority, granted)
    scopes = tuple(each.text for each in granted)

    async def work(tx: Transaction) -> Issued | OAuthError:
        stands = await _own_grant(tx, client, scopes, authority.clock())
        if stands is None:
            return OAuthError("invalid_client", "The client is disabled")
        return await issuing.issue(authority, tx, stands, scopes)

    return _raised(await authority.keeper.transaction(work, write=True))


async def _own_grant(
    tx: Transaction, client: Client, scopes: tuple[str, ...], now: int
) -> Standing | None:
    """The one grant that a backend client has, whatever tokens come and go, so that what is bound
    to a grant, such as a paging link, goes on with its next token."""
    id = f"client.{client.id}"
    if await GRANTS.read(tx, id) is None:
        made = GrantRecord(
            id=id, client=client.id, account=None, who=None, scopes=scopes, created=now
        )
        await grants.give(tx, made, now + HOUR)
    return await standing(tx, id)


# --- what they share -----------------------------------------------------------------------------

_GRANT_TYPES: Mapping[str, Callable[[Tokens, Client, Parameters], Awaitable[Issued]]] = {
    AUTHORIZATION_CODE: _by_code,
    REFRESH_TOKEN: _by_refresh,
    CLIENT_CREDENTIALS: _by_credentials,
}
_NAMES = ", ".join(_GRANT_TYPES)


def _still(client: Client, granted: tuple[str, ...]) -> tuple[str, ...]:
    """What was granted and the client's registration still allows, as texts of the grant."""
    asked = (each for each in (read_scope(text) for text in granted) if each)
    return tuple(each.text for each in permitted(client, asked))


async def _id_token(tokens: Tokens, issued: Issued) -> str | None:
    stands = issued.standing
    if OPENID not in issued.scopes or stands.account is None:
        return None
    authority = tokens.authority
    claims = id_claims(
        authority.site,
        stands.account,
        stands.record,
        issued.scopes,
        issued.access,
        authority.clock(),
    )
    return await tokens.signing.sign(claims)


async def _audited(tokens: Tokens, issued: Issued, kind: str, address: str) -> None:
    record = issued.standing.record
    await tokens.authority.audit(
        Happening(
            "token",
            client=record.client,
            account=record.account,
            who=record.who,
            patient=record.context.patient,
            address=address,
            detail=kind,
        )
    )


def _needed(parameters: Parameters, name: str) -> str:
    value = parameters.get(name)
    if value is None:
        raise OAuthError("invalid_request", f"`{name}` is missing")
    return value


def _raised(issued: Issued | OAuthError) -> Issued:
    if isinstance(issued, OAuthError):
        raise issued
    return issued


def _invalid(description: str) -> OAuthError:
    return OAuthError("invalid_grant", description)
