"""Keys that sign id_tokens: made here, kept wrapped, replaced in time with an overlap in which both
the old and the new one are published.

https://openid.net/specs/openid-connect-core-1_0.html#RotateSigningKeys, https://www.rfc-editor.org/rfc/rfc7517
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple

from joserfc import jwt
from joserfc.jwk import RSAKey
from msgspec.structs import replace

from smart_auth.authority import Authority
from smart_auth.model import DAY, HOUR, KEYS, Sealed
from smart_auth.records import Transaction

ALGORITHM = "RS256"
_BITS = 2048
_SIGNS = 90 * DAY
_AHEAD = DAY  # a key is published this long before it signs
_AFTER = DAY  # and this long after, for whoever keeps an id_token or a key set
_LOOKED = HOUR  # how long this process goes by what it last read


class _Ring(NamedTuple):
    """Signing keys, the oldest first, as they were read."""

    keys: tuple[tuple[Sealed, RSAKey], ...]
    read: int

    def signing(self, now: int) -> tuple[Sealed, RSAKey] | None:
        return next((each for each in self.keys if now < each[0].retires), None)

    def has_next(self, now: int) -> bool:
        return any(now + _AHEAD < sealed.retires for sealed, _ in self.keys)


class Signing:
    """The server's own signing keys."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._ring: _Ring | None = None
        self._lock = asyncio.Lock()

    async def ready(self) -> None:
        """Have a key to sign with."""
        await self._current()

    async def sign(self, claims: dict[str, Any]) -> str:
        """Claims as a signed JWT."""
        ring = await self._current()
        found = ring.signing(self._authority.clock())
        if found is None:
            raise RuntimeError("No signing key, though one was just made")
        sealed, key = found
        return jwt.encode({"alg": ALGORITHM, "kid": sealed.kid}, claims, key, [ALGORITHM])

    async def public(self) -> dict[str, Any]:
        """The JWK Set: every key that signs, will soon, or lately did; public members only."""
        ring = await self._current()
        members = ("kty", "n", "e")
        published = []
        for sealed, key in ring.keys:
            numbers = key.as_dict(private=False)
            shown = {name: numbers[name] for name in members}
            published.append({**shown, "kid": sealed.kid, "use": "sig", "alg": sealed.alg})
        return {"keys": published}

    async def rotate(self) -> str:
        """Sign with a new key from now on, as after a key became known to others; its kid. The
        present keys remain published, so that what they signed can be verified."""
        now = self._authority.clock()
        made = await self._made(now)

        async def work(tx: Transaction) -> None:
            for kid, sealed in await KEYS.all(tx):
                if now < sealed.retires:
                    await KEYS.write(tx, kid, replace(sealed, retires=now), until=now + _AFTER)
            await KEYS.write(tx, made.kid, made, until=made.retires + _AFTER)

        await self._authority.keeper.transaction(work, write=True)
        self._ring = None
        return made.kid

    async def _current(self) -> _Ring:
        now = self._authority.clock()
        async with self._lock:
            ring = self._ring
            if ring is None or now - ring.read >= _LOOKED or not ring.has_next(now):
                ring = await self._read(now)
            if not ring.has_next(now):
                ring = await self._with_another(now)
            self._ring = ring
            return ring

    async def _read(self, now: int) -> _Ring:
        found = await self._authority.keeper.transaction(KEYS.all)
        return self._opened([sealed for _, sealed in found], now)

    async def _with_another(self, now: int) -> _Ring:
        """The keys with a new one, unless another process has just made it."""
        made = await self._made(now)

        async def work(tx: Transaction) -> list[Sealed]:
            there = [sealed for _, sealed in await KEYS.all(tx)]
            if any(now + _AHEAD < each.retires for each in there):
                return there
            await KEYS.write(tx, made.kid, made, until=made.retires + _AFTER)
            return [*there, made]

        return self._opened(await self._authority.keeper.transaction(work, write=True), now)

    async def _made(self, now: int) -> Sealed:
        key = await asyncio.to_thread(RSAKey.generate_key, _BITS)
        kid = key.thumbprint()
        secret = json.dumps(key.as_dict(private=True)).encode()
        wrapped = self._authority.sealer.wrap(secret, _context(kid))
        return Sealed(kid=kid, alg=ALGORITHM, wrapped=wrapped, created=now, retires=now + _SIGNS)

    def _opened(self, found: list[Sealed], now: int) -> _Ring:
        lasting = [each for each in found if now < each.retires + _AFTER]
        lasting.sort(key=lambda each: (each.created, each.kid))
        return _Ring(tuple((each, self._unwrapped(each)) for each in lasting), now)

    def _unwrapped(self, sealed: Sealed) -> RSAKey:
        secret = self._authority.sealer.unwrap(sealed.wrapped, _context(sealed.kid))
        return RSAKey.import_key(json.loads(secret))


def _context(kid: str) -> bytes:
    return f"smart signing {kid}".encode()
