"""HTTP/1.1 on real sockets: what is asked is heard whole and answered in order; what is no request is
refused.

https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.wire import connection
from tests.salus.wire.wires import HOST, answer, bodies, connected, echo, run, said, statuses


def test_a_connection_serves_one_request_after_the_other():
    async def work(port, _):
        reader, writer = await connected(port)
        found = []
        for number in (b"1", b"2"):
            writer.write(b"GET /a%20b?n=" + number + b" HTTP/1.1\r\n" + HOST + b"\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"content-length: (\d+)", head)[1])
            found.append((head.splitlines()[0], await reader.readexactly(length)))
            assert re.search(rb"\r\ndate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", head)
            assert b"connection:" not in head
        writer.close()
        return found

    assert run(work) == [
        (b"HTTP/1.1 200 OK", b"GET /a b?n=1 [host] "),
        (b"HTTP/1.1 200 OK", b"GET /a b?n=2 [host] "),
    ]


def test_requests_sent_together_are_answered_in_their_order():
    async def slow_first(scope, receive, send):
        if scope["path"] == "/first":
            await asyncio.sleep(0.1)
        await echo(scope, receive, send)

    post = b"POST /second HTTP/1.1\r\n" + HOST + b"content-length: 3\r\n\r\nabc"
    asked = b"GET /first HTTP/1.1\r\n" + HOST + b"\r\n" + post
    asked += b"GET /third HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n"

    assert bodies(said(asked, slow_first)) == [
        b"GET /first? [host] ",
        b"POST /second? [host,content-length] abc",
        b"GET /third? [host,connection] ",
    ]


def test_too_many_requests_before_the_first_is_answered_end_the_connection():
    async def never(scope, receive, send):
        await asyncio.sleep(0.2)
        await echo(scope, receive, send)

    asked = (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") * (connection.PIPELINED + 5)
    answered = said(asked, never)
    assert statuses(answered) == [200]
    assert answered.endswith(b"<closed>")


def test_a_body_in_chunks_is_heard_whole_and_its_trailers_are_no_headers():
    asked = b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n"
    asked += b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nauthorization: Bearer x\r\n\r\n"

    assert bodies(said(asked)) == [b"POST /? [host,transfer-encoding] abcdefg"]


BAD = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "two lengths": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "a length and chunks": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding that is none": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a length that is none": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: +5\r\n\r\nabcde",
    "a space before the colon": b"GET / HTTP/1.1\r\n" + HOST + b"x-a : 1\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\n" + HOST + b"x-a: 1\r\n 2\r\n\r\n",
    "a NUL in a header": b"GET / HTTP/1.1\r\n" + HOST + b"x-a: 1\x002\r\n\r\n",
    "a bare CR": b"GET / HTTP/1.1\r\n" + HOST + b"x-a: 1\r2\r\n\r\n",
    "a target that is none": b"GET http:// HTTP/1.1\r\n" + HOST + b"\r\n",
    "another protocol": b"GET / HTTP/3.0\r\n" + HOST + b"\r\n",
    "a coding before chunked": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a chunk size that is none": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"transfer-encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_request_is_refused_and_the_connection_ends(data):
    smuggled = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
    answered = said(data + smuggled)

    assert answered.endswith(b"<closed>")
    assert b"/smuggled" not in answered
    assert set(statuses(answered)) <= {400}


def test_a_head_has_bounds():
    long = b"GET /%s HTTP/1.1\r\n%s\r\n" % (b"a" * connection.HEAD_BYTES, HOST)
    wide = b"GET / HTTP/1.1\r\n" + HOST + b"x-a: %s\r\n\r\n" % (b"a" * connection.HEAD_BYTES)
    many = b"GET / HTTP/1.1\r\n" + HOST + b"x-a: 1\r\n" * connection.HEADERS + b"\r\n"
    endless = b"GET / HTTP/1.1\r\n" + HOST + b"x-a: " + b"a" * 400_000
    fair = b"GET / HTTP/1.1\r\n" + HOST + b"x-a: 1\r\n" * (connection.HEADERS - 1) + b"\r\n"
    large = b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 300000\r\n\r\n" + b"b" * 300_000

    for data in (long, wide, many, endless):
        answered = said(data)
        assert (statuses(answered), answered[-8:]) == ([431], b"<closed>")
    assert statuses(said(fair)) == [200]
    assert statuses(said(large + fair)) == [200, 200]  # a body is no head


def test_versions_and_methods_that_are_not_spoken_are_told():
    assert statuses(said(b"GET / HTTP/2.0\r\n" + HOST + b"\r\n")) == [505]
    assert statuses(said(b"GET /\r\n\r\n")) in ([505], [400])
    assert statuses(said(b"SOURCE / HTTP/1.1\r\n" + HOST + b"\r\n")) == [501]


def test_what_stands_behind_a_body_has_bounds_too():
    """Or trailers would be gathered for as long as they come."""
    head = b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    fair = head + b"x-checksum: 1\r\n\r\n"
    endless = head + b"x-checksum: " + b"a" * 2_000_000

    assert bodies(said(fair)) == [b"POST /? [host,transfer-encoding] a"]
    answered = said(endless)
    assert statuses(answered) == [400]
    assert answered.endswith(b"<closed>")


def test_heads_behind_bodies_in_one_piece_are_fair():
    post = b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 60000\r\n\r\n" + b"b" * 60_000
    head = b"GET / HTTP/1.1\r\n" + HOST + b"x-a: " + b"a" * 30_000 + b"\r\n\r\n"

    assert statuses(said((post + head) * 8)) == [200] * 16


def test_blanks_around_a_value_are_no_part_of_it():
    async def application(scope, receive, send):
        await answer(send, body=b"|".join(value for _, value in scope["headers"]))

    asked = b"GET / HTTP/1.1\r\nhost: \t x \t\r\nx-a:  a b \r\nx-b: \r\n\r\n"
    assert bodies(said(asked, application)) == [b"x|a b|"]


def test_a_whole_target_says_the_host():
    async def application(scope, receive, send):
        host = dict(scope["headers"])[b"host"]
        await answer(send, body=b"%s %s %s" % (host, scope["raw_path"], scope["query_string"]))

    asked = b"GET http://y.example:81/a?b HTTP/1.1\r\n" + HOST + b"\r\n"
    asked += b"GET http://y.example HTTP/1.1\r\n" + HOST + b"\r\n"
    assert bodies(said(asked, application)) == [b"y.example:81 /a b", b"y.example / "]


def test_who_asks_before_it_sends_its_body_is_told_to():
    async def work(port, _):
        reader, writer = await connected(port)
        head = b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 3\r\nExpect: 100-Continue\r\n\r\n"
        writer.write(head)
        first = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"abc")
        await reader.readuntil(b"\r\n\r\n")
        rest = await reader.read(1000)
        writer.close()
        return first, rest

    assert run(work) == (
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"POST /? [host,content-length,expect] abc",
    )


def test_who_is_answered_before_it_sent_its_body_is_told_that_the_connection_ends():
    """It may send the body still, or never: the next bytes could be either."""

    async def refusing(scope, receive, send):
        await answer(send, 401)
        await receive()

    head = b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 3\r\nexpect: 100-continue\r\n\r\n"
    answered = said(head, refusing)
    assert statuses(answered) == [401]
    assert b"connection: close\r\n" in answered
    assert answered.endswith(b"<closed>")


def test_a_wish_to_upgrade_is_passed_over_with_the_body_heard():
    """As Java's client sends it with its first request."""
    h2c = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n"
    post = b"POST / HTTP/1.1\r\n" + HOST + h2c + b"content-length: 70000\r\n\r\n" + b"a" * 70_000
    get = b"GET /next HTTP/1.1\r\n" + HOST + h2c + b"\r\n"
    chunks = b"POST / HTTP/1.1\r\n" + HOST + h2c + b"transfer-encoding: chunked\r\n\r\n"

    heard_ = bodies(said(post + get + get))
    assert [each[:9] for each in heard_] == [b"POST /? [", b"GET /next", b"GET /next"]
    assert heard_[0].endswith(b"] " + b"a" * 70_000)
    assert statuses(said(chunks + b"1\r\na\r\n0\r\n\r\n")) == [400]


def test_answers_without_a_body_have_none():
    async def application(scope, receive, send):
        await answer(send, 204 if scope["path"] == "/204" else 200, b"body")

    async def without_length(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    asked = b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\nGET /204 HTTP/1.1\r\n" + HOST + b"\r\n"
    assert bodies(said(asked, application)) == [b"", b""]
    assert b"content-length: 4" in said(asked, application)
    assert b"transfer-encoding" not in said(asked, without_length)
    no_content = said(b"GET /204 HTTP/1.1\r\n" + HOST + b"\r\n", application)
    assert b"content-length" not in no_content


def test_a_stream_goes_in_chunks_or_to_the_end_of_the_connection():
    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"abc", b"", b"defg"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    now = said(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", stream)
    assert b"transfer-encoding: chunked\r\n" in now
    assert now.endswith(b"\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
    old = said(b"GET / HTTP/1.0\r\n\r\n", stream)
    assert b"transfer-encoding" not in old
    assert old.endswith(b"connection: close\r\n\r\nabcdefg<closed>")


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: x=1", b"a\nb", b"a\rb"])
def test_a_header_cannot_bring_another(value):
    async def application(scope, receive, send):
        await answer(send, headers=[(b"location", value)])

    answered = said(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", application)
    assert statuses(answered) == [500]
    assert b"location" not in answered
    assert answered.endswith(b"<closed>")


def test_an_application_that_fails_is_told_as_far_as_it_can_be(caplog):
    async def before(scope, receive, send):
        raise ValueError("secret")

    async def silent(scope, receive, send):
        pass

    async def amid(scope, receive, send):
        fields = [(b"content-length", b"10")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        raise ValueError("secret")

    async def too_long(scope, receive, send):
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]}
        )
        await send({"type": "http.response.body", "body": b"abc"})

    asked = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    for application, expected in ((before, [500]), (silent, [500]), (amid, [200]), (too_long, [])):
        answered = said(asked, application)
        assert (statuses(answered), answered[-8:]) == (expected, b"<closed>")
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


SEVERAL = (
    b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nabcde"
    b"GET /b?c=d HTTP/1.1\r\nHost: x\r\nX-Empty:\r\nX-Last: 1\r\n\r\n"
    b"PUT /e HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nfg\r\n0\r\n\r\n"
    b"GET /h HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, len(SEVERAL) - 1), max_size=12))
def test_it_does_not_matter_how_the_bytes_come_apart(cuts):
    async def work(port, _):
        reader, writer = await connected(port)
        places = [0, *sorted(set(cuts)), len(SEVERAL)]
        for start, end in pairwise(places):
            writer.write(SEVERAL[start:end])
            await asyncio.sleep(0.001)
        answered = await reader.read()
        writer.close()
        return answered + b"<closed>"

    assert bodies(run(work)) == [
        b"POST /a? [host,content-length] abcde",
        b"GET /b?c=d [host,x-empty,x-last] ",
        b"PUT /e? [host,transfer-encoding] fg",
        b"GET /h? [host,connection] ",
    ]
