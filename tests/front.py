"""A server in front of another, on a real socket: it hands on what it is asked, and may spoil what
comes back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx

from conformance.json import encode, parse
from conformance.xml import from_xml, to_xml


@dataclass(frozen=True)
class Asked:
    method: str
    path: str  # below the FHIR base, with the query
    headers: httpx.Headers
    body: bytes


@dataclass(frozen=True)
class Answered:
    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def json(self) -> Any:
        """The resource of the body; None where it is none."""
        try:
            return parse(self.body)
        except Exception:
            return None

    def saying(self, resource: Any) -> Answered:
        return replace(self, body=encode(resource))

    def with_header(self, name: str, value: str | None) -> Answered:
        headers = httpx.Headers(self.headers)
        headers.pop(name, None)
        if value is not None:
            headers[name] = value
        return replace(self, headers=headers)


Ask = Callable[[Asked], Answered]
Spoil = Callable[[Asked, Ask], Answered]


def fair(asked: Asked, ask: Ask) -> Answered:
    """What is behind, unspoiled."""
    return ask(asked)


def in_xml(asked: Asked, ask: Ask) -> Answered:
    """The same in XML, for who wants that."""
    headers = httpx.Headers(asked.headers)
    wants = "xml" in headers.get("accept", "")
    if wants:
        headers["accept"] = "application/fhir+json"
    body = asked.body
    if "xml" in headers.get("content-type", ""):
        headers["content-type"] = "application/fhir+json"
        body = encode(from_xml(body)) if body else body
    answered = ask(replace(asked, headers=headers, body=body))
    if not wants or answered.json is None:
        return answered
    spoken = replace(answered, body=to_xml(answered.json))
    return spoken.with_header("content-type", "application/fhir+xml; charset=utf-8")


@contextmanager
def front(behind: str, spoil: Spoil = fair) -> Iterator[str]:
    """The FHIR base of a server in front of the one at the base `behind`."""
    with httpx.Client(trust_env=False, timeout=30, verify=False) as client:

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def handle_one(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                kept = [(n, v) for n, v in self.headers.items() if n.lower() not in _HOPS]
                path = self.path.removeprefix("/fhir")
                asked = Asked(self.command, path, httpx.Headers(kept), self.rfile.read(length))
                answered = spoil(asked, self.ask)
                self.send_response(answered.status)
                for name, value in answered.headers.multi_items():
                    if name.lower() not in _HOPS:
                        self.send_header(name, value)
                body = b"" if self.command == "HEAD" or answered.status == 304 else answered.body
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def ask(self, asked: Asked) -> Answered:
                host = f"http://{self.headers['host']}/fhir"
                body = asked.body.replace(host.encode(), behind.encode())
                found = client.request(
                    asked.method, f"{behind}{asked.path}", headers=asked.headers, content=body
                )
                headers = httpx.Headers(
                    [(n, v.replace(behind, host)) for n, v in found.headers.multi_items()]
                )
                return Answered(
                    found.status_code,
                    headers,
                    found.content.replace(behind.encode(), host.encode()),
                )

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_one

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/fhir"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


_HOPS = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "content-encoding",
     "accept-encoding", "keep-alive"}
)  # fmt: skip


def saying(status: int, resource: Any = None, **headers: str) -> Spoil:
    """A server that says the same to everybody."""
    body = b"" if resource is None else json.dumps(resource).encode()
    told = httpx.Headers({"content-type": "application/fhir+json", **headers})
    return lambda asked, ask: Answered(status, told, body)
