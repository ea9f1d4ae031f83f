"""Receipts: that a record is in the log, with all that it takes to check it without the server.

https://c2sp.org/tlog-proof; its extra data is the record itself, as `Receipt.extra` spells it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fhir_server.log import checkpoint as checkpoints
from fhir_server.log import note as notes
from fhir_server.log.checkpoint import Checkpoint
from fhir_server.log.merkle import salted_leaf, verify_inclusion
from fhir_server.log.note import (
    LOG,
    WITNESS,
    Malformed,
    Note,
    Untrusted,
    Verified,
    Verifier,
    decoded,
    encoded,
)

SUFFIX = ".tlog-proof"
SALT = 16  # bytes; a notice has none
PROOF = 63  # hashes of an inclusion proof, at most

_FIRST = "c2sp.org/tlog-proof@v1"
_RECORD = b"salus-record/v1"


class Receipt(NamedTuple):
    """The index of a leaf, the salt and content of its record, the inclusion proof, and a
    checkpoint with the signatures that it has."""

    leaf: int
    salt: bytes
    content: bytes
    proof: tuple[bytes, ...]
    note: Note

    @property
    def extra(self) -> bytes:
        """A line that says what this is, one with the salt in hexadecimal, and the content. The
        leaf is SHA-256(0x00 || SHA-256(salt || content))."""
        return b"\n".join((_RECORD, self.salt.hex().encode(), self.content))

    @property
    def leaf_hash(self) -> bytes:
        return salted_leaf(self.salt, self.content)

    def encode(self) -> bytes:
        lines = (_FIRST, f"extra {encoded(self.extra)}", f"index {self.leaf}")
        return "\n".join((*lines, *map(encoded, self.proof), "", "")).encode() + self.note.encode()


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom a reader trusts: the log's key, and how many of these witnesses must have cosigned."""

    log: Verifier
    witnesses: tuple[Verifier, ...] = ()
    needed: int = 0

    def __post_init__(self) -> None:
        if self.log.type != LOG:
            raise Malformed(f"{self.log.name} is the key of a witness, not of a log")
        for each in self.witnesses:
            if each.type != WITNESS:
                raise Malformed(f"{each.name} is the key of a log, not of a witness")
        if not 0 <= self.needed <= len({each.key for each in self.witnesses}):
            raise Malformed("More witnesses are demanded than are named")


class Proven(NamedTuple):
    """What a receipt proves: the record, the index of its leaf, the state of the log that has it,
    and who cosigned that, with their times."""

    leaf: int
    content: bytes
    checkpoint: Checkpoint
    cosigned: tuple[Verified, ...]


def parse(data: bytes) -> Receipt:
    """Malformed."""
    header, blank, rest = data.partition(b"\n\n")
    try:
        lines = header.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise Malformed("The lines of a receipt are ASCII") from None
    if not blank or lines[0] != _FIRST:
        raise Malformed(f"A receipt begins with the line {_FIRST}")
    if len(lines) < 3 or not lines[1].startswith("extra ") or not lines[2].startswith("index "):
        raise Malformed("A receipt has the record as `extra`, then the `index` of its leaf")
    if len(lines) - 3 > PROOF:
        raise Malformed(f"A proof has at most {PROOF} hashes")
    salt, content = _record(decoded(lines[1].removeprefix("extra "), "extra"))
    index = checkpoints.number(lines[2].removeprefix("index "), "index")
    proof = tuple(map(checkpoints.hash_of, lines[3:]))
    return Receipt(index, salt, content, proof, notes.parse(rest))


def check(receipt: Receipt, policy: Policy) -> Proven:
    """What it proves to somebody with this policy. Malformed, and Untrusted, which says what does
    not hold."""
    checkpoint, _ = checkpoints.opened(receipt.note, policy.log)
    cosigned = _cosigned(receipt.note, policy)
    if not verify_inclusion(
        receipt.leaf_hash, receipt.leaf, checkpoint.size, receipt.proof, checkpoint.root
    ):
        raise Untrusted(
            f"The record is not the one at leaf {receipt.leaf} of the {checkpoint.size} that the "
            "log signed: the record, its place or the proof was changed"
        )
    return Proven(receipt.leaf, receipt.content, checkpoint, cosigned)


def _cosigned(note: Note, policy: Policy) -> tuple[Verified, ...]:
    known: Sequence[Verifier] = policy.witnesses
    claimed = {(each.name, each.id) for each in note.signatures}
    present = [each for each in known if (each.name, each.id) in claimed]
    found = {each.by.key: each for each in notes.verified(note, present)} if present else {}
    if len(found) < policy.needed:
        raise Untrusted(
            f"{len(found)} of the witnesses that you trust cosigned, and you demand {policy.needed}"
        )
    return tuple(found.values())


def _record(extra: bytes) -> tuple[bytes, bytes]:
    """The salt and the content."""
    parts = extra.split(b"\n", 2)
    if len(parts) != 3 or parts[0] != _RECORD:
        raise Malformed("The extra data of this proof is no record of Salus")
    try:
        salt = bytes.fromhex(parts[1].decode("ascii"))
    except ValueError:
        raise Malformed("The salt is not hexadecimal") from None
    if len(salt) not in (0, SALT) or salt.hex().encode() != parts[1]:
        raise Malformed(f"A salt has {SALT} bytes, that of a notice none")
    return salt, parts[2]
