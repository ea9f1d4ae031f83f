"""How a command reaches a server: over the operator's channel when one runs, otherwise by opening
the data folder itself.

https://www.rfc-editor.org/rfc/rfc7516 is what travels over the channel.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TypeVar

import httpx
import msgspec

from salus.operator import channel
from salus.operator.requests import Asked, Done
from salus.operator.running import address, holder
from salus.problem import Problem
from salus.settings import Settings

T = TypeVar("T", bound=msgspec.Struct)

_PATIENCE_SECONDS = 60.0


class _Unframed(msgspec.Struct, frozen=True):
    """What tells an answer from a refusal."""

    type: str = ""
    problem: str = ""


def ask(settings: Settings, asked: Asked, answer: type[T]) -> T:
    """What the server of the data folder answers. Problem, StoreError."""
    return ask_in_turn(settings, (), asked, answer)


def ask_in_turn(settings: Settings, before: Iterable[Asked], last: Asked, answer: type[T]) -> T:
    """Ask for one thing after the other, each when the one before was performed; what the last one
    is answered. Problem, StoreError."""
    if holder(settings.data) is None:
        return asyncio.run(_directly(settings, before, last, answer))
    for each in before:
        _over_the_channel(settings, each, Done)
    return _over_the_channel(settings, last, answer)


async def _directly(settings: Settings, before: Iterable[Asked], last: Asked, answer: type[T]) -> T:
    from salus.app import open_product
    from salus.operator.acts import perform

    async with open_product(settings) as product:
        for each in before:
            await perform(product, each)
        return msgspec.convert(await perform(product, last), answer)


def _over_the_channel(settings: Settings, asked: Asked, answer: type[T]) -> T:
    url = address(settings.data)
    if url is None:
        raise Problem(
            f"{settings.data} is in use by {holder(settings.data)}, which does not say where it "
            "listens: wait until it is up, or stop it"
        )
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
