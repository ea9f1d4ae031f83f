"""Browsers that are signed in: for how long, and how that ends.

A session is in stages. Who has shown some of an account's factors has a session that opens nothing
but the page for the next one; with the last factor it is signed in, under a new cookie value, so
that a value which was there before is worth nothing.

https://pages.nist.gov/800-63-4/sp800-63b.html#session
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from smart_auth import grants
from smart_auth.authority import Authority, Happening
from smart_auth.model import (
    ACCOUNTS,
    MINUTE,
    SESSIONS,
    SESSIONS_OF_ACCOUNT,
    Account,
    Session,
    Text,
)
from smart_auth.records import Transaction, digest, new_secret

_STAGE = 10 * MINUTE  # to show the next factor


class Outdated(Exception):
    """The account is not any more as it was when its factors were shown."""


class Signed(NamedTuple):
    """Who uses a browser. `complete`: every factor of the account was shown."""

    session: Session
    account: Account

    @property
    def complete(self) -> bool:
        return bool(self.session.signed_in)


async def current(authority: Authority, cookie: str | None) -> Signed | None:
    """The session of a cookie while it lasts, complete or not; it is used by this."""
    if not cookie:
        return None
    key, now = digest(cookie), authority.clock()

    async def read(tx: Transaction) -> Signed | None:
        return await _live(authority, tx, key, now)

    found = await authority.keeper.transaction(read)
    if found and found.complete and now - found.session.seen >= MINUTE:
        return await _touch(authority, key, now)
    return found


async def signed_in(authority: Authority, cookie: str | None) -> Signed | None:
    """The session of a cookie when every factor was shown."""
    found = await current(authority, cookie)
    return found if found and found.complete else None


async def begin(
    authority: Authority,
    account: Account,
    factors: tuple[str, ...],
    complete: bool,
    before: str | None = None,
) -> str:
    """A new cookie, of a new session; what the cookie `before` stood for ends. If that was the same
    account's, its session goes on instead, so that showing a factor again disconnects no app.
    Outdated when the account was changed since `account` was read."""
    cookie, now = new_secret(), authority.clock()
    key = digest(cookie)
    made = Session(
        id=new_secret(),
        account=account.name,
        epoch=account.epoch,
        signed_in=now if complete else 0,
        seen=now,
        factors=factors,
        csrf=new_secret(),
    )

    async def work(tx: Transaction) -> list[str]:
        if _proven_of(await ACCOUNTS.read(tx, account.name)) != _proven_of(account):
            raise Outdated
        kept, ended = made, list[str]()
        old = await _live(authority, tx, digest(before), now) if before else None
        if before and old and old.account.name == account.name:
            kept = replace(made, id=old.session.id)
            await _forget(tx, digest(before))
        elif before:
            ended = await _end(authority, tx, digest(before))
        await SESSIONS.write(tx, key, kept, until=_ends(authority, kept))
        longest = now + authority.policy.session_most
        await SESSIONS_OF_ACCOUNT.write(tx, f"{account.name}/{key}", Text(), until=longest)
        return ended

    _tell(authority, await authority.keeper.transaction(work, write=True))
    return cookie


async def end(authority: Authority, cookie: str, address: str = "") -> None:
    """Sign out: the session ends, and what was granted for as long as it lasted."""
    signed = await current(authority, cookie)

    async def work(tx: Transaction) -> list[str]:
        return await _end(authority, tx, digest(cookie))

    _tell(authority, await authority.keeper.transaction(work, write=True))
    if signed and signed.complete:
        who = signed.account
        await authority.audit(Happening("sign-out", account=who.name, who=who.who, address=address))


async def end_of_account(
    authority: Authority, tx: Transaction, account: str, but: str | None = None
) -> None:
    """End every session of an account, save the one of the cookie `but`. Whoever calls tells
    authority.changed(None) after the transaction."""
    spared = digest(but) if but else None
    for key, _ in await SESSIONS_OF_ACCOUNT.all(tx, f"{account}/"):
        cookie = key.rpartition("/")[2]
        if cookie != spared:
            await _end(authority, tx, cookie)
            await SESSIONS_OF_ACCOUNT.take(tx, key)


async def _live(authority: Authority, tx: Transaction, key: str, now: int) -> Signed | None:
    session = await SESSIONS.read(tx, key)
    if session is None or now >= _ends(authority, session):
        return None
    account = await ACCOUNTS.read(tx, session.account)
    if account is None or account.disabled or account.epoch != session.epoch:
        return None
    return Signed(session, account)


def _proven_of(account: Account | None) -> tuple[int, int] | None:
    """What must stay as it was from the showing of a factor to the session that it opens."""
    return None if account is None or account.disabled else (account.epoch, account.proof)


async def _touch(authority: Authority, key: str, now: int) -> Signed | None:
    async def work(tx: Transaction) -> Signed | None:
        found = await _live(authority, tx, key, now)
        if found is None:
            return None
        seen = replace(found.session, seen=now)
        await SESSIONS.write(tx, key, seen, until=_ends(authority, seen))
        return Signed(seen, found.account)

    return await authority.keeper.transaction(work, write=True)


async def _end(authority: Authority, tx: Transaction, key: str) -> list[str]:
    """End a session with the grants that go with it; their ids."""
    session = await _forget(tx, key)
    if session is None:
        return []
    return await grants.end_of_account(authority, tx, session.account, session=session.id)


async def _forget(tx: Transaction, key: str) -> Session | None:
    session = await SESSIONS.take(tx, key)
    if session is not None:
        await SESSIONS_OF_ACCOUNT.take(tx, f"{session.account}/{key}")
    return session


def _tell(authority: Authority, ended: list[str]) -> None:
    for grant in ended:
        authority.changed(grant)


def _ends(authority: Authority, session: Session) -> int:
    """When a session is over if nobody uses it any more, in microseconds."""
    if not session.signed_in:
        return session.seen + _STAGE
    policy = authority.policy
    return min(session.seen + policy.session_idle, session.signed_in + policy.session_most)
