"""Access tokens that the operator hands out, for curl and for loading: short-lived, audited, and
within what the client may have.

https://www.rfc-editor.org/rfc/rfc6749#section-1.4
"""

from __future__ import annotations

from joserfc.jwk import ECKey

from salus.operator import requests
from salus.operator.clients import absent
from salus.operator.users import present
from salus.problem import Problem
from salus.product import Product
from smart_auth import accounts, clients
from smart_auth.authority import Authority
from smart_auth.model import MINUTE, SECOND, Account, Client, LaunchContext
from smart_auth.registrable import Registrable
from smart_auth.scopes import read_scopes

OWN = "salus-operator"  # the client of `salus token` where none is named
MOST_MINUTES = 24 * 60


async def issue(product: Product, asked: requests.IssueToken) -> requests.Token:
    """Problem for scopes beyond the client's, and for scopes of a user without one. OAuthError,
    BadScope."""
    if not 0 < asked.minutes <= MOST_MINUTES:
        raise Problem(f"--minutes is between 1 and {MOST_MINUTES}")
    client = await _client(product.authority, asked)
    account = await _account(product.authority, asked.user)
    _check_scopes(client, asked, account)
    await _check_patient(product, asked.patient, account)
    life = asked.minutes * MINUTE
    token = await product.tokens.issue(
        client,
        asked.scope,
        account=account,
        context=LaunchContext(patient=asked.patient),
        life=life,
    )
    granted = " ".join(dict.fromkeys(asked.scope.split()))
    return requests.Token(token, granted, life // SECOND)


async def _client(authority: Authority, asked: requests.IssueToken) -> Client:
    if asked.client is None:
        if asked.user is not None:
            raise Problem("Name the app that acts for the user with --client")
        found = await clients.client(authority, OWN) or await _own(authority)
    elif (known := await clients.client(authority, asked.client)) is None:
        raise absent(asked.client)
    else:
        found = known
    if found.disabled:
        raise Problem(f"The client {found.id} is disabled: `salus client enable {found.id}`")
    return found


async def _own(authority: Authority) -> Client:
    """The operator's own client. Nobody has its key, so only the operator gets tokens for it."""
    key = ECKey.generate_key("P-384", private=True)
    public = {**key.as_dict(private=False), "kid": key.thumbprint(), "alg": "ES384", "use": "sig"}
    wanted = Registrable(
        name="Salus operator",
        profile="backend",
        authentication="private_key_jwt",
        jwks={"keys": [public]},
        scopes=("system/*.cruds",),
    )
    return (await clients.register(authority, wanted, id=OWN)).client


async def _account(authority: Authority, name: str | None) -> Account | None:
    if name is None:
        return None
    found = await accounts.read(authority, name)
    if found is None or found.disabled:
        raise Problem(f"There is no user {name} who may sign in: `salus user list` shows all")
    if found.who is None:
        raise Problem(
            f"{found.name} only administers: give the account a resource with "
            f"`salus user link {found.name} Practitioner/ID`"
        )
    return found


async def _check_patient(product: Product, id: str | None, account: Account | None) -> None:
    """The patient in context must be there, and the user reach it. Problem."""
    if id is None:
        return
    if not await present(product, "Patient", id):
        raise Problem(f"There is no Patient/{id}: --patient takes the id of one that is there")
    directory = product.authority.directory
    if account and account.who and await directory.patient(account.who, id) is None:
        raise Problem(
            f"{account.name} is {account.who}, who may not see Patient/{id}: name another --user "
            "or --patient"
        )


def _check_scopes(client: Client, asked: requests.IssueToken, account: Account | None) -> None:
    """All of the scopes must be had, and mean something. Problem, BadScope."""
    wanted = read_scopes(asked.scope)
    unknown = sorted(set(asked.scope.split()) - {each.text for each in wanted})
    if unknown or not wanted:
        raise Problem(f"No scope of this server: {' '.join(unknown) or '(none was named)'}")
    had = {each.text for each in clients.permitted(client, wanted)}
    beyond = [each.text for each in wanted if each.text not in had]
    if beyond:
        raise Problem(
            f"{client.id} may not have {' '.join(beyond)}: `salus client show {client.id}` tells "
            "what it may"
        )
    contexts = {each.clinical.context for each in wanted if each.clinical}
    if "system" in contexts and (len(contexts) > 1 or account):
        raise Problem("system/ scopes stand alone: without --user, not beside user/ or patient/")
    if contexts & {"user", "patient"} and account is None:
        raise Problem("user/ and patient/ scopes act for somebody: name them with --user")
    if "patient" in contexts and asked.patient is None:
        raise Problem("patient/ scopes are about one patient: name it with --patient")
