"""What a verification of the log found: what is wrong, by record, and what still stands as signed.

https://www.rfc-editor.org/rfc/rfc9162#section-2.1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

from fhir_server.audit.notices import Told
from fhir_server.log.checkpoint import Checkpoint, opened
from fhir_server.log.note import WITNESS, Note, Untrusted, Verifier, verified

Kind: TypeAlias = Literal[
    "altered",
    "cannot be opened",
    "deleted",
    "erased without a notice",
    "inserted",
    "key not listed",
    "misplaced",
    "reordered",
    "rewritten",
    "still there",
    "schema altered",
    "tile damaged",
    "truncated",
    "page damaged",
    "checkpoint false",
]


class Finding(Struct, frozen=True):
    """Something that is wrong: the index of the leaf and the name of the record, where it is one
    that is known, and a sentence."""

    kind: Kind
    text: str
    leaf: int | None = None
    record: str = ""


class Signed(NamedTuple):
    """A state of the log that it signed: where that is kept, when it was made (microseconds since
    1970) where that is known, and the names of those who cosigned it."""

    checkpoint: Checkpoint
    source: str
    at: int | None = None
    cosigned: tuple[str, ...] = ()


def trusted(
    note: Note, source: str, at: int | None, logs: Sequence[Verifier], witnesses: Sequence[Verifier]
) -> Signed:
    """The state that a note tells, when one of these logs signed it, and each of these witnesses.
    Malformed, Untrusted."""
    log = next((each for each in logs if _by(note, each)), None)
    if log is None:
        raise Untrusted("It is not signed by the key of this log")
    checkpoint, _ = opened(note, log)
    known = [each for each in witnesses if _by(note, each)]
    if missing := [each.name for each in witnesses if each not in known]:
        raise Untrusted(f"It is not cosigned by {', '.join(missing)}")
    cosigned = verified(note, known) if known else ()
    seen = [each.time for each in cosigned if each.time is not None]
    if at is None and seen:
        at = max(seen) * 1_000_000
    names = {each.by.name for each in cosigned if each.by.type == WITNESS}
    return Signed(checkpoint, source, at, tuple(sorted(names)))


def _by(note: Note, key: Verifier) -> bool:
    return any((each.name, each.id) == (key.name, key.id) for each in note.signatures)


class Report(Struct, frozen=True):
    """What was found. `size`: leaves that the log has; `since`: the first whose record was looked
    at; `erased`: leaves whose record is gone as a notice says; `stands`: the newest signed state
    that the log still begins with, and of the leaves before it all but those in `findings` stand
    as it says. `seconds` that it took. `told`: the notices that speak of leaves; `stripped`: events
    of which what was asked for is gone, as erasures explain."""

    size: int
    since: int
    records: int
    notices: int
    erased: int
    findings: tuple[Finding, ...]
    stands: Signed | None
    signed: int  # states that were compared
    seconds: float
    told: tuple[Told, ...] = ()
    stripped: int = 0

    @property
    def well(self) -> bool:
        return not self.findings

    @property
    def first(self) -> Finding | None:
        """The first that is wrong in the order of the log; what is wrong of no leaf comes last."""
        return min(
            self.findings,
            key=lambda each: (each.leaf is None, each.leaf or 0),
            default=None,
        )
