"""Registered clients: who they are, where they may be sent, and the most they may be granted.

https://www.rfc-editor.org/rfc/rfc6749#section-2, https://www.rfc-editor.org/rfc/rfc7591
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from typing import NamedTuple

from msgspec.structs import replace

from smart_auth import grants, uris
from smart_auth.authority import Authority
from smart_auth.model import CLIENTS, DAY, Client
from smart_auth.profiles import PROFILES, Profile
from smart_auth.records import Transaction, digest, new_secret
from smart_auth.registrable import Registrable, checked
from smart_auth.scopes import Asked, BadScope, allowed, read_scope

_OVERLAP = DAY  # in which the secret of before is still taken
# An extension scope of ours: its holder may introspect the tokens of every client.
INTROSPECT = "__introspect"


class Registered(NamedTuple):
    """A client as it was registered. Its secret and the token that manages it are shown here once;
    the store has their digests only."""

    client: Client
    secret: str | None = None
    management: str | None = None


async def client(authority: Authority, id: str) -> Client | None:
    """A client by its id, also a disabled one."""
    return await authority.keeper.transaction(lambda tx: CLIENTS.read(tx, id))


async def all_clients(authority: Authority) -> list[Client]:
    """Every client, by id."""
    found = await authority.keeper.transaction(lambda tx: CLIENTS.all(tx))
    return [each for _, each in found]


async def register(
    authority: Authority,
    asked: Registrable,
    *,
    id: str | None = None,
    by: str = "operator",
    managed: bool = False,
) -> Registered:
    """Register a client; `managed`: with a token by which it manages itself. OAuthError
    invalid_client_metadata or invalid_redirect_uri, which says what is wrong; ValueError when the
    id is taken."""
    fields = checked(asked, authority.policy, id)
    secret = new_secret() if asked.authentication == "client_secret" else None
    management = new_secret() if managed else None
    made = Client(
        id=id or new_secret(),
        secret=digest(secret) if secret else None,
        management=digest(management) if management else None,
        registered=authority.clock(),
        registered_by=by,
        **fields,
    )

    async def write(tx: Transaction) -> bool:
        if await CLIENTS.read(tx, made.id) is not None:
            return False
        await CLIENTS.write(tx, made.id, made)
        return True

    if not await authority.keeper.transaction(write, write=True):
        raise ValueError(f"There is a client {made.id} already")
    return Registered(made, secret, management)


def check(authority: Authority, asked: Registrable) -> None:
    """OAuthError when it could not be registered."""
    checked(asked, authority.policy, None)


async def update(authority: Authority, id: str, asked: Registrable) -> Registered | None:
    """Replace what a client registered; its secret stays when it goes on using one. None when there
    is no such client. OAuthError as `register`."""
    fields = checked(asked, authority.policy, None)
    new = new_secret()
    wanted = asked.authentication == "client_secret"

    async def write(tx: Transaction) -> Registered | None:
        before = await CLIENTS.read(tx, id)
        if before is None:
            return None
        issued = wanted and before.secret is None
        secret = before.secret if wanted and not issued else digest(new) if issued else None
        kept = {} if wanted else {"secret_before": None, "secret_before_until": 0}
        after = replace(before, revision=before.revision + 1, secret=secret, **fields, **kept)
        await CLIENTS.write(tx, id, after)
        return Registered(after, new if issued else None)

    done = await authority.keeper.transaction(write, write=True)
    authority.changed(None)
    return done


async def rotate_secret(authority: Authority, id: str, overlap: int = _OVERLAP) -> str | None:
    """A new secret; the one of before is taken for `overlap` microseconds more. None when there is
    no such client, or it has no secret."""
    secret = new_secret()
    until = authority.clock() + overlap

    def rotated(before: Client) -> Client:
        return replace(
            before,
            secret=digest(secret),
            secret_before=before.secret,
            secret_before_until=until,
        )

    done = await _change(authority, id, rotated, needs_secret=True)
    return secret if done else None


async def disable(authority: Authority, id: str) -> Client | None:
    """Let nothing of a client work any more, at once; its grants come back with `enable`."""
    return await _change(authority, id, lambda before: replace(before, disabled=True))


async def enable(authority: Authority, id: str) -> Client | None:
    return await _change(authority, id, lambda before: replace(before, disabled=False))


async def remove(authority: Authority, id: str) -> Client | None:
    """Forget a client with all that it was granted."""

    async def write(tx: Transaction) -> Client | None:
        await grants.end_of_client(authority, tx, id)
        return await CLIENTS.take(tx, id)

    done = await authority.keeper.transaction(write, write=True)
    authority.changed(None)
    return done


async def _change(
    authority: Authority,
    id: str,
    change: Callable[[Client], Client],
    needs_secret: bool = False,
) -> Client | None:
    async def write(tx: Transaction) -> Client | None:
        before = await CLIENTS.read(tx, id)
        if before is None or (needs_secret and before.secret is None):
            return None
        after = replace(change(before), revision=before.revision + 1)
        await CLIENTS.write(tx, id, after)
        return after

    done = await authority.keeper.transaction(write, write=True)
    authority.changed(None)
    return done


# --- what a client may ---------------------------------------------------------------------------


def profile(client: Client) -> Profile:
    return PROFILES[client.profile]


def redirect_allowed(client: Client, uri: str) -> bool:
    """Whether a redirect may go there: exactly as registered, but for the port of a loopback
    address of an app on the user's own device."""
    native = not client.confidential
    return any(uris.redirect_matches(each, uri, native) for each in client.redirect_uris)


def permitted(client: Client, asked: Iterable[Asked]) -> tuple[Asked, ...]:
    """What is left of scopes when a client may have no more than its profile and its registration
    allow."""
    contexts = profile(client).contexts
    within = [each for each in asked if not each.clinical or each.clinical.context in contexts]
    return allowed(within, registered_scopes(client)) if client.scopes else tuple(within)


def registered_scopes(client: Client) -> tuple[Asked, ...]:
    """The most that a client may be granted, as it was registered."""
    found: list[Asked] = []
    for text in client.scopes:
        try:
            each = read_scope(text)
        except BadScope:  # a rule of reading that came after the registration: it grants nothing
            continue
        if each:
            found.append(each)
    return tuple(found)


def introspects_all(client: Client) -> bool:
    """Whether a client, such as another resource server, may introspect every client's tokens."""
    return INTROSPECT in client.scopes


def origins(client: Client) -> frozenset[str]:
    """From where pages of a client may call."""
    redirects = (uris.origin(each) for each in client.redirect_uris)
    return frozenset((*client.origins, *(each for each in redirects if each)))


def secret_is(client: Client | None, secret: str, now: int) -> bool:
    """Whether a secret is the client's, in the same time for every answer."""
    shown = digest(secret)
    current = (client.secret if client else None) or _NOBODY
    before = (client.secret_before if client else None) or _NOBODY
    matches = hmac.compare_digest(shown, current)
    matched_before = hmac.compare_digest(shown, before)
    fresh = client is not None and now < client.secret_before_until
    return matches or (matched_before and fresh)


_NOBODY = digest(new_secret())  # compared with where there is no secret
