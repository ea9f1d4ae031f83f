"""A listener on a real socket, and what is said to it."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager

import uvloop

from salus.wire.listener import Listener, bind

HOST = b"host: x\r\n"


async def heard(receive):
    """The whole body, and whether the peer left before its end."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return body, True
        body += message["body"]
        more = message["more_body"]
    return body, False


async def answer(send, status=200, body=b"", headers=()):
    fields = [(b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def echo(scope, receive, send):
    """Answers what was asked, in a line."""
    body, is_cut = await heard(receive)
    names = b",".join(name for name, _ in scope["headers"])
    line = b"%s %s?%s [%s] %s" % (
        scope["method"].encode(),
        scope["path"].encode(),
        scope["query_string"],
        names,
        body,
    )
    await answer(send, 400 if is_cut else 200, line)


@asynccontextmanager
async def listening(application):
    bound = bind("127.0.0.1", 0, "")
    listener = await Listener.listen(application, bound)
    try:
        yield bound.getsockname()[1], listener
    finally:
        await listener.close(1)


def run(work, application=echo):
    """What `work(port, listener)` returns, within 20 s."""

    async def main():
        async with asyncio.timeout(20), listening(application) as (port, listener):
            return await work(port, listener)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


async def connected(port):
    return await asyncio.open_connection("127.0.0.1", port)


def said(data, application=echo, *, half=False):
    """All that is answered to these bytes until the server closes, or nothing comes any more."""

    async def work(port, _):
        reader, writer = await connected(port)
        writer.write(data)
        if half:
            writer.write_eof()
        answered = b""
        try:
            async with asyncio.timeout(5 if half else 0.4):
                while piece := await reader.read(65_536):
                    answered += piece
            answered += b"<closed>"
        except TimeoutError:
            pass
        except ConnectionError:
            answered += b"<closed>"
        writer.close()
        return answered

    return run(work, application)


def statuses(answered):
    return [int(each) for each in re.findall(rb"HTTP/1\.1 (\d{3}) ", answered)]


def bodies(answered):
    return re.findall(rb"\r\n\r\n([^\r]*?)(?=HTTP/1\.1|<closed>|$)", answered)
