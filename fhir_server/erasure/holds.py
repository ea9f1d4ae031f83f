"""Legal holds: while one lasts, a patient is not erased, nor is any version that is theirs removed
or written anew, whoever it is done for.

https://gdpr-info.eu/art-17-gdpr/ (3, e: legal claims)
"""

from __future__ import annotations

import re

import msgspec

from fhir_server.storage.store import Transaction, Version

SPACE = "hold"
_AFTER = "\x7f"
_VERSIONS = 100_000  # of one resource
_PATIENTS = re.compile(rb"Patient/[A-Za-z0-9\-.]{1,64}")


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


async def owners(tx: Transaction) -> frozenset[str]:
    """Of whose data nothing may go: "Patient/id"."""
    return frozenset(f"Patient/{id}" for id in await all_held(tx))


async def forbidden(tx: Transaction, name: tuple[str, str], owners: frozenset[str]) -> bool:
    """Whether some version of a resource is data of these owners, whosever it is now; or is
    nobody's, as what is about several is, and names them."""
    if not owners:
        return False
    if not owners.isdisjoint(await tx.whose(*name)):
        return True
    every = await tx.survey(*name, _VERSIONS)
    shared = [each for each in every if isinstance(each, Version) and each.owner is None]
    said = {id for each in shared for id in _PATIENTS.findall(each.body)}
    return any(each.encode() in said for each in owners)


async def all_held(tx: Transaction) -> dict[str, Hold]:
    """Every hold by its patient's id."""
    found = await tx.range(SPACE, "", _AFTER, 100_000)
    return {each.key: msgspec.json.decode(each.value, type=Hold) for each in found}
