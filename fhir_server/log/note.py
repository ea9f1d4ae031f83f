"""Signed notes: text with lines of signatures, and the keys that make and verify these.

https://c2sp.org/signed-note and https://c2sp.org/tlog-cosignature
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

LOG = 1  # the type of a key whose Ed25519 signatures are over the text alone
WITNESS = 4  # of one whose signatures, `cosignature/v1`, say also when they were made
SIGNATURES = 100  # that a note may have

_ID = 4  # bytes of a key's id
_KEY = 32  # bytes of an Ed25519 key
_TIME = 8  # bytes of a cosignature's time
_LATEST = 253_402_300_799  # seconds since 1970 that a cosignature may say: the end of the year 9999
_SECRET = "PRIVATE+KEY"
_DASH = "\u2014 "
_SIGNED = {LOG: 64, WITNESS: _TIME + 64}  # bytes of a signature by its key's type
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_HEX_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)


class Malformed(ValueError):
    """What should be a note, a key, a checkpoint, a request or a receipt is not spelled as one."""


class Untrusted(ValueError):
    """What is well spelled is not vouched for: the text says what is missing or false."""


class Signature(NamedTuple):
    """One line of signature: who claims it, the id of the key, and its bytes."""

    name: str
    id: bytes
    blob: bytes

    @property
    def line(self) -> str:
        return f"{_DASH}{self.name} {encoded(self.id + self.blob)}\n"


class Note(NamedTuple):
    """A text that ends in a newline, and its signatures."""

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        return f"{self.text}\n{''.join(each.line for each in self.signatures)}".encode()

    def signed(self, more: Iterable[Signature]) -> Note:
        """With more signatures; one of the same key takes the place of the old."""
        added = {(each.name, each.id): each for each in more}
        kept = [each for each in self.signatures if (each.name, each.id) not in added]
        return Note(self.text, (*kept, *added.values()))


class Verified(NamedTuple):
    """A signature that holds: by whom, and when (seconds since 1970) where it says so."""

    by: Verifier
    time: int | None


@dataclass(frozen=True, slots=True)
class Verifier:
    """The public half of a key: its name, its type (LOG or WITNESS) and its 32 bytes."""

    name: str
    type: int
    key: bytes

    @property
    def id(self) -> bytes:
        named = f"{self.name}\n".encode() + bytes([self.type]) + self.key
        return sha256(named).digest()[:_ID]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{encoded(bytes([self.type]) + self.key)}"

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """From `name+id+key`, as `str` writes it. Malformed."""
        name, type, key, id = _key_of(text.strip(), "verifier key")
        made = cls(name, type, key)
        if id != made.id:
            raise Malformed("The id of the verifier key is not that of its name and bytes")
        return made

    def verify(self, text: str, signature: Signature) -> Verified:
        """What a signature of this key says. Untrusted when it is not genuine."""
        blob, time = signature.blob, None
        if len(blob) == _SIGNED[self.type]:
            if self.type == WITNESS:
                time, blob = int.from_bytes(blob[:_TIME], "big"), blob[_TIME:]
                if time > _LATEST:
                    raise Untrusted(f"{self.name} cosigned at a time that no calendar has")
            message = text if time is None else _cosigned(text, time)
            try:
                Ed25519PublicKey.from_public_bytes(self.key).verify(blob, message.encode())
            except InvalidSignature:
                pass
            else:
                return Verified(self, time)
        raise Untrusted(f"The signature of {self.name} does not verify")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs: its name, its type (LOG or WITNESS) and its 32 secret bytes."""

    name: str
    type: int
    secret: bytes

    def __post_init__(self) -> None:
        check_name(self.name)

    def __repr__(self) -> str:
        return f"SigningKey({self.name!r}, {self.type})"

    @classmethod
    def make(cls, name: str, type: int) -> SigningKey:
        """A new one. Malformed when the name cannot be a key's."""
        return cls(name, type, Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def verifier(self) -> Verifier:
        public = Ed25519PrivateKey.from_private_bytes(self.secret).public_key()
        return Verifier(self.name, self.type, public.public_bytes_raw())

    def encode(self) -> str:
        """How it is kept in a file."""
        key = encoded(bytes([self.type]) + self.secret)
        return f"{_SECRET}+{self.name}+{self.verifier.id.hex()}+{key}"

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """From what `encode` wrote. Malformed."""
        start, _, rest = text.strip().partition(f"{_SECRET}+")
        if start or not rest:
            raise Malformed("This is no signing key")
        name, type, key, id = _key_of(rest, "signing key")
        made = cls(name, type, key)
        if id != made.verifier.id:
            raise Malformed("The id of the signing key is not that of its name and bytes")
        return made

    def sign(self, text: str, time: int = 0) -> Signature:
        """Sign a note's text; a witness's key says that it did at `time`, in seconds since 1970."""
        stamp = time.to_bytes(_TIME, "big") if self.type == WITNESS else b""
        message = _cosigned(text, time) if stamp else text
        signed = Ed25519PrivateKey.from_private_bytes(self.secret).sign(message.encode())
        return Signature(self.name, self.verifier.id, stamp + signed)


def parse(data: bytes) -> Note:
    """A note. Malformed."""
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise Malformed("A note is UTF-8") from None
    if _CONTROL.search(whole):
        raise Malformed("A note has no control characters")
    text, blank, lines = whole.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise Malformed("A note is text, an empty line, and lines of signature")
    return Note(f"{text}\n", signatures(lines))


def signatures(lines: str) -> tuple[Signature, ...]:
    """Lines of signature, each ended by a newline. Malformed."""
    if lines and not lines.endswith("\n"):
        raise Malformed("A line of signature ends in a newline")
    found = tuple(_signature(line) for line in lines.split("\n")[:-1])
    if not 0 < len(found) <= SIGNATURES:
        raise Malformed(f"A note has from one to {SIGNATURES} signatures")
    return found


def verified(note: Note, known: Sequence[Verifier]) -> tuple[Verified, ...]:
    """The signatures by known keys, of each key one; others are passed over. Untrusted when one
    that claims to be by a known key is not genuine, or when there is none."""
    keys = {(each.name, each.id): each for each in known}
    found: dict[Verifier, Verified] = {}
    for signature in note.signatures:
        key = keys.get((signature.name, signature.id))
        if key is not None:
            found[key] = key.verify(note.text, signature)
    if not found:
        raise Untrusted("No signature is by a known key")
    return tuple(found.values())


def encoded(data: bytes) -> str:
    return b64encode(data).decode()


def decoded(text: str, what: str) -> bytes:
    """Base64 in the one spelling that it has. Malformed."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        data = b""
    if not data or encoded(data) != text:
        raise Malformed(f"The {what} is not base64")
    return data


def check_name(name: str) -> None:
    """Malformed when this cannot be the name of a key."""
    if not name or "+" in name or any(map(str.isspace, name)) or _CONTROL.search(name):
        raise Malformed("The name of a key has no space and no plus sign, and is not empty")


def _cosigned(text: str, time: int) -> str:
    return f"cosignature/v1\ntime {time}\n{text}"


def _signature(line: str) -> Signature:
    name, space, blob = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise Malformed("A line of signature is a dash, a name and base64, a space between them")
    check_name(name)
    data = decoded(blob, "signature")
    if len(data) <= _ID:
        raise Malformed("The signature is too short")
    return Signature(name, data[:_ID], data[_ID:])


def _key_of(text: str, what: str) -> tuple[str, int, bytes, bytes]:
    """The name, the type, the bytes and the id that are written in a key."""
    parts = text.split("+", 2)  # base64 may have a plus sign, a name may not
    if len(parts) != 3 or not _HEX_ID.fullmatch(parts[1]):
        raise Malformed(f"A {what} is a name, an id of 8 hex digits and base64, joined by plus")
    check_name(parts[0])
    data = decoded(parts[2], what)
    if data[0] not in _SIGNED or len(data) != 1 + _KEY:
        raise Malformed(f"The {what} is of a type that is not known here; Ed25519 is, as 1 or 4")
    return parts[0], data[0], data[1:], bytes.fromhex(parts[1])
