"""Where checkpoints go besides the store: a file that is only appended to, and a web address.

https://c2sp.org/tlog-checkpoint
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx

from fhir_server.log.note import Note
from fhir_server.log.witness import Unreachable

SECONDS = 5.0  # that an answer may take


class AppendedFile:
    """Notes one after the other, an empty line between them; best where nothing can be removed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.where = str(file)

    async def publish(self, note: Note) -> None:
        await asyncio.to_thread(self._append, note.encode() + b"\n")

    def _append(self, text: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self._file, flags, 0o644)
        try:
            os.write(descriptor, text)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
