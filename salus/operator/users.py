"""Accounts of people, as the operator keeps them.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#scopes-for-requesting-identity-data
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from conformance.outcome import FhirError
from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction
from salus.operator import requests
from salus.operator.clients import OPERATOR
from salus.problem import Problem
from salus.product import Product
from smart_auth import accounts, invitations, passwords
from smart_auth.authority import Authority, Happening
from smart_auth.grant import Grant
from smart_auth.model import ACCOUNTS, Account
from smart_auth.records import Transaction

FIRST = "admin"  # the account that the first start makes


async def add(product: Product, asked: requests.AddUser) -> requests.UserShown:
    """With a password, or with a link by which the user chooses one."""
    authority = product.authority
    if asked.password is not None:
        passwords.accept(asked.password, accounts.folded(asked.name))

    async def work(tx: Transaction) -> tuple[Account, str | None]:
        made = await accounts.create(
            authority,
            tx,
            asked.name,
            who=asked.who,
            display=asked.display,
            administrator=asked.administrator,
        )
        link = None if asked.password else await invitations.invite(authority, tx, made)
        return made, link

    account, secret = await authority.keeper.transaction(work, write=True)
    await _told(authority, account, "created by the operator")
    if asked.password:
        account = await accounts.set_password(authority, account.name, asked.password)
    return _shown(account, _address(authority, secret), await note_of(product, account.who))


async def listed(product: Product, _: requests.ListUsers) -> requests.Users:
    found = await accounts.all_accounts(product.authority)
    return requests.Users(tuple(_shown(each) for each in found))


_CHANGES: Mapping[str, Callable[[Authority, str], Awaitable[Account]]] = {
    "disabled": accounts.disable,
    "enabled": accounts.enable,
    "removed": accounts.remove,
    "signed out": accounts.sign_out_everywhere,
}


_ENDS = frozenset({"disabled", "removed"})


async def change(product: Product, asked: requests.ChangeUser) -> requests.UserShown:
    """Problem where it would leave nobody who administers, unless that is meant."""
    if asked.to in _ENDS and not asked.alone:
        name, known = accounts.folded(asked.name), await accounts.all_accounts(product.authority)
        if [each.name for each in administrators(known)] == [name]:
            raise Problem(
                f"{name} is the last administrator: add another first with `salus user add NAME "
                "--admin`, or say --yes"
            )
    return _shown(await _CHANGES[asked.to](product.authority, asked.name))


async def reset(product: Product, asked: requests.ResetUser) -> requests.UserShown:
    """A link for another password. The one of before works until the link is used."""
    authority = product.authority
    purpose: invitations.Purpose = "factors" if asked.factors else "password"

    async def work(tx: Transaction) -> tuple[Account, str]:
        found = await ACCOUNTS.read(tx, accounts.folded(asked.name))
        if found is None:
            raise Problem(f"There is no user {asked.name}: `salus user list` shows all of them")
        return found, await invitations.invite(authority, tx, found, purpose)

    account, secret = await authority.keeper.transaction(work, write=True)
    await _told(authority, account, f"link for another password ({purpose})")
    return _shown(account, _address(authority, secret))


async def link(product: Product, asked: requests.LinkUser) -> requests.UserShown:
    account = await accounts.set_who(product.authority, asked.name, asked.who)
    return _shown(account, note=await note_of(product, account.who))


async def first(product: Product, _: requests.FirstStart) -> requests.First:
    """An administrator and a link where there is nobody yet, or where the first one never chose a
    password: the link of before ends."""
    authority = product.authority

    async def work(tx: Transaction) -> tuple[Account, str] | None:
        known = await ACCOUNTS.all(tx)
        if not known:
            account = await accounts.create(authority, tx, FIRST, administrator=True)
        elif len(known) == 1 and _never_used(known[0][1]):
            account = known[0][1]
        else:
            return None
        return account, await invitations.invite(authority, tx, account)

    made = await authority.keeper.transaction(work, write=True)
    if made is None:
        known = await accounts.all_accounts(authority)
        return requests.First(None, None, administered=bool(administrators(known)))
    account, secret = made
    await _told(authority, account, "first administrator")
    return requests.First(account.name, _address(authority, secret))


def administrators(known: Iterable[Account]) -> list[Account]:
    """Who may administer the server, and is not disabled."""
    return [each for each in known if each.administrator and not each.disabled]


def _never_used(account: Account) -> bool:
    return account.name == FIRST and account.administrator and account.password is None


def _address(authority: Authority, secret: str | None) -> str | None:
    return invitations.address(authority, secret) if secret else None


async def _told(authority: Authority, account: Account, detail: str) -> None:
    """Audit what the operator did to an account, where that does not happen anyway."""
    await authority.audit(
        Happening("account", client=OPERATOR, account=account.name, who=account.who, detail=detail)
    )


async def note_of(product: Product, who: str | None) -> str | None:
    """What to know of the resource that an account is linked to."""
    if who is None:
        return None
    type, _, id = who.partition("/")
    return None if await present(product, type, id) else f"There is no {who} yet"


async def present(product: Product, type: str, id: str) -> bool:
    """Whether the operator can read a resource."""
    caller = Caller(Grant.operator(OPERATOR), "local", product.settings.base_url)
    try:
        await product.server.perform(Interaction("read", type, id), caller)
    except FhirError:
        return False
    return True


def _shown(
    account: Account, link: str | None = None, note: str | None = None
) -> requests.UserShown:
    return requests.UserShown(
        name=account.name,
        who=account.who,
        display=account.display,
        administrator=account.administrator,
        disabled=account.disabled,
        password=account.password is not None,
        second_factor=account.totp is not None,
        link=link,
        note=note,
    )
