"""How far the entries of a type agree with the search parameters that it is to have, as one kept
record a type.

https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from fhir_server.search.added import Added
from fhir_server.storage.store import EVERYTHING, Transaction

_SPACE = "search-parameter"
_LAST = "\x7f"


class Indexed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the entries of one type are. `active`: the parameters that R4 does not have and of which
    every resource has its entries, `building` those of which some lack them, by code the meaning
    that their entries have; `again`: all entries are made anew, though nothing is known to lack.
    While there is something to do, resources up to the sequence `until` are looked at, which was
    the newest when it began (what is written after that has its entries); `place` is the one that
    was reached, `done` of about `total` resources. `gone`: codes whose entries go."""

    active: dict[str, str] = {}
    building: dict[str, str] = {}
    gone: tuple[str, ...] = ()
    again: bool = False
    place: int = 0
    until: int = 0
    done: int = 0
    total: int = 0

    @property
    def pending(self) -> bool:
        """Whether there is something to do."""
        return bool(self.building or self.gone or self.again)

    def reached(self, place: int, count: int) -> Indexed:
        """`count` more resources were looked at, up to a sequence."""
        done = self.done + count
        return replace(self, place=place, done=done, total=max(done, self.total))

    def begun(self, until: int, total: int) -> Indexed:
        """From the first resource on."""
        return replace(self, place=0, until=until, done=0, total=total)

    def finished(self) -> Indexed:
        """Every resource was looked at."""
        return Indexed({**self.active, **self.building})

    def anew(self) -> Indexed:
        """All of it once more, while what answers goes on answering."""
        return replace(self, again=True)


NOTHING = Indexed()
_DECODER = msgspec.json.Decoder(Indexed)


async def read(tx: Transaction) -> dict[str, Indexed]:
    """What is kept, by type."""
    kept = await tx.range(_SPACE, "", _LAST)
    return {each.key: _DECODER.decode(each.value) for each in kept}


async def read_one(tx: Transaction, type: str) -> Indexed:
    kept = await tx.kept(_SPACE, type)
    return NOTHING if kept is None else _DECODER.decode(kept.value)


async def write(tx: Transaction, type: str, state: Indexed) -> None:
    if state == NOTHING:
        await tx.take(_SPACE, type)
    else:
        await tx.keep(_SPACE, type, msgspec.json.encode(state))


async def begin(tx: Transaction, type: str, state: Indexed) -> Indexed:
    """A state with something to do, before anything of it is done."""
    total = await tx.count(type, EVERYTHING)
    newest = await tx.survey(None, None, 1)
    return state.begun(newest[0].sequence if newest else 0, total) if total else state.finished()


def reconciled(state: Indexed, wanted: Mapping[str, Added]) -> Indexed:
    """The state when these parameters are to have entries: what is new is built, and what has its
    meaning already is left as it is. Where something has to be done anew, `until` is 0."""
    meanings = {code: each.meaning for code, each in wanted.items()}
    active = {code: said for code, said in state.active.items() if meanings.get(code) == said}
    building = {code: said for code, said in meanings.items() if code not in active}
    had = {*state.active, *state.building, *state.gone}
    gone = tuple(sorted(had - meanings.keys()))
    if (active, building, gone) == (state.active, state.building, state.gone):
        return state
    fresh = building.items() - state.building.items()
    if not fresh and gone == state.gone:
        return replace(state, active=active, building=building)
    return Indexed(active, building, gone, state.again)


def pending(states: Mapping[str, Indexed]) -> Iterable[str]:
    """The types with something to do; first those for which searches wait."""
    found = [type for type, each in states.items() if each.pending]
    return sorted(found, key=lambda type: (not states[type].building, type))
