"""A witness or signer in a process of its own, on a real socket, to be asked and to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from fhir_server.log.note import Verifier
from tests.ports import free_port

# `salus audit` with the commands of this package alone: it starts in a fraction of the time.
_COMMAND = (
    "import typer; from salus.commands.witness import add_to; "
    "audit = typer.Typer(); add_to(audit); audit()"
)


class Process:
    """`salus audit witness` or `signer`; `arguments` go before those that name its port."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.arguments, self.output = arguments, folder / "output"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=20)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Process:
        before = self.output.stat().st_size if self.output.exists() else 0
        listen = ("--listen", f"127.0.0.1:{self.port}")
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND, *self.arguments, *listen],
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            if b" is up on " in self.output.read_bytes()[before:]:
                return self
            time.sleep(0.02)
        raise AssertionError(f"it is not up: {self.said}")

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def verifier(self) -> Verifier:
        return Verifier.parse(self.client.get("/").text)

    def post(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        return self.client.post(path, content=body, headers=headers)

    def kill(self) -> None:
        """kill -9: nothing is tidied up."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.client.close()
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=10)
