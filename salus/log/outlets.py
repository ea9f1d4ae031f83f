"""Where checkpoints go besides the store: a file that is only appended to, and a web address.

https://c2sp.org/tlog-checkpoint
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import httpx

from fhir_server.log.note import Note
from fhir_server.log.witness import Unreachable

SECONDS = 5.0  # that an answer may take


class AppendedFile:
    """Notes one after the other, an empty line between them; best where nothing can be removed.
    What is left of a note that did not fit is followed by an empty line too."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.where = str(file)

    async def publish(self, note: Note) -> None:
        await asyncio.to_thread(self._append, note.encode() + b"\n")

    def _append(self, text: bytes) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self._file, flags, 0o644)
        try:
            left = memoryview(_gap(descriptor) + text)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _gap(descriptor: int) -> bytes:
    """What is missing to an empty line at the end of a file."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return b""
    end = os.pread(descriptor, 2, max(found.st_size - 2, 0))
    return b"" if end == b"\n\n" else b"\n" if end.endswith(b"\n") else b"\n\n"


class Webhook:
    """An address that is sent each note by POST."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._client, self.where = client, url

    async def publish(self, note: Note) -> None:
        headers = {"content-type": "text/plain; charset=utf-8"}
        try:
            reply = await self._client.post(
                self.where, content=note.encode(), headers=headers, timeout=SECONDS
            )
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.where} does not answer: {type(error).__name__}") from None
        if not reply.is_success:
            raise Unreachable(f"{self.where} answers {reply.status_code}")
