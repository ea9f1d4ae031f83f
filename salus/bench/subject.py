"""What is measured: a server of our own in a fresh folder, or any other at a base URL.

https://hl7.org/fhir/R4/http.html#capabilities
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from salus.app import open_product
from salus.bench import machine
from salus.bench.wire import Address, ask
from salus.problem import Problem
from salus.settings import read_settings

START_SECONDS = 60.0
STOP_SECONDS = 30.0
HOST = "127.0.0.1"
CLIENT = "salus-bench"
SCOPE = "system/*.cruds"
MINUTES = 24 * 60  # that the token lives


class BenchError(Problem):
    """The benchmark cannot go on; the text says what to do."""


class Subject:
    """A server under test. `pid`, `folder` and `core` are None where it is not known what it runs
    in, or on; `token` is shown with every request, if there is one."""

    pid: int | None = None
    folder: Path | None = None
    core: int | None = None

    def __init__(self, url: str, pid: int | None = None, token: str = "") -> None:
        self.url = url.rstrip("/")
        self.address = Address.of(self.url, token)
        self.pid = pid

    @property
    def authenticated(self) -> bool:
        """Whether requests show a token."""
        return bool(self.address.token)

    async def restart(self) -> float | None:
        """Stop and start; the seconds from start to the first answer. None where we may not."""
        return None

    def cpu_ms(self) -> float:
        return machine.cpu_ms(self.pid) if self.pid else 0.0

    def memory_mib(self) -> float | None:
        return machine.memory_mib(self.pid) if self.pid else None

    def disk_bytes(self) -> int | None:
        return machine.folder_bytes(self.folder) if self.folder else None


class OwnServer(Subject):
    """`salus serve` as a process of its own, on a core of its own, in a temporary folder; with a
    backend client that is registered there and a token of its own, unless it is `open`."""

    def __init__(
        self,
        core: int | None,
        environment: Mapping[str, str] | None = None,
        *,
        open: bool = False,
    ) -> None:
        super().__init__(f"http://{HOST}:{_free_port()}/fhir")
        self.core, self._open = core, open
        unmetered = {"SALUS_RATE_EXEMPT": CLIENT}  # what is measured is how much it can
        self._environment = {**os.environ, **unmetered, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> OwnServer:
        self._root = Path(tempfile.mkdtemp(prefix="salus-bench-"))
        self.folder = self._root / "data"
        if not self._open:
            asyncio.run(self._make())
            self.address = self.address._replace(token=self._token())
        return self

    async def _make(self) -> None:
        """Make the folders, which a command about a client does not."""
        async with open_product(read_settings(data=self.folder, keys=self._root / "keys")):
            pass

    def _token(self) -> str:
        """An access token of a client that is registered for it. BenchError."""
        key = str(self._root / "client.jwk")
        client = ("client", "register", CLIENT, "--profile", "backend", "--make-key", key)
        self._salus(*client, "--scope", SCOPE)
        asked = ("token", "--client", CLIENT, "--scope", SCOPE, "--minutes", str(MINUTES))
        return self._salus(*asked).strip()

    def _salus(self, *arguments: str) -> str:
        """What a command prints that is run to its end on the server's folders."""
        done = subprocess.run(
            [sys.executable, "-m", "salus", *arguments, *self._folders()],
            capture_output=True,
            text=True,
            env=self._environment,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"`salus {arguments[0]}` failed: {done.stderr.strip()}")
        return done.stdout

    def _folders(self) -> tuple[str, ...]:
        return "--data", str(self.folder), "--keys", str(self._root / "keys")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        shutil.rmtree(self._root, ignore_errors=True)

    async def restart(self) -> float:
        self._stop()
        began = time.perf_counter()
        self._start()
        while time.perf_counter() - began < START_SECONDS:
            if self._process and self._process.poll() is not None:
                raise BenchError(f"The server did not start:\n{self._log()}")
            try:
                (reply,) = await ask(self.address, self.address.request("GET", "/Patient?_count=1"))
            except OSError:
                await asyncio.sleep(0.01)
                continue
            if reply.status == 200:
                return time.perf_counter() - began
            raise BenchError(f"The server answers a first search with {reply.status}")
        raise BenchError(f"The server did not answer within {START_SECONDS:.0f} s:\n{self._log()}")

    def _start(self) -> None:
        command = [sys.executable, "-m", "salus", "serve", "--host", HOST]
        command += ["--port", str(self.address.port), *self._folders()]
        command += ["--open"] if self._open else []
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=self._environment,
                preexec_fn=self._pinned if self.core is not None else None,
            )
        self.pid = self._process.pid

    def _pinned(self) -> None:
        assert self.core is not None
        machine.pin(self.core)

    def _stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _log(self) -> str:
        text = (self._root / "log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-10:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
