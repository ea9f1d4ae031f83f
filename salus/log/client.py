"""Asking a signer and witnesses on other hosts.

https://c2sp.org/tlog-witness
"""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from fhir_server.log import checkpoint as checkpoints
from fhir_server.log import note as notes
from fhir_server.log.checkpoint import Checkpoint
from fhir_server.log.note import Malformed, Note, Signature, Untrusted, Verifier
from fhir_server.log.witness import SIZE_TYPE, Refused, Request, Unreachable
from salus.log.signer import SIGN
from salus.log.witness import ADD

SECONDS = 5.0  # that an answer may take


class RemoteSigner:
    """A Signer on another host (`salus audit signer`)."""

    def __init__(self, url: str, token: str, verifier: Verifier, client: httpx.AsyncClient) -> None:
        self.verifier = verifier
        self._url, self._client = f"{url.rstrip('/')}{SIGN}", client
        self._headers = {"authorization": f"Bearer {token}"}

    async def sign(self, checkpoint: Checkpoint, old: int, proof: Sequence[bytes]) -> Signature:
        request = Request(old, tuple(proof), checkpoint.text.encode())
        lines = await _ask(self._client, self._url, request, self._headers)
        return _genuine(self._url, lines, self.verifier, checkpoint.text)


class RemoteWitness:
    """A Witness on another host: ours (`salus audit witness`), or any other of the standard."""

    def __init__(self, url: str, verifier: Verifier, client: httpx.AsyncClient) -> None:
        self.verifier = verifier
        self._url, self._client = f"{url.rstrip('/')}{ADD}", client

    async def cosign(self, note: Note, old: int, proof: Sequence[bytes]) -> Signature:
        lines = await _ask(self._client, self._url, Request(old, tuple(proof), note.encode()), {})
        return _genuine(self._url, lines, self.verifier, note.text)


async def _ask(
    client: httpx.AsyncClient, url: str, request: Request, headers: dict[str, str]
) -> tuple[Signature, ...]:
    """The lines of signature that come back. Refused, Unreachable."""
    try:
        reply = await client.post(url, content=request.encode(), headers=headers, timeout=SECONDS)
    except httpx.HTTPError as error:
        raise Unreachable(f"{url} does not answer: {type(error).__name__} {error}") from None
    if reply.status_code >= 500:
        raise Unreachable(f"{url} answers {reply.status_code}")
    try:
        if reply.status_code == 200:
            return notes.signatures(reply.content.decode())
        stale = reply.status_code == 409 and reply.headers.get("content-type") == SIZE_TYPE
        size = checkpoints.number(reply.text.removesuffix("\n"), "size") if stale else None
    except (Malformed, UnicodeDecodeError) as error:
        raise Unreachable(f"{url} does not speak the protocol: {error}") from None
    raise Refused(reply.status_code, _why(url, reply, size), size)


def _why(url: str, reply: httpx.Response, size: int | None) -> str:
    if size is not None:
        return f"{url} has seen {size} leaves"
    said = " ".join(reply.text[:200].split())
    return f"{url} answers {reply.status_code}: {said}"


def _genuine(url: str, lines: Sequence[Signature], by: Verifier, text: str) -> Signature:
    """The one signature of this key. Unreachable when there is none, or one that does not hold."""
    for each in lines:
        if (each.name, each.id) == (by.name, by.id):
            try:
                by.verify(text, each)
            except Untrusted as error:
                raise Unreachable(f"{url} answers what is not true: {error}") from None
            return each
    raise Unreachable(f"{url} does not sign with the key {by}")
