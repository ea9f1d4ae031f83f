"""What a witness or signer must never forget: the last checkpoint it signed of each log.

https://c2sp.org/tlog-witness: the new state is on disk before its signature leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from fhir_server.log import checkpoint as checkpoints
from fhir_server.log import note as notes
from fhir_server.log.checkpoint import Checkpoint, Head
from fhir_server.log.note import Malformed, Note, SigningKey, Untrusted
from fhir_server.storage.keys import write_durably
from fhir_server.storage.sqlite.folder import Lock
from salus.problem import Problem

SIGNED = "signed.json"  # by a log's origin, the last checkpoint of it that was signed, as a note
EVIDENCE = 100  # refused requests that are kept, at most; of those that prove a fork, as many


class Signed:
    """The last checkpoint of each log that was signed here. The folder is held until `close`."""

    def __init__(self, folder: Path) -> None:
        """Problem when the file cannot be read or is damaged; StoreError when another process has
        the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._file = folder, folder / SIGNED
        self._lock = Lock(folder)
        self._notes: dict[str, str] = {}
        self._heads: dict[str, Head] = {}
        self.begun = self._file.exists()
        if self.begun:
            self._read()

    @property
    def heads(self) -> Mapping[str, Head]:
        return self._heads

    def begin(self) -> None:
        """From now on the file must be there: a missing one is a loss, and no first start."""
        if not self.begun:
            self._write({})
            self.begun = True

    def remember(self, checkpoint: Checkpoint, note: Note) -> None:
        """Durable on return. OSError, and then nothing was remembered."""
        text = note.encode().decode()
        if self._notes.get(checkpoint.origin) == text:
            return  # asked again, as anybody may
        self._write({**self._notes, checkpoint.origin: text})
        self._notes[checkpoint.origin] = text
        self._heads[checkpoint.origin] = checkpoint.head

    def keep(self, request: bytes, certain: bool) -> tuple[Path | None, bool]:
        """Keep a refused request that may prove that a log misbehaved, once of each checkpoint, and
        when that is certain what it contradicts; its file, None where enough of them are kept
        already, and whether it is a new one."""
        checkpoint = request.partition(b"\n\n")[2]
        state = checkpoint.partition(b"\n\n")[0]
        kind = "fork" if certain else "refused"
        file = self._folder / f"{kind}-{sha256(state).hexdigest()[:32]}.txt"
        if file.exists():
            return file, False
        if len(list(self._folder.glob(f"{kind}-*.txt"))) >= EVIDENCE:
            return None, True
        before = self._notes.get(state.partition(b"\n")[0].decode("utf-8", "replace"), "")
        write_durably(file, request + (f"\n{before}".encode() if certain else b""))
        return file, True

    def close(self) -> None:
        self._lock.close()

    def _write(self, kept: dict[str, str]) -> None:
        write_durably(self._file, msgspec.json.format(msgspec.json.encode(kept)))

    def _read(self) -> None:
        try:
            self._notes = msgspec.json.decode(self._file.read_bytes(), type=dict[str, str])
            for origin, text in self._notes.items():
                found = checkpoints.parse(notes.parse(text.encode()).text)
                if found.origin != origin:
                    raise Malformed("It is the checkpoint of another log")
                self._heads[origin] = found.head
        except (msgspec.MsgspecError, Malformed) as error:
            raise Problem(
                f"{self._file} is damaged ({error}): bring it back. Without it nothing may be "
                "signed, since what was signed before is not known"
            ) from None


def key_of(file: Path, name: str | None, type: int, signed: Signed) -> SigningKey:
    """The key of a file, made under this name when this is the first start. Problem."""
    if not file.exists():
        if signed.heads:
            raise Problem(f"{file} is missing: it is the key that signed before; bring it back")
        if name is None:
            raise Problem(f"There is no key in {file}: to have one made, say of what with --name")
        signed.begin()  # before the key is there, so that a key without it tells of a loss
        return _made(file, name, type)
    found = read_key(file, type)
    if name not in (None, found.name):
        raise Problem(f"{file} is the key of {found.name}, not of {name}")
    if not signed.begun:
        raise Problem(
            f"{file} may have signed before, but there is no {SIGNED}, which says what: bring it "
            "back (a signer can begin with --since CHECKPOINT), or move the key away"
        )
    return found


def read_key(file: Path, type: int) -> SigningKey:
    """Problem."""
    try:
        made = SigningKey.parse(file.read_text())
    except (Malformed, UnicodeDecodeError) as error:
        raise Problem(f"{file} holds no signing key: {error}") from None
    if made.type != type:
        raise Problem(f"{file} is the key of a {'log' if made.type == notes.LOG else 'witness'}")
    return made


def _made(file: Path, name: str, type: int) -> SigningKey:
    try:
        made = SigningKey.make(name, type)
    except Malformed as error:
        raise Problem(f"{name} is no name for a key: {error}") from None
    file.parent.mkdir(parents=True, exist_ok=True)
    write_durably(file, f"{made.encode()}\n".encode())
    return made


def begin_since(signed: Signed, key: Path, checkpoint: Path) -> None:
    """Begin with what a key has signed elsewhere. Problem."""
    if signed.begun:
        raise Problem(f"--since is for a first start: {SIGNED} is there already")
    verifier = read_key(key, notes.LOG).verifier
    try:
        note = notes.parse(checkpoint.read_bytes())
        found, _ = checkpoints.opened(note, verifier)
    except (Malformed, Untrusted) as error:
        raise Problem(f"{checkpoint} is no checkpoint that {key} signed: {error}") from None
    signed.remember(found, note)
    signed.begun = True
