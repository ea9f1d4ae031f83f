"""Checkpoints: what a log says of itself, its size and root, as the text of a signed note.

https://c2sp.org/tlog-checkpoint
"""

from __future__ import annotations

import re
from typing import NamedTuple

from fhir_server.log.merkle import EMPTY_ROOT, HASH
from fhir_server.log.note import (
    Malformed,
    Note,
    Untrusted,
    Verified,
    Verifier,
    decoded,
    encoded,
    verified,
)

LARGEST = 1 << 63  # leaves that any log of this standard stays below

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


class Head(NamedTuple):
    """A state of a log: how many leaves, and the root over them."""

    size: int
    root: bytes


NOTHING = Head(0, EMPTY_ROOT)  # of a log that has no leaf yet


class Checkpoint(NamedTuple):
    """A log by its name, its state, and lines that mean nothing here but are signed too."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def head(self) -> Head:
        return Head(self.size, self.root)

    @property
    def text(self) -> str:
        """What is signed."""
        lines = (self.origin, str(self.size), encoded(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def parse(text: str) -> Checkpoint:
    """From the text of a note. Malformed."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise Malformed("A checkpoint is an origin, a size and a root, each on a line")
    origin, size, root, *extensions = lines
    made = Checkpoint(origin, number(size, "size"), hash_of(root), tuple(extensions))
    if made.size == 0 and made.root != EMPTY_ROOT:
        raise Malformed("The root of a log without leaves is the digest of nothing")
    return made


def opened(note: Note, log: Verifier) -> tuple[Checkpoint, Verified]:
    """The checkpoint of a note that the log signed. Malformed, Untrusted."""
    made = parse(note.text)
    if made.origin != log.name:
        raise Untrusted(f"This is a checkpoint of {made.origin}, not of {log.name}")
    return made, verified(note, (log,))[0]


def number(text: str, what: str) -> int:
    """A number as the log's standards spell it: decimal, without leading zeros. Malformed."""
    if not _SIZE.fullmatch(text) or int(text) >= LARGEST:
        raise Malformed(f"The {what} is not a number below 2^63 without leading zeros")
    return int(text)


def hash_of(text: str) -> bytes:
    """A hash in base64. Malformed."""
    data = decoded(text, "hash")
    if len(data) != HASH:
        raise Malformed(f"A hash has {HASH} bytes")
    return data
