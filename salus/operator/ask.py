"""How a command reaches a server: over the operator's channel when one runs, otherwise by opening
the data folder itself.

https://man7.org/linux/man-pages/man2/flock.2.html tells which.
"""

from __future__ import annotations

import asyncio
import fcntl
import time
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from fhir_server.storage.keys import write_durably
from fhir_server.storage.sqlite.folder import LOCK
from salus.operator import channel
from salus.operator.requests import AddUser, Asked, RegisterClient
from salus.problem import Problem
from salus.program import called
from salus.settings import Settings, is_loopback

T = TypeVar("T", bound=msgspec.Struct)

ADDRESS = "server.address"  # in the data folder: where the server that has it listens
_PATIENCE_SECONDS = 60.0
_BEGINNINGS = (RegisterClient, AddUser)  # what may be asked before there is any data


class _Unframed(msgspec.Struct, frozen=True):
    """What tells an answer from a refusal."""

    type: str = ""
    problem: str = ""


def ask(settings: Settings, asked: Asked, answer: type[T]) -> T:
    """What the server of the data folder answers. Problem, StoreError."""
    if not (settings.data / LOCK).is_file() and not isinstance(asked, _BEGINNINGS):
        raise Problem(
            f"There is no data in {settings.data} yet: name another folder with --data or "
            f"SALUS_DATA, or start one with `{called()} serve`"
        )
    if holder(settings.data) is None:
        return asyncio.run(_directly(settings, asked, answer))
    return _over_the_channel(settings, asked, answer)


def holder(folder: Path) -> str | None:
    """The process that has a data folder, as it named itself; None when nobody has it."""
    if not (folder / LOCK).is_file():
        return None
    with (folder / LOCK).open(errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read(200).strip() or "another process"
    return None


def announce(folder: Path, url: str) -> None:
    """Say in the data folder where its server listens, for its owner's commands."""
    write_durably(folder / ADDRESS, url.encode())


def withdraw(folder: Path) -> None:
    (folder / ADDRESS).unlink(missing_ok=True)


def serves(settings: Settings, url: str) -> bool:
    """Whether what answers at a URL is the server of the data folder."""
    if holder(settings.data) is None:
        return False
    try:
        announced = (settings.data / ADDRESS).read_text()
    except OSError:
        return False
    one, other = urlsplit(announced), urlsplit(url)
    return (one.scheme, one.port) == (other.scheme, other.port) and (
        one.hostname == other.hostname or is_loopback(other.hostname or "")
    )


async def _directly(settings: Settings, asked: Asked, answer: type[T]) -> T:
    from salus.app import open_product
    from salus.operator.acts import perform

    async with open_product(settings) as product:
        return msgspec.convert(await perform(product, asked), answer)


def _over_the_channel(settings: Settings, asked: Asked, answer: type[T]) -> T:
    try:
        url = (settings.data / ADDRESS).read_text()
    except OSError:
        raise Problem(
            f"{settings.data} is in use by {holder(settings.data)}, which does not say where it "
            "listens: wait until it is up, or stop it"
        ) from None
    key, id = channel.channel_key(settings), channel.new_id()
    sent = channel.sealed(key, id, time.time_ns() // 1000, asked)
    return _answer(key, id, _posted(f"{url}{channel.PATH}", sent), answer)


def _posted(url: str, sent: bytes) -> bytes:
    """The message that comes back. The certificate is not asked for: it is another name's, and
    the message proves itself."""
    try:
        with httpx.Client(verify=False, trust_env=False, timeout=_PATIENCE_SECONDS) as client:
            reply = client.post(url, content=sent)
    except httpx.HTTPError as error:
        raise Problem(f"The server at {url} does not answer: {error}") from None
    if reply.status_code != 200:
        raise Problem(
            f"The server at {url} answers {reply.status_code}: is it the one of this data folder "
            "and these keys, and do its clock and ours agree?"
        )
    return reply.content


def _answer(key: bytes, id: str, data: bytes, answer: type[T]) -> T:
    try:
        message = channel.opened(key, data)
    except channel.NotOurs:
        message = None
    if message is None or message.id != id or not message.answers:
        raise Problem("What answered is not the server of this data folder")
    refused = msgspec.json.decode(message.content, type=_Unframed)
    if refused.type == "failed":
        raise Problem(refused.problem)
    return msgspec.json.decode(message.content, type=answer)
