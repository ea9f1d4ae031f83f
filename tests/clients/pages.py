"""An app of another origin: two static pages around npm's fhirclient, as its own guide has them.

https://docs.smarthealthit.org/client-js/
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

LAUNCH = """<!doctype html><title>launch</title><script src="fhir-client.js"></script>
<script>FHIR.oauth2.authorize({options})</script>"""
INDEX = """<!doctype html><title>app</title><script src="fhir-client.js"></script>
<script>FHIR.oauth2.ready().then(
  (client) => { window.client = client; document.title = "ready"; },
  (error) => { document.title = "failed: " + error; })</script>"""


class App:
    """Where the app is served; `options` are what its launch page hands to `authorize`."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.launch, self.index = f"{self.base}/launch.html", f"{self.base}/index.html"
        self.options = "{}"


@contextmanager
def served(library: Path) -> Iterator[App]:
    """The app on a port of its own, until the end of the block."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = files(urlsplit(self.path).path)
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", found[1] if found else "text/plain")
            self.end_headers()
            self.wfile.write(found[0] if found else b"")

        def log_message(self, *_: object) -> None:
            """Tests say enough."""

    def files(path: str) -> tuple[bytes, str] | None:
        return {
            "/launch.html": (LAUNCH.format(options=app.options).encode(), "text/html"),
            "/index.html": (INDEX.encode(), "text/html"),
            "/fhir-client.js": (library.read_bytes(), "text/javascript"),
        }.get(path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    app = App(server.server_port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield app
    server.shutdown()
    thread.join()
    server.server_close()
