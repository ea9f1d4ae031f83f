"""Signing in, factor by factor: nobody learns from it which accounts there are.

https://pages.nist.gov/800-63-4/sp800-63b.html
"""

from __future__ import annotations

from typing import NamedTuple

from smart_auth import accounts, sessions, throttle
from smart_auth.authority import Authority, Happening
from smart_auth.factors import FACTORS, Factor, due
from smart_auth.model import Account
from smart_auth.sessions import Outdated, Signed
from smart_auth.throttle import Visitor


class Wrong(Exception):
    """The answer is not right, or there is no such account: that is not told apart."""


class Stage(NamedTuple):
    """How far somebody is. `cookie`: the session's new one; `due`: name of the factor to show next;
    `device`: the cookie to know the browser by, once everything was shown."""

    cookie: str
    due: str | None = None
    device: str | None = None


async def begin(
    authority: Authority, name: str, answer: str, visitor: Visitor, before: str | None = None
) -> Stage:
    """The first factor of whoever calls themselves `name`. Wrong; Wait."""
    factor, name = FACTORS[0], accounts.folded(name)
    await throttle.attempt(authority, factor.name, name, visitor)
    account = await accounts.read(authority, name)
    if not await factor.proven(authority, account, answer) or account is None:
        raise await _refused(authority, account, factor, visitor)
    if account.disabled:
        raise await _refused(authority, account, factor, visitor)
    await throttle.forgive(authority, factor.name, name, visitor)
    return await _shown(authority, account, (factor.name,), visitor, before)


async def go_on(
    authority: Authority, signed: Signed, answer: str, visitor: Visitor, cookie: str
) -> Stage:
    """The next factor of a session that is not complete. Wrong; Wait."""
    account, shown = signed.account, signed.session.factors
    factor = due(account, shown)
    if factor is None:
        return await _shown(authority, account, shown, visitor, cookie)
    await throttle.attempt(authority, factor.name, account.name, visitor)
    if not await factor.proven(authority, account, answer):
        raise await _refused(authority, account, factor, visitor)
    await throttle.forgive(authority, factor.name, account.name, visitor)
    return await _shown(authority, account, (*shown, factor.name), visitor, cookie)


async def complete(
    authority: Authority,
    account: Account,
    factors: tuple[str, ...],
    visitor: Visitor,
    before: str | None,
) -> Stage:
    """Everything was shown: a session under a new cookie, in a browser that is known from now."""
    cookie = await sessions.begin(authority, account, factors, True, before)
    device = await throttle.know(authority, account.name, visitor)
    told = Happening(
        "sign-in",
        account=account.name,
        who=account.who,
        address=visitor.address,
        detail=" ".join(factors),
    )
    await authority.audit(told)
    return Stage(cookie, device=device)


async def _shown(
    authority: Authority,
    account: Account,
    shown: tuple[str, ...],
    visitor: Visitor,
    before: str | None,
) -> Stage:
    following = due(account, shown)
    try:
        if following is None:
            return await complete(authority, account, shown, visitor, before)
        cookie = await sessions.begin(authority, account, shown, False, before)
    except Outdated:
        raise Wrong from None
    return Stage(cookie, following.name)


async def _refused(
    authority: Authority, account: Account | None, factor: Factor, visitor: Visitor
) -> Wrong:
    """What was typed as a name is told only when it is one: it may be a password."""
    told = Happening(
        "sign-in-refused",
        success=False,
        account=account.name if account else None,
        who=account.who if account else None,
        address=visitor.address,
        detail=factor.name,
    )
    await authority.audit(told)
    return Wrong()
