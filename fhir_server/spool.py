"""The pieces of a large Binary among the kept records, and the mark that names them.

https://hl7.org/fhir/R4/binary.html
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from conformance.json import encode, parse
from conformance.outcome import FhirError
from fhir_server.formats import is_subsetted, subsetted
from fhir_server.interaction import Resource
from fhir_server.storage.store import Transaction

PIECE = 3 * 349_525  # just under 1 MiB, and a multiple of 3, so that base64 joins
_PIECES = "binary"
_PENDING = "upload"
_URL = "urn:salus:pieces"
_MARK = _URL.encode()
_NAMED = re.compile(r"([0-9a-f]{32})/([0-9]{1,9})/([0-9]{1,18})", re.ASCII)


class Spooled(NamedTuple):
    """`name` of an upload, the number of its pieces and its size in bytes."""

    name: str
    pieces: int
    size: int


_NOTHING = Spooled("", 0, 0)


def marker(spooled: Spooled) -> dict[str, Any]:
    """What stands beside data in place of it."""
    value = f"{spooled.name}/{spooled.pieces}/{spooled.size}"
    return {"extension": [{"url": _URL, "valueString": value}]}


def spooled_in(resource: Resource) -> Spooled | None:
    """The pieces that a Binary, valid or not, names instead of its data. A mark that is none of
    ours names pieces that never are."""
    for extension in _beside_data(resource):
        if _is_mark(extension):
            found = _NAMED.fullmatch(str(extension.get("valueString")))
            return Spooled(found[1], int(found[2]), int(found[3])) if found else _NOTHING
    return None


def unmarked(resource: Resource) -> Resource:
    """A copy without the mark."""
    beside = dict(resource["_data"])
    left = [each for each in _beside_data(resource) if not _is_mark(each)]
    if left:
        beside["extension"] = left
    else:
        del beside["extension"]
    made = {name: value for name, value in resource.items() if name != "_data"}
    return {**made, "_data": beside} if beside else made


def without_data(body: bytes) -> bytes:
    """A Binary as it leaves together with others: when it is kept in pieces, without its data and
    the mark, and tagged SUBSETTED."""
    if _MARK not in body:
        return body
    resource = parse(body)
    return body if spooled_in(resource) is None else encode(subsetted(unmarked(resource)))


def require_inline(resource: Resource) -> None:
    """FhirError 422 for a Binary in pieces, of which nothing is at hand that could be patched."""
    if spooled_in(resource) is not None:
        raise FhirError(
            "not-supported", "A Binary of this size is not patched: send all of it", status=422
        )


def _beside_data(resource: Resource) -> list[dict[str, Any]]:
    """The extensions of a Binary's data, as far as they can be read."""
    beside = resource.get("_data") if resource.get("resourceType") == "Binary" else None
    given = beside.get("extension") if isinstance(beside, dict) else None
    return [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []


def _is_mark(extension: dict[str, Any]) -> bool:
    return extension.get("url") == _URL


async def write_pending(tx: Transaction, name: str) -> None:
    """Say that pieces of this name will come."""
    await tx.keep(_PENDING, name, b"")


async def write_piece(
    tx: Transaction, name: str, number: int, piece: bytes, owner: str | None = None
) -> None:
    """`owner`: the patient whose data it is, if that is known."""
    await tx.keep(_PIECES, f"{name}/{number:08}", piece, owner=owner)


async def read_piece(tx: Transaction, spooled: Spooled, number: int) -> bytes:
    """One piece. FhirError when it is not there, which nothing but damage explains."""
    kept = await tx.kept(_PIECES, f"{spooled.name}/{number:08}")
    if kept is None:
        raise FhirError("exception", "A piece of this Binary is missing", status=500)
    return kept.value


async def claim(tx: Transaction, resource: Resource) -> None:
    """Make the pieces that a Binary names its own. FhirError 422 when they are not pending: only
    the server itself names pieces, and only once; and for a Binary that was shown without its
    data, which it would lose."""
    spooled = spooled_in(resource)
    if spooled is not None and await tx.take(_PENDING, spooled.name) is None:
        raise no_mark()
    if spooled is None and "data" not in resource and is_subsetted(resource):
        raise FhirError(
            "business-rule",
            "This Binary was shown without its data (SUBSETTED): read it by itself, then send all",
            "Binary.data",
            status=422,
        )


def no_mark() -> FhirError:
    """422: what the mark says is for the server to say."""
    text = f"Send the data itself, without the extension {_URL}"
    return FhirError("value", text, "Binary.data", status=422)


async def forget(tx: Transaction, name: str) -> None:
    """Remove the pieces of an upload that nobody has claimed."""
    if await tx.take(_PENDING, name) is not None:
        await tx.clear(_PIECES, f"{name}/", f"{name}0")


async def remove(tx: Transaction, name: str) -> None:
    """Remove the pieces of a Binary that is no more."""
    await tx.clear(_PIECES, f"{name}/", f"{name}0")


async def sweep(tx: Transaction) -> int:
    """Remove what is left of uploads that never were committed; how many uploads."""
    pending = await tx.range(_PENDING, "", "\x7f")
    for each in pending:
        await tx.clear(_PIECES, f"{each.key}/", f"{each.key}0")
        await tx.take(_PENDING, each.key)
    return len(pending)
