"""A real server in a process of its own, on a real socket, for tests to talk to and to kill."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.ports import free_port


class Living:
    """`salus serve --open` on folders of its own. `process` is the one process that serves."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.data, self.keys = folder / "data", folder / "keys"
        self.log = folder / "server.log"
        self.port = free_port()
        self.environment = {**_clean(os.environ), **environment}
        self.process: subprocess.Popen[bytes] | None = None
        self.began = 0  # where in the log its last start is
        self.arguments: tuple[str, ...] = ("--open",)
        self.scheme, self.verify = "http", ""  # the latter: a certificate that is trusted

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/fhir"

    def start(self) -> Living:
        """Start and wait until it is ready, and has said so."""
        with self.log.open("ab") as log:
            self.began = log.tell()
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "salus",
                    "serve",
                    *self.arguments,
                    "--port",
                    str(self.port),
                    "--data",
                    str(self.data),
                    "--keys",
                    str(self.keys),
                ],
                stdout=log,
                stderr=log,
                env=self.environment,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                with self.client() as client:
                    ready = client.get(self.url.replace("/fhir", "/health/ready"))
                if ready.status_code == 200:
                    self.told("Try next:")
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready after a minute: {self.log.read_text()}")

    def told(self, pattern: str, seconds: float = 30) -> re.Match[str]:
        """What the server printed since its last start, which may come a moment later."""
        deadline = time.monotonic() + seconds
        while (found := re.search(pattern, self.log.read_bytes()[self.began :].decode())) is None:
            assert self.process is not None and self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return found

    def kill(self) -> None:
        """kill -9: nothing is tidied up."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, as an operator stops it; its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=30)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, verify=self.trusted())

    def trusted(self) -> ssl.SSLContext | bool:
        return ssl.create_default_context(cafile=self.verify) if self.verify else True


def _clean(environment: os._Environ[str]) -> dict[str, str]:
    kept = {n: v for n, v in environment.items() if not n.startswith("SALUS_")}
    return {**kept, "PYTHONUNBUFFERED": "1"}
