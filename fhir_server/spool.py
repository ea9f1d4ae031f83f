"""The pieces of a large Binary among the kept records, and the mark that names them.

https://hl7.org/fhir/R4/binary.html
"""

from __future__ import annotations

from typing import Any, NamedTuple

from conformance.outcome import FhirError
from fhir_server.interaction import Resource
from fhir_server.storage.store import Transaction

PIECE = 3 * 349_525  # just under 1 MiB, and a multiple of 3, so that base64 joins
_PIECES = "binary"
_PENDING = "upload"
_URL = "urn:salus:pieces"


class Spooled(NamedTuple):
    """`name` of an upload, the number of its pieces and its size in bytes."""

    name: str
    pieces: int
    size: int


def marker(spooled: Spooled) -> dict[str, Any]:
    """What stands beside data in place of it."""
    value = f"{spooled.name}/{spooled.pieces}/{spooled.size}"
    return {"extension": [{"url": _URL, "valueString": value}]}


def spooled_in(resource: Resource) -> Spooled | None:
    """The pieces that a Binary names instead of its data."""
    if resource["resourceType"] != "Binary" or "_data" not in resource:
        return None
    for extension in resource["_data"].get("extension", ()):
        if extension.get("url") == _URL:
            name, count, size = str(extension.get("valueString")).split("/")
            return Spooled(name, int(count), int(size))
    return None


async def write_pending(tx: Transaction, name: str) -> None:
    """Say that pieces of this name will come."""
    await tx.keep(_PENDING, name, b"")


async def write_piece(tx: Transaction, name: str, number: int, piece: bytes) -> None:
    await tx.keep(_PIECES, f"{name}/{number:08}", piece)


async def read_piece(tx: Transaction, spooled: Spooled, number: int) -> bytes:
    """One piece. FhirError when it is not there, which nothing but damage explains."""
    kept = await tx.kept(_PIECES, f"{spooled.name}/{number:08}")
    if kept is None:
        raise FhirError("exception", "A piece of this Binary is missing", status=500)
    return kept.value


async def claim(tx: Transaction, resource: Resource) -> None:
    """Make the pieces that a Binary names its own. FhirError when they are not pending: only the
    server itself names pieces, and only once."""
    try:
        spooled = spooled_in(resource)
    except ValueError:
        spooled = Spooled("", 0, 0)
    if spooled is not None and await tx.take(_PENDING, spooled.name) is None:
        raise FhirError(
            "value",
            f"Send the data itself, without the extension {_URL}",
            "Binary.data",
            status=422,
        )


async def forget(tx: Transaction, name: str) -> None:
    """Remove the pieces of an upload that nobody has claimed."""
    if await tx.take(_PENDING, name) is not None:
        await tx.clear(_PIECES, f"{name}/", f"{name}0")


async def sweep(tx: Transaction) -> int:
    """Remove what is left of uploads that never were committed; how many uploads."""
    pending = await tx.range(_PENDING, "", "\x7f")
    for each in pending:
        await tx.clear(_PIECES, f"{each.key}/", f"{each.key}0")
        await tx.take(_PENDING, each.key)
    return len(pending)
