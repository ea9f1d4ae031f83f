"""Registered apps, as the operator keeps them.

https://hl7.org/fhir/smart-app-launch/app-launch.html#register-app-with-ehr
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from salus.operator import requests
from salus.operator.words import sentences
from salus.problem import Problem
from salus.product import Product
from smart_auth import clients, grants, registration
from smart_auth.authority import Authority, Happening
from smart_auth.model import DAY, HOUR, Client, GrantRecord
from smart_auth.profiles import PROFILES
from smart_auth.registrable import Registrable
from smart_auth.scopes import read_scopes

OPERATOR = "operator"  # how the audit calls whoever gives these commands
_OVERLAP = 24 * HOUR
_OFFER_DAYS = 90


async def register(product: Product, asked: requests.RegisterClient) -> requests.ClientShown:
    """Problem for an id that is taken."""
    authority = product.authority
    wanted = Registrable(
        name=asked.name,
        profile=asked.profile,
        authentication=asked.authentication,
        redirect_uris=asked.redirect_uris,
        launch_uri=asked.launch_uri,
        jwks=asked.jwks,
        jwks_uri=asked.jwks_uri,
        scopes=asked.scopes,
        origins=asked.origins,
        native=asked.native,
    )
    refuse_ungrantable(authority, asked.scopes)
    try:
        made = await clients.register(authority, wanted, id=asked.id)
    except ValueError as error:
        raise Problem(str(error)) from None
    await told(authority, "register", made.client.id, "registered")
    return _shown(made.client, (), made.secret)


async def listed(product: Product, _: requests.ListClients) -> requests.Clients:
    found = await clients.all_clients(product.authority)
    return requests.Clients(
        tuple([_shown(each, await _grants(product.authority, each.id)) for each in found])
    )


async def show(product: Product, asked: requests.ShowClient) -> requests.ClientShown:
    found = await clients.client(product.authority, asked.id)
    if found is None:
        raise absent(asked.id)
    return _shown(found, await _grants(product.authority, found.id))


async def rotate(product: Product, asked: requests.RotateSecret) -> requests.Secret:
    secret = await clients.rotate_secret(product.authority, asked.id, _OVERLAP)
    if secret is None:
        raise Problem(
            f"There is no client {asked.id} with a secret: `salus client list` shows all of them"
        )
    await told(product.authority, "register", asked.id, "secret rotated")
    return requests.Secret(secret, _OVERLAP // HOUR)


_CHANGES: Mapping[str, Callable[[Authority, str], Awaitable[Client | None]]] = {
    "disabled": clients.disable,
    "enabled": clients.enable,
    "removed": clients.remove,
}


async def change(product: Product, asked: requests.ChangeClient) -> requests.Done:
    if await _CHANGES[asked.to](product.authority, asked.id) is None:
        raise absent(asked.id)
    await told(product.authority, "register", asked.id, asked.to)
    return requests.Done()


async def offer(product: Product, asked: requests.OfferRegistration) -> requests.Offered:
    """Problem for a profile that there is not, and for a time that makes no sense."""
    unknown = sorted(set(asked.profiles) - set(PROFILES))
    if unknown or not asked.profiles:
        raise Problem(f"The profiles are {', '.join(PROFILES)}; not {', '.join(unknown)}")
    if not 0 < asked.days <= _OFFER_DAYS:
        raise Problem(f"--days is between 1 and {_OFFER_DAYS}")
    read_scopes(" ".join(asked.scopes))
    refuse_ungrantable(product.authority, asked.scopes)
    token = await registration.offer(
        product.authority, asked.profiles, asked.scopes, asked.days * DAY
    )
    await told(product.authority, "register", OPERATOR, "registration offered")
    return requests.Offered(token, product.authority.policy.registration)


def absent(id: str) -> Problem:
    return Problem(f"There is no client {id}: `salus client list` shows all of them")


def refuse_ungrantable(authority: Authority, scopes: tuple[str, ...]) -> None:
    """Problem for a scope that nobody can be granted here."""
    for each in clients.registered_scopes(_bare(scopes)):
        reason = each.clinical and authority.directory.ungrantable(each.clinical)
        if reason:
            raise Problem(f"`{each.text}`: {reason}")


def _bare(scopes: tuple[str, ...]) -> Client:
    return Client(id="", name="", profile="", scopes=scopes)


async def told(authority: Authority, what: str, client: str, detail: str) -> None:
    """Audit what the operator did to a client."""
    await authority.audit(Happening(what, client=client, account=OPERATOR, detail=detail))


async def _grants(authority: Authority, client: str) -> tuple[GrantRecord, ...]:
    found = await authority.keeper.transaction(lambda tx: grants.of_client(tx, client))
    return tuple(found)


def _shown(
    client: Client, held: tuple[GrantRecord, ...], secret: str | None = None
) -> requests.ClientShown:
    profile = clients.profile(client)
    return requests.ClientShown(
        id=client.id,
        name=client.name,
        profile=client.profile,
        authentication=_authentication(client),
        redirect_uris=client.redirect_uris,
        launch_uri=client.launch_uri,
        scopes=client.scopes,
        may=tuple(sentences(client.scopes, profile.contexts)),
        origins=client.origins,
        registered=client.registered,
        registered_by=client.registered_by,
        disabled=client.disabled,
        grants=len(held),
        used=max((each.used for each in held if each.used), default=None),
        kids=tuple(
            str(each["kid"]) for each in (client.jwks or {}).get("keys", ()) if "kid" in each
        ),
        secret=secret,
    )


def _authentication(client: Client) -> str:
    known: tuple[tuple[Any, str], ...] = (
        (client.secret, "a secret"),
        (client.jwks, "keys"),
        (client.jwks_uri, f"keys at {client.jwks_uri}"),
    )
    return next((name for held, name in known if held), "nothing (public)")
