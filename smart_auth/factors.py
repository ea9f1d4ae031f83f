"""Ways of showing who one is. Each is a Factor; more of them join by being named in FACTORS.

Names are those of https://www.rfc-editor.org/rfc/rfc8176
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from msgspec.structs import replace

from smart_auth import passwords, totp
from smart_auth.authority import Authority
from smart_auth.model import ACCOUNTS, Account
from smart_auth.records import Transaction


class Factor(Protocol):
    """`proven` is asked of accounts that are not there too (None) and takes as long for them."""

    name: str

    def enrolled(self, account: Account) -> bool:
        """Whether the account demands it."""
        ...

    async def proven(self, authority: Authority, account: Account | None, answer: str) -> bool:
        """Whether the answer is right; what may be used once is used up by that."""
        ...


class Password:
    """Something one knows."""

    name = "pwd"

    def enrolled(self, account: Account) -> bool:
        return account.password is not None

    async def proven(self, authority: Authority, account: Account | None, answer: str) -> bool:
        kept = account.password if account else None
        right = await passwords.verified(kept, answer)
        if right and account and kept and passwords.stale(kept):
            await self._keep_anew(authority, account, answer)
        return right

    async def _keep_anew(self, authority: Authority, account: Account, password: str) -> None:
        anew = await passwords.hashed(password)

        async def work(tx: Transaction) -> None:
            found = await ACCOUNTS.read(tx, account.name)
            if found and found.password == account.password:
                await ACCOUNTS.write(tx, found.name, replace(found, password=anew))

        await authority.keeper.transaction(work, write=True)


class OneTimeCode:
    """Something one has: the telephone with the codes, or a recovery code on paper."""

    name = "otp"

    def enrolled(self, account: Account) -> bool:
        return account.totp is not None

    async def proven(self, authority: Authority, account: Account | None, answer: str) -> bool:
        if account is None:
            return False
        name = account.name

        async def work(tx: Transaction) -> bool:
            found = await ACCOUNTS.read(tx, name)
            used = self._used(authority, found, answer) if found else None
            if used is not None:
                await ACCOUNTS.write(tx, name, used)
            return used is not None

        return await authority.keeper.transaction(work, write=True)

    def _used(self, authority: Authority, account: Account, answer: str) -> Account | None:
        """The account as it is after this answer; None for a wrong one."""
        if account.totp is None:
            return None
        seed = totp.unsealed(account.totp, account.name, authority.sealer)
        step = totp.step(seed, answer, authority.clock(), account.totp_step)
        if step is not None:
            return replace(account, totp_step=step)
        rest = totp.left(account, answer)
        return None if rest is None else replace(account, recovery=rest)


FACTORS: tuple[Factor, ...] = (Password(), OneTimeCode())


def due(account: Account, shown: Collection[str]) -> Factor | None:
    """The next factor that the account demands; None when all were shown."""
    for factor in FACTORS:
        if factor.name not in shown and factor.enrolled(account):
            return factor
    return None


def named(name: str) -> Factor:
    """KeyError for a factor that there is not."""
    return {factor.name: factor for factor in FACTORS}[name]
