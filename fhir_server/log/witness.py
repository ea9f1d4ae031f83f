"""What a witness answers: it follows a log from one state to the next, and never back.

https://c2sp.org/tlog-witness (add-checkpoint); a signer on a host of its own follows the same rules
for the one log whose key it has, and is asked in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fhir_server.log import checkpoint as checkpoints
from fhir_server.log import note as notes
from fhir_server.log.checkpoint import NOTHING, Checkpoint, Head
from fhir_server.log.merkle import verify_consistency
from fhir_server.log.note import Malformed, Note, Untrusted, Verifier

PROOF = 63  # hashes of a consistency proof, at most
BYTES = 1 << 16  # of a request, at most
SIZE_TYPE = "text/x.tlog.size"  # of an answer that is the size of the last state


class Refused(Exception):
    """No signature is given. `status` is the one of HTTP; `size` is how many leaves the log had
    when it was last signed, where it is not what the asker thinks; `alarm`: what was asked for
    contradicts what was signed before, so the log was rewritten, cut or forked; `certain`: that two
    signatures of the log prove it, while a proof that does not hold may be anybody's junk."""

    def __init__(
        self,
        status: int,
        text: str,
        size: int | None = None,
        alarm: bool = False,
        certain: bool = False,
    ) -> None:
        super().__init__(text)
        self.status, self.size, self.alarm, self.certain = status, size, alarm, certain


class Unreachable(Exception):
    """The signer or witness does not answer, or not in its protocol; asking later may help."""


class Request(NamedTuple):
    """To sign a state: the size when it last did, the proof from there, and the checkpoint (for a
    signer its text, for a witness the signed note)."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: bytes

    def encode(self) -> bytes:
        lines = (f"old {self.old}", *map(notes.encoded, self.proof), "", "")
        return "\n".join(lines).encode() + self.checkpoint


class Accepted(NamedTuple):
    """A state that may be signed, once it is remembered for good."""

    checkpoint: Checkpoint
    note: Note


def parse(body: bytes) -> Request:
    """Malformed."""
    header, blank, checkpoint = body.partition(b"\n\n")
    try:
        first, *lines = header.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise Malformed("The lines before the checkpoint are ASCII") from None
    word, space, size = first.partition(" ")
    if not blank or word != "old" or not space:
        raise Malformed("A request is `old` and a size, a proof, an empty line and a checkpoint")
    if len(lines) > PROOF:
        raise Malformed(f"A proof has at most {PROOF} hashes")
    old = checkpoints.number(size, "old size")
    return Request(old, tuple(map(checkpoints.hash_of, lines)), checkpoint)


def witnessed(
    body: bytes, logs: Mapping[str, Sequence[Verifier]], heads: Mapping[str, Head]
) -> Accepted:
    """What a witness of these logs, by origin, whose last states are `heads`, may cosign. The
    caller lets nothing happen between asking and remembering. Refused."""
    try:
        request = parse(body)
        note = notes.parse(request.checkpoint)
        checkpoint = checkpoints.parse(note.text)
    except Malformed as error:
        raise Refused(400, str(error)) from None
    keys = logs.get(checkpoint.origin)
    if keys is None:
        raise Refused(404, "This log is not witnessed here")
    try:
        notes.verified(note, keys)
    except Untrusted as error:
        raise Refused(403, str(error)) from None
    follow(heads.get(checkpoint.origin, NOTHING), request, checkpoint)
    return Accepted(checkpoint, note)


def signable(body: bytes, origin: str, head: Head) -> Checkpoint:
    """What the signer of this log, whose last state is `head`, may sign. Refused."""
    try:
        request = parse(body)
        checkpoint = checkpoints.parse(request.checkpoint.decode())
    except (Malformed, UnicodeDecodeError) as error:
        raise Refused(400, str(error)) from None
    if checkpoint.origin != origin:
        raise Refused(404, "The key here is of another log")
    grow(head, request, checkpoint)
    return checkpoint


def grow(head: Head, request: Request, checkpoint: Checkpoint) -> None:
    """Refused when the log's own signer may not sign it. Who asks a signer has the log's latest
    state, so a smaller one is cause for alarm; a witness may be sent old ones by anybody."""
    if checkpoint.size < head.size:
        raise Refused(409, f"The log had {head.size} leaves", head.size, alarm=True)
    follow(head, request, checkpoint)


def follow(head: Head, request: Request, checkpoint: Checkpoint) -> None:
    """Refused when the checkpoint does not follow from the last state."""
    if request.old > checkpoint.size:
        raise Refused(400, "The old size is greater than that of the checkpoint")
    if request.old != head.size:
        raise Refused(409, f"The log had {head.size} leaves", head.size)
    if checkpoint.size == head.size and checkpoint.root != head.root:
        text = f"Another root was signed for {head.size} leaves"
        raise Refused(409, text, alarm=True, certain=True)
    if not verify_consistency(
        head.size, checkpoint.size, request.proof, head.root, checkpoint.root
    ):
        raise Refused(422, f"Not proven to begin with the {head.size} leaves before", alarm=True)
