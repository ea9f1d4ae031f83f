"""One-time links by which somebody chooses a password, the first one or another.

https://cheatsheetseries.owasp.org/cheatsheets/Forgot_Password_Cheat_Sheet.html
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from smart_auth import accounts, passwords
from smart_auth.authority import Authority, Happening
from smart_auth.model import ACCOUNTS, DAY, HOUR, Account
from smart_auth.records import Space, Transaction, digest, new_secret

WELCOME = "/welcome"  # the page; the secret follows as `link`
# welcome: of a new account; password: another password; factors: the telephone is lost as well
Purpose: TypeAlias = Literal["welcome", "password", "factors"]
_LASTS: dict[Purpose, int] = {"welcome": 7 * DAY, "password": DAY, "factors": 4 * HOUR}


class Invitation(Struct, frozen=True, kw_only=True):
    """Kept under the digest of its secret. `epoch` of the account: another password since makes
    it worthless."""

    account: str
    purpose: Purpose
    epoch: int
    expires: int


INVITATIONS = Space("smart.invitation", Invitation)


async def invite(
    authority: Authority, tx: Transaction, account: Account, purpose: Purpose = "welcome"
) -> str:
    """The secret of a new link; those of before end. Hand it only to whom the account is for."""
    for key, earlier in await INVITATIONS.all(tx):
        if earlier.account == account.name:
            await INVITATIONS.take(tx, key)
    secret = new_secret()
    expires = authority.clock() + _LASTS[purpose]
    made = Invitation(account=account.name, purpose=purpose, epoch=account.epoch, expires=expires)
    await INVITATIONS.write(tx, digest(secret), made, until=expires)
    return secret


def address(authority: Authority, secret: str) -> str:
    """The link, as one sends it."""
    return authority.site.at(f"{WELCOME}?link={secret}")


async def invited(authority: Authority, secret: str) -> Account | None:
    """Whose link this is, while it is worth something. Looking at it does not use it up."""

    async def work(tx: Transaction) -> Account | None:
        return await _account(authority, tx, await INVITATIONS.read(tx, digest(secret)))

    return await authority.keeper.transaction(work)


async def accept(authority: Authority, secret: str, password: str) -> Account | None:
    """Use the link up for a password: all sessions and grants of before end. None for a link that
    is worth nothing any more. WeakPassword."""
    account = await invited(authority, secret)
    if account is None:
        return None
    passwords.accept(password, account.name)
    kept = await passwords.hashed(password)

    async def work(tx: Transaction) -> Account | None:
        invitation = await INVITATIONS.take(tx, digest(secret))
        found = await _account(authority, tx, invitation)
        if found is None or invitation is None:
            return None
        chosen = replace(found, password=kept, proof=found.proof + 1)
        if invitation.purpose == "factors":
            chosen = replace(chosen, totp=None, totp_step=0, recovery=())
        return await accounts.renew(authority, tx, chosen)

    account = await authority.keeper.transaction(work, write=True)
    if account is not None:
        authority.changed(None)
        await authority.audit(
            Happening("account", account=account.name, who=account.who, detail="password by link")
        )
    return account


async def _account(
    authority: Authority, tx: Transaction, invitation: Invitation | None
) -> Account | None:
    if invitation is None or authority.clock() >= invitation.expires:
        return None
    account = await ACCOUNTS.read(tx, invitation.account)
    if account is None or account.disabled or account.epoch != invitation.epoch:
        return None
    return account
