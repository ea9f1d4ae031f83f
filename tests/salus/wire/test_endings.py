"""How connections end: peers that leave, stall or only hold them, and a server that stops.

https://www.rfc-editor.org/rfc/rfc9112#section-9
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from salus.problem import Problem
from salus.wire import connection, listener
from salus.wire.exchange import HIGH_WATER
from salus.wire.listener import bind
from tests.salus.wire.wires import (
    HOST,
    answer,
    bodies,
    connected,
    heard,
    run,
    said,
    statuses,
)


def test_who_hangs_up_is_noticed_by_who_waits_and_by_who_streams():
    told = []

    async def application(scope, receive, send):
        told.append(await heard(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"a" * 1000, "more_body": True})
                await asyncio.sleep(0)
        except ConnectionError:
            told.append("gone")

    async def work(port, _):
        _, writer = await connected(port)
        writer.write(b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 9\r\n\r\nabc")
        await asyncio.sleep(0.1)
        writer.close()
        while len(told) < 2:
            await asyncio.sleep(0.01)

    run(work, application)
    assert told == [(b"abc", True), "gone"]


def test_who_says_its_last_word_is_still_answered():
    asked = b"GET /last HTTP/1.1\r\n" + HOST + b"\r\n"

    assert bodies(said(asked, half=True)) == [b"GET /last? [host] "]
    cut = said(b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 9\r\n\r\nabc", half=True)
    assert bodies(cut) == [b"POST /? [host,content-length] abc"]


def test_a_body_that_nobody_wants_is_dropped_and_the_connection_goes_on():
    async def refusing(scope, receive, send):
        await answer(send, 401, scope["path"].encode())

    body = b"POST /one HTTP/1.1\r\n" + HOST + b"content-length: 900000\r\n\r\n" + b"a" * 900_000
    answered = said(body + b"GET /two HTTP/1.1\r\n" + HOST + b"\r\n", refusing)

    assert statuses(answered) == [401, 401]
    assert bodies(answered) == [b"/one", b"/two"]


def test_no_more_of_a_body_waits_here_than_fits():
    async def work(port, made):
        _, writer = await connected(port)
        writer.write(b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 50000000\r\n\r\n")
        writer.write(b"a" * 50_000_000)
        await asyncio.sleep(0.5)
        (held,) = [each._active.held for each in made._connections]
        writer.transport.abort()
        return held

    async def waiting(scope, receive, send):
        await asyncio.sleep(1)

    assert HIGH_WATER < run(work, waiting) <= 3 * HIGH_WATER


def test_who_does_not_take_what_it_asked_for_holds_the_stream_up():
    sent = []

    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(10_000):
            await send({"type": "http.response.body", "body": b"a" * 65_536, "more_body": True})
            sent.append(number)

    async def work(port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await asyncio.sleep(0.3)
        before = len(sent)
        await asyncio.sleep(0.3)
        held = len(sent)
        for _ in range(200):
            await reader.read(65_536)
        await asyncio.sleep(0.1)
        writer.transport.abort()
        return before, held, len(sent)

    before, held, after = run(work, stream)
    assert before == held < 1_000
    assert after > held


@pytest.mark.parametrize(
    ("limit", "data", "answered"),
    [
        ("HEAD_SECONDS", b"GET / HTTP/1.1\r\nhost: ", b""),
        ("IDLE_SECONDS", b"", b""),
        ("IDLE_SECONDS", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 200"),
    ],
)
def test_who_only_holds_a_connection_loses_it(monkeypatch, limit, data, answered):
    monkeypatch.setattr(connection, limit, 0.2)

    async def work(port, _):
        reader, writer = await connected(port)
        writer.write(data)
        found = await reader.read()
        writer.close()
        return found

    assert run(work)[:12] == answered


def test_who_takes_nothing_of_its_answer_loses_the_connection(monkeypatch):
    monkeypatch.setattr(connection, "STALL_SECONDS", 0.2)
    ended = []

    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"a" * 65_536, "more_body": True})
        except ConnectionError:
            ended.append(True)

    async def work(port, _):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        while not ended:
            await asyncio.sleep(0.05)
        writer.transport.abort()

    run(work, stream)
    assert ended == [True]


def test_who_takes_its_answer_slowly_gets_it_whole(monkeypatch):
    monkeypatch.setattr(connection, "STALL_SECONDS", 1.2)
    size = 3_000_000

    async def application(scope, receive, send):
        await answer(send, body=b"a" * size)

    async def work(port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n")
        got = 0
        while piece := await reader.read(30_000):
            got += len(piece)
            await asyncio.sleep(0.03)
        writer.close()
        return got

    assert run(work, application) > size


def test_an_answer_that_is_leaving_when_the_server_ends_arrives():
    async def application(scope, receive, send):
        await answer(send, body=b"a" * 20_000_000)

    async def work(port, made):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await reader.readexactly(1000)
        closing = asyncio.create_task(made.close(10))
        got = 1000
        while piece := await reader.read(200_000):
            got += len(piece)
        await closing
        writer.close()
        return got

    assert run(work, application) > 20_000_000


def test_a_server_that_ends_waits_no_longer_than_it_says():
    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"a" * 65_536, "more_body": True})

    async def work(port, made):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            await made.close(0.5)
        writer.transport.abort()
        return made._tasks, made._connections

    tasks, connections = run(work, stream)
    assert not tasks
    assert all(each._transport.is_closing() for each in connections)


def test_a_connection_that_was_answered_early_and_sends_no_more_ends():
    async def refusing(scope, receive, send):
        await answer(send, 401)

    head = b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 9\r\n\r\nabc"
    answered = said(head, refusing, half=True)
    assert (statuses(answered), answered[-8:]) == ([401], b"<closed>")


def test_who_still_sends_hears_what_is_said_to_it():
    """Closing at once would reset the connection, and the answer with it."""

    async def refusing(scope, receive, send):
        await answer(send, 401, b"no")

    head = b"POST / HTTP/1.1\r\n" + HOST + b"connection: close\r\ncontent-length: 9000000\r\n\r\n"
    answered = said(head + b"a" * 9_000_000, refusing)
    assert (statuses(answered), answered[-10:]) == ([401], b"no<closed>")


def test_there_are_no_more_connections_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(listener, "_room", lambda: 4)
    monkeypatch.setattr(connection, "CROWDED_SECONDS", 0.5)

    async def work(port, _):
        held = [await connected(port) for _ in range(4)]
        one_too_many, other = await connected(port)
        refused = await one_too_many.read()
        other.close()
        gone = [await reader.read() for reader, _ in held]  # which were idle
        for _, writer in held:
            writer.close()
        reader, writer = await connected(port)
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n")
        found = await reader.read()
        writer.close()
        return refused, gone, found[:12]

    assert run(work) == (b"", [b""] * 4, b"HTTP/1.1 200")


def test_at_the_end_what_was_begun_is_answered_and_nothing_else():
    begun = asyncio.Event()

    async def slow(scope, receive, send):
        begun.set()
        await asyncio.sleep(0.2)
        await answer(send, body=b"done")

    async def work(port, made):
        reader, writer = await connected(port)
        idle, other = await connected(port)
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await begun.wait()
        await made.close(5)
        with pytest.raises(ConnectionError):
            await connected(port)
        found = await reader.read(), await idle.read()
        writer.close()
        other.close()
        return found

    first, second = run(work, slow)
    assert first.endswith(b"\r\n\r\ndone")
    assert b"connection: close" in first
    assert second == b""


def test_a_port_that_another_has_is_refused_with_a_remedy():
    with bind("127.0.0.1", 0, "") as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(Problem, match=rf"Cannot listen on 127\.0\.0\.1:{port} .* choose a"):
            bind("127.0.0.1", port, "choose another")
    with pytest.raises(Problem, match="is not an address of this machine"):
        bind("no.such.host.invalid", 1, "")
