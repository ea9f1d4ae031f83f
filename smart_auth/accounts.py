"""Who can sign in: accounts of people, each linked to their own resource.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#scopes-for-requesting-identity-data
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from smart_auth import grants, passwords, sessions
from smart_auth.authority import Authority, Happening
from smart_auth.model import ACCOUNTS, Account
from smart_auth.records import Transaction

_NAME = re.compile(r"\w[\w.@+-]{0,99}")
_WHO = re.compile(r"(Practitioner|Patient|RelatedPerson|Person)/[A-Za-z0-9.-]{1,64}")
_DISPLAY = 120  # characters

_Work = Callable[[Transaction], Awaitable[Account]]


class BadAccount(ValueError):
    """An account that cannot be made or changed so; the text says what to do."""


def folded(name: str) -> str:
    """The one spelling of a name: neither case nor the way of composing letters tells accounts
    apart."""
    return unicodedata.normalize("NFKC", name.strip()).casefold()


async def create(
    authority: Authority,
    tx: Transaction,
    name: str,
    *,
    who: str | None = None,
    display: str = "",
    administrator: bool = False,
) -> Account:
    """A new account, which nobody can use until it has a password (`set_password`, or the page of
    an invitation). `who`: "Practitioner/1". BadAccount."""
    name = folded(name)
    if not _NAME.fullmatch(name):
        raise BadAccount("A name has 1 to 100 letters, digits and the characters . _ @ + -")
    if who is not None and not _WHO.fullmatch(who):
        raise BadAccount("An account is that of a Practitioner, Patient, RelatedPerson or Person")
    if await ACCOUNTS.read(tx, name) is not None:
        raise BadAccount(f"There is an account {name} already")
    made = Account(
        name=name,
        who=who,
        display=display[:_DISPLAY],
        administrator=administrator,
        created=authority.clock(),
    )
    await ACCOUNTS.write(tx, name, made)
    return made


async def read(authority: Authority, name: str) -> Account | None:
    """The account with that name, however it is typed."""
    return await authority.keeper.transaction(lambda tx: ACCOUNTS.read(tx, folded(name)))


async def all_accounts(authority: Authority) -> list[Account]:
    """Every account, by name."""
    found = await authority.keeper.transaction(ACCOUNTS.all)
    return [account for _, account in found]


async def set_password(
    authority: Authority, name: str, password: str, but: str | None = None
) -> Account:
    """Choose another password: every other session ends, all but the one of the cookie `but`.
    WeakPassword, BadAccount."""
    passwords.accept(password, folded(name))
    kept = await passwords.hashed(password)

    async def work(tx: Transaction) -> Account:
        account = await _change(
            tx, name, lambda found: replace(found, password=kept, proof=found.proof + 1)
        )
        await sessions.end_of_account(authority, tx, account.name, but)
        return account

    return await _told(authority, work, "password")


async def disable(authority: Authority, name: str) -> Account:
    """From now on nobody signs in, and no session, code or token of before works. BadAccount."""

    async def work(tx: Transaction) -> Account:
        account = await _change(tx, name, lambda found: replace(found, disabled=True))
        return await renew(authority, tx, account)

    return await _told(authority, work, "disabled")


async def enable(authority: Authority, name: str) -> Account:
    """The account can sign in again; what ended stays ended. BadAccount."""

    async def work(tx: Transaction) -> Account:
        return await _change(tx, name, lambda found: replace(found, disabled=False))

    return await _told(authority, work, "enabled")


async def set_who(authority: Authority, name: str, who: str | None) -> Account:
    """Link an account to another resource: all that was granted before ends. BadAccount."""
    if who is not None and not _WHO.fullmatch(who):
        raise BadAccount("An account is that of a Practitioner, Patient, RelatedPerson or Person")

    async def work(tx: Transaction) -> Account:
        account = await _change(tx, name, lambda found: replace(found, who=who))
        return await renew(authority, tx, account)

    return await _told(authority, work, "linked")


async def remove(authority: Authority, name: str) -> Account:
    """Forget an account, with all its sessions and grants. BadAccount."""

    async def work(tx: Transaction) -> Account:
        account = await _change(tx, name, lambda found: replace(found, disabled=True))
        account = await renew(authority, tx, account)
        await ACCOUNTS.take(tx, account.name)
        return account

    return await _told(authority, work, "removed")


async def sign_out_everywhere(authority: Authority, name: str) -> Account:
    """End every session and grant of an account. BadAccount."""

    async def work(tx: Transaction) -> Account:
        return await renew(authority, tx, await _change(tx, name, lambda found: found))

    return await _told(authority, work, "signed out everywhere")


async def renew(authority: Authority, tx: Transaction, account: Account) -> Account:
    """Begin a new epoch: all sessions and grants of before end. Whoever calls tells
    authority.changed(None) after the transaction."""
    renewed = replace(account, epoch=account.epoch + 1)
    await ACCOUNTS.write(tx, account.name, renewed)
    await sessions.end_of_account(authority, tx, account.name)
    await grants.end_of_account(authority, tx, account.name)
    return renewed


async def _change(tx: Transaction, name: str, edit: Callable[[Account], Account]) -> Account:
    account = await ACCOUNTS.read(tx, folded(name))
    if account is None:
        raise BadAccount("There is no account with that name")
    changed = edit(account)
    await ACCOUNTS.write(tx, account.name, changed)
    return changed


async def _told(authority: Authority, work: _Work, detail: str) -> Account:
    account = await authority.keeper.transaction(work, write=True)
    authority.changed(None)
    await authority.audit(
        Happening("account", account=account.name, who=account.who, detail=detail)
    )
    return account
