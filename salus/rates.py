"""How much may be asked in a time: token buckets for each app, each user and each address.

A bucket is one number, the time at which it is full again, so asking costs a look into a dictionary
(the generic cell rate algorithm, https://www.itu.int/rec/T-REC-I.371). What is asked costs units of
a plain read (fhir_server/metering.py). The headers are those of
https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/, version 11.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from math import ceil
from typing import NamedTuple

from fhir_server.audit.strangers import network
from fhir_server.metering import BASE, FREE, Bill, Headers, Throttled
from smart_auth.grant import Grant

Clock = Callable[[], float]

MOST = 50_000  # buckets of a policy that are not full
OTHERS = "others"  # all keys beyond those share this one
TOLD_AGAIN = 60.0  # seconds after which one more refusal of the same key is told to the audit
DEBT = 2  # what was taken unpaid is at most as much as comes in these times of the policy's seconds
_SWEEP = 1.0  # seconds between two looks for buckets that are full


class Policy(NamedTuple):
    """What comes in `seconds`, which is also the most that a bucket holds. `text`: what is said to
    who has used it up."""

    name: str
    quota: int
    seconds: int
    text: str

    @property
    def item(self) -> str:
        """As the header has it."""
        return f'"{self.name}";q={self.quota};w={self.seconds}'


class Buckets:
    """The buckets of one policy, by key."""

    def __init__(self, policy: Policy, most: int = MOST) -> None:
        self.policy = policy
        self.said = f'"{policy.name}";r=%d;t=%d'.encode()
        self._quota, self._seconds = policy.quota, float(policy.seconds)
        self._each = policy.seconds / policy.quota  # seconds in which one unit comes
        self._full: dict[str, float] = {}  # when a bucket is full, while it is not
        self._told: dict[str, float] = {}
        self._most, self._swept = most, 0.0

    def __len__(self) -> int:
        return len(self._full)

    def take(self, key: str, cost: int, now: float) -> float:
        """Take units, if they are there: 0. Else how many seconds it is until they are. More than
        a whole bucket is as much as a whole one."""
        full = self._full.get(key)
        if full is None:
            key = self._room(key, now)
            full = self._full.get(key, now)
        if full < now:
            full = now
        if cost > self._quota:
            cost = self._quota
        after = full + cost * self._each
        over = after - now - self._seconds
        if over > 1e-6:
            return over
        self._full[key] = after
        return 0.0

    def give_back(self, key: str, cost: int) -> None:
        """What was taken for a request that is refused."""
        if key in self._full:
            self._full[key] -= min(cost, self._quota) * self._each

    def owe(self, key: str, cost: float, now: float) -> None:
        """Take units that may not be there yet."""
        full = max(self._full.get(key, now), now) + cost * self._each
        self._full[self._room(key, now)] = min(full, now + DEBT * self._seconds)

    def left(self, key: str, now: float) -> tuple[float, float]:
        """Units that are there, and seconds until the bucket is full."""
        lacks = self._full.get(key, now) - now
        if lacks <= 0:
            return self._quota, 0.0
        return (self._seconds - lacks) / self._each, lacks

    def first(self, key: str, now: float) -> bool:
        """Whether no refusal of this key was told within a minute."""
        if now - self._told.get(key, -TOLD_AGAIN) < TOLD_AGAIN:
            return False
        if len(self._told) >= self._most:
            self._told = {k: at for k, at in self._told.items() if now - at < TOLD_AGAIN}
            if len(self._told) >= self._most:
                return False
        self._told[key] = now
        return True

    def _room(self, key: str, now: float) -> str:
        """The key, while there is room for one more; those that are full again need none."""
        if len(self._full) < self._most or key in self._full:
            return key
        if now - self._swept >= _SWEEP:
            self._swept = now
            self._full = {k: full for k, full in self._full.items() if full > now}
        return key if len(self._full) < self._most else OTHERS


class Shares(NamedTuple):
    """The buckets that a request takes from, and the header that names their policies."""

    buckets: tuple[tuple[Buckets, str], ...]
    policies: bytes


class Account:
    """The account of one request: a `Bill`."""

    __slots__ = ("_now", "_paid", "_rates", "_shares")

    def __init__(self, rates: Rates, shares: Shares, cost: int) -> None:
        self._rates, self._shares, self._paid = rates, shares, 0
        self.charge(cost)

    def charge(self, cost: int) -> None:
        """Throttled, with nothing charged, when one of the buckets does not hold it."""
        rates = self._rates
        self._now = now = rates.clock()
        for each, key in self._shares.buckets:
            wait = each.take(key, cost, now)
            if wait:
                for before, other in self._shares.buckets:
                    if before is each:
                        break
                    before.give_back(other, cost)
                raise rates.refusal(each, key, wait, now, self._shares)
        self._paid += cost

    def settle(self, seconds: float) -> None:
        """A unit for each millisecond beyond what was paid."""
        more = seconds * 1000 - self._paid
        if more > 0:
            self.owe(more)

    def owe(self, cost: float) -> None:
        """What may not be there yet."""
        now = self._rates.clock()
        for each, key in self._shares.buckets:
            each.owe(key, cost, now)

    def headers(self) -> Headers:
        """The policies, and how much is left of the one of which least is."""
        said, least, full = b"", float("inf"), 0.0
        for each, key in self._shares.buckets:
            left, seconds = each.left(key, self._now)
            if left < least:
                said, least, full = each.said, left, seconds
        return (
            (b"ratelimit-policy", self._shares.policies),
            (b"ratelimit", said % (_whole(least), ceil(full))),
        )


class Quotas(NamedTuple):
    """What the operator allows in `seconds`, in units; 0: without limit. `exempt`: ids of apps."""

    client: int
    user: int
    address: int
    seconds: int
    exempt: frozenset[str] = frozenset()


class Rates:
    """The accounts of a server: a `Meter` for the FHIR API, and `visitor` and `app` for the rest.
    `told` hears the policy of each refusal."""

    def __init__(
        self, quotas: Quotas, told: Callable[[str], None], clock: Clock = time.monotonic
    ) -> None:
        self.clock, self._told, self._exempt = clock, told, quotas.exempt
        seconds = quotas.seconds
        self.clients = _buckets("client", quotas.client, seconds, "This app asks")
        self.users = _buckets("user", quotas.user, seconds, "This user asks")
        self.addresses = _buckets("address", quotas.address, seconds, "This address asks")
        half = (quotas.address + 1) // 2  # so that apps behind one address leave each other room
        self.apps = _buckets("app", half, seconds, "This app asks, from one address,")
        self._of_grant = lru_cache(4096)(self._shares_of)
        self._at = lru_cache(4096)(self._visits)

    def known(self, grant: Grant) -> Bill:
        """The account of a request under a grant. Throttled."""
        shares = self._of_grant(grant)
        return FREE if shares is None else Account(self, shares, BASE)

    def stranger(self, address: str) -> Bill:
        """The account of a request to the FHIR API by nobody known. Throttled."""
        return self.visitor("fhir", address, BASE)

    def visitor(self, area: str, address: str, cost: int) -> Bill:
        """The account of an address in an area of the server, so that a flood in one leaves the
        others open. Throttled."""
        shares = self._at(area, address)
        return FREE if shares is None else Account(self, shares, cost)

    def app(self, client: str, address: str, cost: int) -> None:
        """Count what somebody asks who calls itself a client. Throttled."""
        if self.apps is not None and client not in self._exempt:
            key = f"{client[:64]} {network(address)}"
            Account(self, _shares(((self.apps, key),)), cost)

    def refusal(
        self, buckets: Buckets, key: str, wait: float, now: float, shares: Shares
    ) -> Throttled:
        """What is told to who has used up a bucket."""
        policy, seconds = buckets.policy, ceil(wait)
        self._told(policy.name)
        left, _ = buckets.left(key, now)
        headers = (
            (b"ratelimit-policy", shares.policies),
            (b"ratelimit", buckets.said % (_whole(left), seconds)),
            (b"retry-after", str(seconds).encode()),
        )
        text = f"{policy.text} for more than this server gives in a time: wait {seconds} s"
        return Throttled(text, seconds, headers, buckets.first(key, now))

    def _shares_of(self, grant: Grant) -> Shares | None:
        if grant.unrestricted or grant.client in self._exempt:
            return None
        asked = ((self.clients, grant.client), (self.users, grant.agent))
        found = [(each, key) for each, key in asked if each is not None and key]
        return _shares(found) if found else None

    def _visits(self, area: str, address: str) -> Shares | None:
        if self.addresses is None:
            return None
        return _shares([(self.addresses, f"{area} {network(address)}")])


def _whole(left: float) -> int:
    """Units as they are told: debts are none, and rounding takes none away."""
    return int(left + 1e-3) if left > 0 else 0


def _shares(buckets: Iterable[tuple[Buckets, str]]) -> Shares:
    found = tuple(buckets)
    return Shares(found, ", ".join(each.policy.item for each, _ in found).encode())


def _buckets(name: str, quota: int, seconds: int, text: str) -> Buckets | None:
    return Buckets(Policy(name, quota, seconds, text)) if quota else None
