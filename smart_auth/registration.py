"""Apps that register themselves, as far as the operator's policy lets them, and manage what they
registered.

https://www.rfc-editor.org/rfc/rfc7591, https://www.rfc-editor.org/rfc/rfc7592
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from starlette.datastructures import Headers

from smart_auth import clients, limits
from smart_auth.authority import REGISTER, Authority, Happening
from smart_auth.bearer import bearer, invalid_token, missing_token
from smart_auth.clients import Registered, profile
from smart_auth.errors import OAuthError
from smart_auth.metadata import Metadata, described
from smart_auth.model import DAY, Client
from smart_auth.records import Space, Transaction, digest, new_secret
from smart_auth.reserved import is_reserved

_OFFER = 7 * DAY


class Offer(Struct, frozen=True, kw_only=True):
    """An initial access token, which lets one app register: with one of `profiles`, and no more
    scopes than `scopes` when these are given."""

    profiles: tuple[str, ...] = ("smart-2",)
    scopes: tuple[str, ...] = ()
    expires: int


OFFERS = Space("smart.offer", Offer)  # by digest of the token


async def offer(
    authority: Authority,
    profiles: tuple[str, ...] = ("smart-2",),
    scopes: tuple[str, ...] = (),
    life: int = _OFFER,
) -> str:
    """An initial access token for one registration. `life` in microseconds."""
    token, expires = new_secret(), authority.clock() + life
    made = Offer(profiles=profiles, scopes=scopes, expires=expires)
    await authority.keeper.transaction(
        lambda tx: OFFERS.write(tx, digest(token), made, until=expires), write=True
    )
    return token


async def register(
    authority: Authority, headers: Headers, body: bytes, address: str
) -> dict[str, Any]:
    """The answer to a registration: what was registered, with the client's id and secrets.
    OAuthError access_denied where none is wanted, invalid_token, slow_down, and those of
    `clients.register`."""
    metadata = Metadata.read(body)
    counted = limits.registrations(address)
    if authority.policy.registration == "off":
        raise OAuthError("access_denied", "Clients are registered by the operator of this server")
    await limits.check(authority, counted)
    offered, token = await _offered(authority, headers)
    _within(metadata, offered)
    asked = metadata.registrable(offered.scopes)
    _check_name(authority, asked.name)
    clients.check(authority, asked)  # before the token is used up
    if token and await _taken(authority, token) is None:
        raise invalid_token()
    await limits.add(authority, counted)
    made = await clients.register(authority, asked, by="registration", managed=True)
    await authority.audit(Happening("register", client=made.client.id, address=address))
    return _answer(authority, made, metadata)


async def read(authority: Authority, headers: Headers, id: str) -> dict[str, Any]:
    """What a client registered. OAuthError invalid_token."""
    client = await _managed(authority, headers, id)
    return _answer(authority, Registered(client), None)


async def update(
    authority: Authority, headers: Headers, id: str, body: bytes, address: str
) -> dict[str, Any]:
    """Replace what a client registered by what it sends: the whole of it, as the standard says."""
    client = await _managed(authority, headers, id)
    metadata = Metadata.read(body)
    if metadata.client_id != id or not _is_own_secret(client, metadata.client_secret):
        raise OAuthError(
            "invalid_client_metadata", "`client_id` and `client_secret` stay as issued"
        )
    if metadata.profile(client.profile) != client.profile:
        raise OAuthError("invalid_client_metadata", "The kind of a client stays as registered")
    asked = metadata.registrable(client.scopes, client.profile)
    if asked.name != client.name:
        _check_name(authority, asked.name)
    done = await clients.update(authority, id, asked)
    if done is None:
        raise invalid_token()
    await authority.audit(Happening("register", client=id, address=address, detail="update"))
    return _answer(authority, done, metadata)


async def delete(authority: Authority, headers: Headers, id: str, address: str) -> None:
    """Forget a client with all that it was granted."""
    await _managed(authority, headers, id)
    await clients.remove(authority, id)
    await authority.audit(Happening("register", client=id, address=address, detail="delete"))


# --- who may -------------------------------------------------------------------------------------


async def _offered(authority: Authority, headers: Headers) -> tuple[Offer, str | None]:
    """What the caller may register, and the token that says so. Where registration is open, one
    without a token may register apps of users, never a service that needs none."""
    token = bearer(headers)
    if token is None:
        if authority.policy.registration != "open":
            raise missing_token()
        return Offer(expires=0), None
    now = authority.clock()
    found = await authority.keeper.transaction(lambda tx: OFFERS.read(tx, digest(token)))
    if found is None or found.expires <= now:
        raise invalid_token()
    return found, token


async def _taken(authority: Authority, token: str) -> Offer | None:
    """The offer behind a token, which is worth nothing any more."""

    async def take(tx: Transaction) -> Offer | None:
        return await OFFERS.take(tx, digest(token))

    return await authority.keeper.transaction(take, write=True)


def _within(metadata: Metadata, offered: Offer) -> None:
    wanted = metadata.profile(offered.profiles[0])
    if wanted not in offered.profiles:
        raise OAuthError(
            "invalid_client_metadata",
            "Only the operator can register a client of this kind, or give a token for it",
        )


def _check_name(authority: Authority, name: str) -> None:
    """Only the operator may name an app so that users take it for the server. OAuthError."""
    if is_reserved(name, authority.site.name):
        raise OAuthError(
            "invalid_client_metadata", "`client_name` begins like the name of this server"
        )


async def _managed(authority: Authority, headers: Headers, id: str) -> Client:
    """The client, when the token is the one that manages it; whether there is one is not told."""
    token = bearer(headers)
    if token is None:
        raise missing_token()
    found = await clients.client(authority, id)
    held = (found.management if found else None) or _NOBODY
    if not hmac.compare_digest(digest(token), held) or found is None or found.disabled:
        raise invalid_token()
    return found


_NOBODY = digest(new_secret())


def _is_own_secret(client: Client, sent: str | None) -> bool:
    return sent is None or hmac.compare_digest(digest(sent), client.secret or _NOBODY)


def _answer(authority: Authority, made: Registered, sent: Metadata | None) -> dict[str, Any]:
    client = made.client
    method = sent.method if sent else None
    said: Mapping[str, Any] = described(client, profile(client), method)
    secrets: dict[str, Any] = {}
    if made.secret:
        secrets |= {"client_secret": made.secret, "client_secret_expires_at": 0}
    if made.management:
        secrets["registration_access_token"] = made.management
    secrets["registration_client_uri"] = f"{authority.site.at(REGISTER)}/{client.id}"
    return {**said, **secrets}
