"""The file that takes the audit of reads while the store cannot, when the operator broke the glass.

Each line is sealed (AES-256-GCM, https://csrc.nist.gov/pubs/sp/800/38/d/final) and bound to the
line before it, so that none can be read, changed, moved or taken out; the last ones can be cut off.
Merged into the store, each event carries a tag that says so
(https://hl7.org/fhir/R4/resource.html#meta).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from conformance.json import encode, parse
from fhir_server.storage.leaves import SALT
from fhir_server.storage.sealed import KEY_ID, Damaged, Keys, seal, unseal
from fhir_server.storage.store import Entry, Event, Store, StoreError, Transaction, Unavailable

TAG = {
    "system": "urn:salus:audit",
    "code": "break-glass",
    "display": "Recorded outside the log while it could not be written, and merged afterwards",
}
_MERGED = "break-glass"  # the space of what was merged, by the digest of its file
_FIRST = b"salus break-glass log"
_SECONDS = 5.0  # between two attempts to merge

_log = logging.getLogger("salus.audit")


class _Line(msgspec.Struct, frozen=True, array_like=True):
    at: int
    head: bytes
    tail: bytes
    entries: tuple[Entry, ...]
    apart: bytes | None
    owner: str | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Line).decode


class BreakGlass:
    """A file of its own for one server. Its key is taken before it is needed, for the service that
    opens keys may be away then, and is destroyed by `forget` once the file is merged: what is
    erased later must not stay readable there. Unavailable, StoreError."""

    def __init__(
        self,
        file: Path,
        keys: Keys,
        store: Store,
        forget: Callable[[Iterable[bytes], str], object] = lambda ids, why: None,
    ) -> None:
        self._file, self._keys, self._store, self._forget = file, keys, store, forget
        self._aside = file.with_name(f"{file.name}.merging")
        self._turn = asyncio.Lock()
        self._merging: asyncio.Task[None] | None = None
        self._key: bytes | None = None
        self._last = _FIRST

    async def open(self) -> int:
        """Merge what an earlier server left; how many events. StoreError where no file can be
        written, which is better known before it is needed."""
        try:
            self._write(b"")
        except OSError as error:
            raise StoreError(
                f"{self._file} cannot be written ({error.strerror}): name a file in a folder that "
                "is there with --break-glass-log"
            ) from error
        merged = await self.merge()
        self._begin()
        return merged

    def _begin(self) -> None:
        """A new file, under a key of its own."""
        self._last = _FIRST
        self._key = self._keys.fresh()
        self._keys.cipher(self._key)

    async def append(self, events: Sequence[Event]) -> None:
        """Durable on return."""
        async with self._turn:
            if self._key is None:
                raise Unavailable("The break-glass log is not open")
            lines, last = [], self._last
            for event in events:
                blob, _ = seal(self._keys, self._key, last, _encode(_Line(*event)))
                lines.append(blob.hex().encode() + b"\n")
                last = sha256(blob).digest()
            try:
                await asyncio.to_thread(self._write, b"".join(lines))
            except OSError as error:
                text = (
                    f"{self._file} cannot be written ({error.strerror}): neither the store nor the "
                    "break-glass log takes the audit now"
                )
                _log.error(text)
                raise Unavailable(text) from error
            self._last = last
        _log.warning("%d events went into the break-glass log %s", len(events), self._file)
        if self._merging is None or self._merging.done():
            self._merging = asyncio.create_task(self._merge_when_possible())

    async def close(self) -> None:
        """What is not merged yet will be, at the next start."""
        if self._merging is not None:
            self._merging.cancel()

    async def merge(self) -> int:
        """Bring the events of the file into the store, each with its tag, and remove it; how many.
        It is renamed before, so that nothing is added to what is being merged, and a merge that was
        interrupted goes on where it was. Damaged names the first line that is not as written."""
        async with self._turn:
            merged = await self._merge_aside()
            if self._file.exists():
                try:
                    self._file.replace(self._aside)
                except OSError as error:
                    raise Unavailable(
                        f"{self._file} cannot be renamed ({error.strerror})"
                    ) from error
                if self._key is not None:
                    self._begin()
                merged += await self._merge_aside()
            return merged

    async def _merge_aside(self) -> int:
        try:
            content = self._aside.read_bytes()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise Unavailable(f"{self._aside} cannot be read ({error.strerror})") from error
        if not content:
            self._aside.unlink()
            return 0
        digest = sha256(content).hexdigest()

        async def work(tx: Transaction) -> int:
            if await tx.kept(_MERGED, digest) is not None:
                return 0
            events = [_tagged(each) for each in self._lines(content)]
            for event in events:
                await tx.record(event)
            await tx.keep(_MERGED, digest, str(len(events)).encode())
            return len(events)

        merged = await self._store.transaction(work, write=True)
        used = {line[: 2 * KEY_ID] for line in content.splitlines() if len(line) > 2 * KEY_ID}
        await asyncio.to_thread(
            self._forget, [bytes.fromhex(each.decode()) for each in used], "break-glass log merged"
        )
        try:
            self._aside.unlink()
        except OSError as error:  # it is merged, and known to be
            _log.warning("%s cannot be removed: %s", self._aside, error.strerror)
        return merged

    def _lines(self, content: bytes) -> list[Event]:
        events, last = [], _FIRST
        whole = content[: content.rfind(b"\n") + 1]  # what follows was never acknowledged
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                blob = bytes.fromhex(line.decode())
                events.append(Event(*_fields(_decode(unseal(self._keys, blob, last)[SALT:]))))
            except (ValueError, StoreError, msgspec.MsgspecError) as error:
                if isinstance(error, Unavailable):
                    raise
                raise Damaged(
                    f"Line {number} of {self._aside} is not as it was written: keep the file for "
                    "who examines it, and start without it or with another name"
                ) from None
            last = sha256(blob).digest()
        return events

    def _write(self, lines: bytes) -> None:
        made = not self._file.exists()
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        size = os.fstat(descriptor).st_size
        try:
            written = 0
            while written < len(lines):
                written += os.write(descriptor, lines[written:])
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        finally:
            os.close(descriptor)
        if made:
            folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    async def _merge_when_possible(self) -> None:
        while True:
            await asyncio.sleep(_SECONDS)
            try:
                merged = await self.merge()
            except Unavailable:
                continue
            except (StoreError, OSError) as error:
                _log.error("The break-glass log cannot be merged: %s", error)
                return
            _log.warning("%d events of the break-glass log are merged", merged)
            return


def _fields(line: _Line) -> tuple[int, bytes, bytes, tuple[Entry, ...], bytes | None, str | None]:
    return line.at, line.head, line.tail, line.entries, line.apart, line.owner


def _tagged(event: Event) -> Event:
    """The event with the tag that says by which way it came."""
    resource = parse(event.head + b"0" + event.tail)
    meta = dict(resource.pop("meta", {}))
    meta["tag"] = [*meta.get("tag", ()), TAG]
    rest = {name: value for name, value in resource.items() if name not in ("resourceType", "id")}
    return event._replace(tail=b'",' + encode({"meta": meta, **rest})[1:])
