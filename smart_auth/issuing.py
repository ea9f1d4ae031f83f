"""Access and refresh tokens as they are made: opaque, kept as digests, each under its grant.

https://www.rfc-editor.org/rfc/rfc6749#section-5.1, https://hl7.org/fhir/smart-app-launch/app-launch.html
"""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec.structs import replace

from smart_auth import grants
from smart_auth.authority import STYLE, Authority
from smart_auth.clients import profile
from smart_auth.model import (
    REFRESH,
    SECOND,
    TOKENS,
    AccessToken,
    GrantRecord,
    LaunchContext,
    RefreshToken,
)
from smart_auth.records import Transaction, digest, new_secret
from smart_auth.scopes import LAUNCH, OFFLINE, ONLINE
from smart_auth.standing import Standing


class Issued(NamedTuple):
    """Tokens that were issued; they are shown once. `life` in microseconds."""

    standing: Standing
    access: str
    scopes: tuple[str, ...]
    life: int
    refresh: str | None = None


async def issue(
    authority: Authority,
    tx: Transaction,
    standing: Standing,
    scopes: tuple[str, ...],
    *,
    refreshed: tuple[str, ...] | None = None,
    life: int | None = None,
) -> Issued:
    """An access token for `scopes`, and a refresh token for `refreshed`, the scopes that may be had
    again, when there are any. The grant lasts as long as its tokens. `life`: microseconds, else as
    long as the client's profile has it."""
    now = authority.clock()
    record, client = standing.record, standing.client
    lasting = life or profile(client).access_life(authority.policy)
    access = new_secret()
    token = AccessToken(
        grant=record.id, client=client.id, scopes=scopes, issued=now, expires=now + lasting
    )
    key = digest(access)
    await TOKENS.write(tx, key, token, until=token.expires)
    await grants.note(tx, record.id, "a", key, token.expires)
    refresh = await _refresh(authority, tx, record, refreshed, now) if refreshed else None
    until = now + _refresh_life(authority, refreshed) if refreshed else token.expires
    await grants.give(tx, replace(record, used=now), max(until, token.expires))
    return Issued(standing, access, scopes, lasting, refresh)


async def _refresh(
    authority: Authority,
    tx: Transaction,
    record: GrantRecord,
    scopes: tuple[str, ...],
    now: int,
) -> str:
    secret = new_secret()
    expires = now + _refresh_life(authority, scopes)
    token = RefreshToken(grant=record.id, client=record.client, scopes=scopes, expires=expires)
    await REFRESH.write(tx, digest(secret), token, until=expires)
    await grants.note(tx, record.id, "r", digest(secret), expires)
    return secret


def _refresh_life(authority: Authority, scopes: tuple[str, ...]) -> int:
    """Each use gives the whole period anew; without offline_access no longer than a session."""
    policy = authority.policy
    return policy.refresh if OFFLINE in scopes else policy.session_most


def is_refreshable(scopes: tuple[str, ...]) -> bool:
    """Whether scopes were granted that a refresh token is for."""
    return OFFLINE in scopes or ONLINE in scopes


def answer(authority: Authority, issued: Issued, id_token: str | None = None) -> dict[str, Any]:
    """The token response, launch context included."""
    said: dict[str, Any] = {
        "access_token": issued.access,
        "token_type": "Bearer",
        "expires_in": issued.life // SECOND,
        "scope": " ".join(issued.scopes),
    }
    if issued.refresh:
        said["refresh_token"] = issued.refresh
    if id_token:
        said["id_token"] = id_token
    return said | launch_parameters(authority, issued.standing)


def launch_parameters(authority: Authority, standing: Standing) -> dict[str, Any]:
    """The launch context of a grant, in the form that its client's profile understands."""
    record = standing.record
    if record.account is None:
        return {}
    context: LaunchContext = record.context
    if profile(standing.client).fhir_context == "omitted":
        context = replace(context, fhir_context=())
    if LAUNCH in record.scopes and context.need_patient_banner is None:
        context = replace(context, need_patient_banner=True)
    said = context.parameters()
    said["smart_style_url"] = authority.site.at(STYLE)
    if authority.site.tenant:
        said["tenant"] = authority.site.tenant
    return said
