"""How entries are written of search parameters that R4 does not have: what fails on one resource
leaves a mark in place of that parameter's entries, and refuses nothing.

https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fhir_server.search.composites import Late
from fhir_server.search.limit import ENTRIES
from fhir_server.search.parameters import Parameter
from fhir_server.search.place import known_token
from fhir_server.storage.store import Entry, Match

MOST = 1_000  # entries of one parameter on one resource
LONGEST = 4_096  # characters of one value
FAILED = ":failed"  # what follows a param's code where its expression failed or gave too much


@dataclass(slots=True)
class Progress:
    """How many resources of a type have been looked at, of about how many."""

    done: int = 0
    total: int = 0

    @property
    def percent(self) -> int:
        """Below 100 until all is done."""
        return min(99, 100 * self.done // self.total) if self.total else 0


class Guests(NamedTuple):
    """What a type can be searched by besides R4's parameters. `parameters` answer searches;
    `written` have entries; `building` are those of which entries are lacking yet; `aliases` say by
    code the url of a definition that restates another."""

    parameters: Mapping[str, Parameter]
    written: tuple[Parameter, ...]
    building: Mapping[str, Progress]
    aliases: Mapping[str, str]


NO_GUESTS = Guests({}, (), {}, {})


def failed(code: str) -> Match:
    """The resources on which a parameter's expression failed or gave too much."""
    return Match(code + FAILED, "token")


def guarded(code: str, writers: Iterable[tuple[str, Late]]) -> Late:
    """What writes the entries of one parameter, or the mark that there are none."""
    keyed = tuple(writers)
    mark = known_token(code + FAILED, None, "true")

    def write(resource: dict[str, Any], found: list[Entry]) -> None:
        before = len(found)
        try:
            for key, each in keyed:
                if key in resource:
                    each(resource, found)
            whole = _moderate(found[before:]) and len(found) < ENTRIES
        except Exception:  # whatever an expression of somebody else's meets in a resource
            whole = False
        if not whole:
            found[before:] = [mark] if before < ENTRIES else []

    return write


def _moderate(made: Sequence[Entry]) -> bool:
    return len(made) <= MOST and all(
        len(each.code or "") <= LONGEST and len(each.text or "") <= LONGEST for each in made
    )
