"""How often one may guess at a secret of a person.

A browser that has signed in to an account before is known by a cookie, and has a count of its own
(https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies). All others
share counts for the account and their address, so who guesses from elsewhere locks out strangers
only, never the owner's own browsers. Accounts that are not there are counted alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from smart_auth import counts
from smart_auth.authority import Authority, Happening
from smart_auth.model import ACCOUNTS, COUNTS, DAY, MINUTE, SECOND, Count, Text
from smart_auth.records import Space, Transaction, digest, new_secret

DEVICES = Space("smart.device", Text)  # by digest of the cookie, a slash, and the account
KNOWN_FOR = 180 * DAY
_WINDOW = 15 * MINUTE
_OF_DEVICE = 10  # of a known browser at an account
_OF_ACCOUNT_HERE = 5  # of one address at an account
_OF_ACCOUNT = 20  # of all unknown browsers at an account
_OF_ADDRESS = 50  # of one address at all accounts
_REQUESTS = 10_000  # of authorization, from one address: a hospital may stand behind one


class Visitor(NamedTuple):
    """From where an attempt comes. `device`: value of its cookie, if it has one."""

    address: str
    device: str | None = None


class Wait(Exception):
    """Too many attempts. `seconds` until another one is heard."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many attempts: try again in {seconds} seconds")
        self.seconds = seconds


class _Limit(NamedTuple):
    key: str
    most: int


async def attempt(authority: Authority, factor: str, account: str, visitor: Visitor) -> None:
    """Count an attempt before it is judged, so that many at once are counted too. Wait."""
    now = authority.clock()

    async def work(tx: Transaction) -> tuple[int, Happening | None]:
        limits = await _limits(tx, factor, account, visitor)
        counted = [(limit, await _count(tx, limit, now)) for limit in limits]
        full = [(limit, count) for limit, count in counted if count.count >= limit.most]
        if not full:
            for limit, count in counted:
                await _keep(tx, limit, count, 1)
            return 0, None
        wait = max(count.began for _, count in full) + _WINDOW - now
        first = [(limit, count) for limit, count in full if count.count == limit.most]
        for limit, count in first:  # one more, so that it is told once
            await _keep(tx, limit, count, 1)
        return wait, await _lockout(tx, factor, account, visitor) if first else None

    wait, lockout = await authority.keeper.transaction(work, write=True)
    if lockout is not None:
        await authority.audit(lockout)
    if wait:
        raise Wait(-(-wait // SECOND))


async def request(authority: Authority, address: str) -> None:
    """Count a request that anybody can make and that is then kept a while. Wait."""
    now, what = authority.clock(), f"request/{_network(address)}"

    async def work(tx: Transaction) -> int:
        if await counts.counted(tx, what, _WINDOW, now) >= _REQUESTS:
            return await counts.remaining(tx, what, _WINDOW, now)
        await counts.add(tx, what, _WINDOW, now)
        return 0

    wait = await authority.keeper.transaction(work, write=True)
    if wait:
        raise Wait(-(-wait // SECOND))


async def forgive(authority: Authority, factor: str, account: str, visitor: Visitor) -> None:
    """The attempt was a good one: it does not count."""
    now = authority.clock()

    async def work(tx: Transaction) -> None:
        for limit in await _limits(tx, factor, account, visitor):
            count = await _count(tx, limit, now)
            if count.count:
                await _keep(tx, limit, count, -1)

    await authority.keeper.transaction(work, write=True)


async def know(authority: Authority, account: str, visitor: Visitor) -> str:
    """Remember a browser in which somebody signed in; its cookie."""
    device, now = visitor.device or new_secret(), authority.clock()
    if len(device) > len(new_secret()):
        device = new_secret()

    async def work(tx: Transaction) -> None:
        await DEVICES.write(tx, _device(device, account), Text(), until=now + KNOWN_FOR)

    await authority.keeper.transaction(work, write=True)
    return device


async def _lockout(tx: Transaction, factor: str, account: str, visitor: Visitor) -> Happening:
    """The first attempt that is not heard. What is no account's name may be a password that was
    typed into the wrong field, so it is not told."""
    found = await ACCOUNTS.read(tx, account)
    return Happening(
        "lockout",
        success=False,
        account=found.name if found else None,
        who=found.who if found else None,
        address=visitor.address,
        detail=factor,
    )


async def _limits(tx: Transaction, factor: str, account: str, visitor: Visitor) -> Sequence[_Limit]:
    """Which counts an attempt belongs to. The name is what somebody typed, so only its digest is
    kept."""
    name, network = digest(account), _network(visitor.address)
    if visitor.device and await DEVICES.read(tx, _device(visitor.device, account)):
        return (_Limit(f"{factor}/device/{_device(visitor.device, name)}", _OF_DEVICE),)
    return (
        _Limit(f"{factor}/here/{name}/{network}", _OF_ACCOUNT_HERE),
        _Limit(f"{factor}/account/{name}", _OF_ACCOUNT),
        _Limit(f"{factor}/address/{network}", _OF_ADDRESS),
    )


def _device(device: str, account: str) -> str:
    return f"{digest(device)}/{account}"


async def _count(tx: Transaction, limit: _Limit, now: int) -> Count:
    count = await COUNTS.read(tx, limit.key)
    if count is None or not count.began <= now < count.began + _WINDOW:
        return Count(count=0, began=now)
    return count


async def _keep(tx: Transaction, limit: _Limit, count: Count, more: int) -> None:
    kept = Count(count=count.count + more, began=count.began)
    await COUNTS.write(tx, limit.key, kept, until=count.began + _WINDOW)


def _network(address: str) -> str:
    """What one person has of addresses: one of version 4, or the first half of a version 6 one."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(IPv6Address(int(found) >> 64 << 64))
