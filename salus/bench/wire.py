"""Load over raw keep-alive connections: requests prepared as bytes, answers read as bytes.

A full HTTP client costs about 300 us a request and would measure itself; this one costs about a
tenth (https://www.rfc-editor.org/rfc/rfc9112).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, cast
from urllib.parse import urlsplit

JSON = "application/fhir+json"
_END = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


class Request(NamedTuple):
    """Bytes to send, and the label under which the answer's time is counted."""

    label: str
    data: bytes


class Reply(NamedTuple):
    status: int
    head: bytes
    body: bytes

    def header(self, name: bytes) -> str | None:
        """The value of a header, named in lower case."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name:
                return value.strip().decode()
        return None


# What one connection does: given the last reply (None at first), its next request; None ends it.
Step = Callable[[Reply | None], Request | None]


class Address(NamedTuple):
    """Where the FHIR base is, and the access token that is shown there, if any."""

    host: str
    port: int
    path: str
    token: str = ""

    @classmethod
    def of(cls, url: str, token: str = "") -> Address:
        parts = urlsplit(url)
        path = parts.path.rstrip("/")
        return cls(parts.hostname or "127.0.0.1", parts.port or 80, path, token)

    def _common(self) -> list[str]:
        """The headers of every request."""
        shown = [f"Authorization: Bearer {self.token}"] if self.token else []
        return [f"Host: {self.host}:{self.port}", f"Accept: {JSON}", *shown]

    def request(
        self, method: str, path: str, body: bytes = b"", label: str = "", **headers: str
    ) -> Request:
        """A request for a path below the base (which begins with a slash), already encoded."""
        lines = [
            f"{method} {self.path}{path} HTTP/1.1",
            *self._common(),
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        ]
        if body or method in ("POST", "PUT"):
            lines += [f"Content-Type: {JSON}", f"Content-Length: {len(body)}"]
        head = "\r\n".join(lines).encode("ascii") + _END
        return Request(label or method, head + body)

    def follow(self, url: str, label: str) -> Request:
        """A request for an absolute link of the server, as it is."""
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        head = "\r\n".join([f"GET {target} HTTP/1.1", *self._common()])
        return Request(label, head.encode("ascii") + _END)


@dataclass(slots=True)
class Sample:
    """What was measured: seconds each answer took, by label; statuses, by label and status."""

    seconds: float = 0.0
    loader_seconds: float = 0.0  # CPU of the load generator
    latencies: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return sum(len(each) for each in self.latencies.values())

    @property
    def errors(self) -> int:
        return sum(n for (_, status), n in self.statuses.items() if not 200 <= status < 300)

    def rate(self, label: str | None = None) -> float:
        """Requests a second."""
        n = self.requests if label is None else len(self.latencies.get(label, ()))
        return n / self.seconds if self.seconds else 0.0

    def percentile(self, share: float, label: str | None = None) -> float:
        """Milliseconds within which this share of the answers came."""
        if label is None:
            times = sorted(t for each in self.latencies.values() for t in each)
        else:
            times = sorted(self.latencies.get(label, ()))
        return times[min(int(len(times) * share), len(times) - 1)] * 1000 if times else 0.0


class Connection(asyncio.Protocol):
    """One keep-alive connection that does one step after another."""

    def __init__(self, step: Step, ended: asyncio.Future[None]) -> None:
        self.step = step
        self.ended = ended
        self.sample: Sample | None = None
        self.stopping = False
        self._buffer = b""
        self._asked = Request("", b"")
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes
        self._transport = cast(asyncio.Transport, transport)

    def start(self) -> None:
        self._next(None)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        try:
            reply = _parsed(self._buffer)
        except ValueError as error:
            self._fail(ConnectionError(f"not HTTP: {error}"))
            return
        if reply is not None:
            self._buffer = b""
            self._took(reply)
            self._next(reply)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or ConnectionError("the server closed the connection"))

    def _took(self, reply: Reply) -> None:
        if self.sample is not None:
            label = self._asked.label
            took = time.perf_counter() - self._began
            self.sample.latencies.setdefault(label, []).append(took)
            self.sample.statuses[label, reply.status] += 1

    def _next(self, reply: Reply | None) -> None:
        try:
            asked = None if self.stopping else self.step(reply)
        except Exception as error:
            self._fail(error)
            return
        if asked is None:
            if not self.ended.done():
                self.ended.set_result(None)
            self._transport.close()
            return
        self._asked = asked
        self._began = time.perf_counter()
        self._transport.write(asked.data)

    def _fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)
        self._transport.close()


async def drive(
    address: Address,
    steps: Sequence[Step],
    seconds: float | None,
    warm: float = 0.0,
    begin: Callable[[], None] = lambda: None,
    end: Callable[[], None] = lambda: None,
) -> Sample:
    """Run steps, a connection each, closed loop: for so long after a warm-up that is not counted,
    or, with None, until each has ended. `begin` and `end` are called when counting does.
    ConnectionError when the server breaks off."""
    sample = Sample()
    made = [await _connected(address, step) for step in steps]
    for connection in made if warm else ():
        connection.start()
    await _pause(made, warm or 0)
    begin()
    began, cpu = time.perf_counter(), time.process_time()
    for connection in made:
        connection.sample = sample
        if not warm:
            connection.start()
    await _pause(made, seconds)
    end()
    sample.seconds = time.perf_counter() - began
    sample.loader_seconds = time.process_time() - cpu
    for connection in made:
        connection.sample, connection.stopping = None, True
    async with asyncio.timeout(60):
        await asyncio.gather(*(each.ended for each in made))
    return sample


async def _connected(address: Address, step: Step) -> Connection:
    loop = asyncio.get_running_loop()
    connection = Connection(step, loop.create_future())
    await loop.create_connection(partial(_same, connection), address.host, address.port)
    return connection


def _same(connection: Connection) -> Connection:
    return connection


async def _pause(made: Sequence[Connection], seconds: float | None) -> None:
    """Wait so long, or until all have ended; sooner when one fails."""
    done, _ = await asyncio.wait(
        [each.ended for each in made],
        timeout=seconds,
        return_when=asyncio.FIRST_EXCEPTION,
    )
    for each in done:
        each.result()


async def ask(address: Address, *requests: Request) -> list[Reply]:
    """The replies to a few requests, one after the other."""
    replies: list[Reply] = []
    waiting = iter(requests)

    def step(reply: Reply | None) -> Request | None:
        if reply is not None:
            replies.append(reply)
        return next(waiting, None)

    await drive(address, [step], None)
    return replies


def _parsed(data: bytes) -> Reply | None:
    """The reply that the bytes hold; None while it is not whole. ValueError for what is none."""
    end = data.find(_END)
    if end < 0:
        return None
    head = data[:end]
    status = int(head[9:12])
    lowered = head.lower()
    at = lowered.find(b"content-length:")
    start = end + len(_END)
    if at >= 0:
        stop = lowered.find(b"\r", at)
        length = int(lowered[at + 15 : stop if stop >= 0 else None])
        whole = len(data) - start >= length
        return Reply(status, head, data[start : start + length]) if whole else None
    if b"transfer-encoding: chunked" in lowered:
        body = _chunks(data[start:]) if data.endswith(_LAST_CHUNK) else None
        return None if body is None else Reply(status, head, body)
    if status in (204, 304):
        return Reply(status, head, b"")
    raise ValueError("the answer has no length")


def _chunks(data: bytes) -> bytes | None:
    parts: list[bytes] = []
    at = 0
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(data[at:line].split(b";")[0], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(data[line + 2 : line + 2 + size])
        at = line + 2 + size + 2
