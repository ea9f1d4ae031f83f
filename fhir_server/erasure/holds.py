"""Legal holds: while one lasts, a patient is not erased, nor is anything of theirs by its age.

https://gdpr-info.eu/art-17-gdpr/ (3, e: legal claims)
"""

from __future__ import annotations

import msgspec

from fhir_server.storage.store import Transaction

SPACE = "hold"
_AFTER = "\x7f"


class Hold(msgspec.Struct, frozen=True):
    """`at`: microseconds since 1970."""

    reason: str
    at: int


async def held(tx: Transaction, id: str) -> Hold | None:
    """The hold on a patient."""
    found = await tx.kept(SPACE, id)
    return None if found is None else msgspec.json.decode(found.value, type=Hold)


async def hold(tx: Transaction, id: str, reason: str) -> None:
    value = msgspec.json.encode(Hold(reason, tx.now))
    await tx.keep(SPACE, id, value, owner=f"Patient/{id}")


async def release(tx: Transaction, id: str) -> bool:
    """Whether there was one."""
    return await tx.take(SPACE, id) is not None


async def drop(tx: Transaction, id: str) -> None:
    """Forget a hold that perhaps cannot be opened any more."""
    await tx.clear(SPACE, id, id + "\0")


async def all_held(tx: Transaction) -> dict[str, Hold]:
    """Every hold by its patient's id."""
    found = await tx.range(SPACE, "", _AFTER, 100_000)
    return {each.key: msgspec.json.decode(each.value, type=Hold) for each in found}
