"""How many failures an address may have at the protocol's endpoints before it has to wait. Counted
for each client and address, so that nobody can lock a client out for others.

https://www.rfc-editor.org/rfc/rfc6749#section-10.10
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from smart_auth import counts
from smart_auth.authority import Authority
from smart_auth.errors import OAuthError
from smart_auth.model import HOUR, MINUTE, SECOND
from smart_auth.records import Transaction, digest


class Limit(NamedTuple):
    most: int
    window: int  # microseconds


FAILURES_OF_CLIENT = Limit(60, 5 * MINUTE)  # of one client at one address
FAILURES_OF_ADDRESS = Limit(300, 5 * MINUTE)
REGISTRATIONS = Limit(20, HOUR)  # from one address, without a token of the operator's


async def check(authority: Authority, counted: Mapping[str, Limit]) -> None:
    """OAuthError slow_down when one of what is counted is beyond its limit."""
    now = authority.clock()

    async def work(tx: Transaction) -> int:
        waits = [
            await counts.remaining(tx, what, limit.window, now)
            for what, limit in counted.items()
            if await counts.counted(tx, what, limit.window, now) >= limit.most
        ]
        return max(waits, default=0)

    wait = await authority.keeper.transaction(work)
    if wait:
        seconds = -(-wait // SECOND)
        raise OAuthError(
            "slow_down",
            "Too many attempts from this address: wait before the next",
            headers=(("Retry-After", str(seconds)),),
        )


async def add(authority: Authority, counted: Mapping[str, Limit]) -> None:
    """Count one more of each."""
    now = authority.clock()

    async def work(tx: Transaction) -> None:
        for what, limit in counted.items():
            await counts.add(tx, what, limit.window, now)

    await authority.keeper.transaction(work, write=True)


def failures(client: str, address: str) -> dict[str, Limit]:
    """What a failure of a client (as it calls itself) at an address is counted as."""
    named = digest(f"{client} {address}")[:32]
    return {
        f"protocol/{named}": FAILURES_OF_CLIENT,
        f"protocol/{digest(address)[:32]}": FAILURES_OF_ADDRESS,
    }


def registrations(address: str) -> dict[str, Limit]:
    return {f"register/{digest(address)[:32]}": REGISTRATIONS}
