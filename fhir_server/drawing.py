"""What one request draws in of stored definitions: page by page, so many bytes at most, and read
where nobody waits for it.

https://hl7.org/fhir/R4/resource.html#canonical
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from conformance.outcome import FhirError
from fhir_server.apart import hurried
from fhir_server.core import Step
from fhir_server.storage.store import Page, Query, Version
from fhir_server.vocabulary import Key

T = TypeVar("T")

HEAVY = 256 * 1024  # bytes that are read in a thread of their own
_MIB = 1024 * 1024
_HEAVIEST = 32 * _MIB  # bytes that one request draws in; in memory it is some twenty times
_PAGE = 4  # resources that are asked for at once: one may have as many bytes as a body may


class Room:
    """What one request may still draw in, in bytes of what is stored; each version counts once."""

    __slots__ = ("_heaviest", "_left", "_seen")

    def __init__(self, heaviest: int | None = None) -> None:
        self._heaviest = self._left = _HEAVIEST if heaviest is None else heaviest
        self._seen: set[Key] = set()

    def take(self, versions: Iterable[Version]) -> None:
        """FhirError 422 when there is no more room for these."""
        for each in versions:
            key = (each.type, each.id, each.number)
            if key not in self._seen:
                self._seen.add(key)
                self._left -= len(each.body)
        if self._left < 0:
            text = (
                f"The request draws in more than {self._heaviest // _MIB} MiB of stored resources;"
                " keep fewer versions of one url, smaller ones, or install them as a package"
            )
            raise FhirError("too-costly", text, status=422)


async def stored(step: Step, type: str, query: Query, most: int, room: Room) -> list[Version]:
    """The resources that a query finds, one more than `most` or a few more when there are too many.
    FhirError 422."""
    found: list[Version] = []
    after = None
    while True:
        page = await step.tx.find(type, query, (), Page(min(_PAGE, most + 1), after))
        room.take(page.versions)
        found += page.versions
        after = page.after
        if after is None or len(found) > most:
            return found


def size(versions: Iterable[Version]) -> int:
    """Bytes of what they say."""
    return sum(len(each.body) for each in versions)


async def worked(step: Step, work: Callable[[], T], hurry: bool = False) -> T:
    """What may take long, done where nobody waits for it; `hurry`: others wait for this request.
    FhirError 413, 429, 503."""
    if hurry or step.written is not None:  # in a transaction that other writes wait for
        return await hurried(work)
    return await step.core.apart.run(step.grant, work)


async def read(step: Step, weight: int, work: Callable[[], T], hurry: bool = False) -> T:
    """What is made of so many bytes: at once of few, as by `worked` of many. FhirError."""
    return await worked(step, work, hurry) if weight >= HEAVY else work()
