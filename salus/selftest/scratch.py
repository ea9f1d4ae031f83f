"""A server of this build on a store of its own, which nothing survives: what suites are run on
where no address is named.

https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec

from salus.problem import Problem

HOST = "127.0.0.1"
SCOPE = "system/*.cruds"
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0


class Ready(NamedTuple):
    """Where the scratch server is, and the token that opens it."""

    url: str
    token: str


@contextmanager
def scratch() -> Iterator[Ready]:
    """A server on loopback, with data, keys and settings of its own: nothing of what is set here
    reaches it. Problem where it does not start."""
    folder = Path(tempfile.mkdtemp(prefix="salus-conformance-"))
    port = _free_port()
    child = subprocess.Popen(
        [sys.executable, "-m", "salus.selftest.serving", str(folder), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=clean_environment(),
        cwd=folder,
        start_new_session=True,  # Ctrl-C is for us; its input ends when we do
    )
    try:
        yield _until_ready(child, port)
    finally:
        _ended(child)
        shutil.rmtree(folder, ignore_errors=True)


def clean_environment() -> dict[str, str]:
    """The environment without any setting of ours, and with the modules that we run on."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith("SALUS_")}
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


def _until_ready(child: subprocess.Popen[bytes], port: int) -> Ready:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise Problem("The scratch server did not start")
    ready = msgspec.json.decode(line, type=Ready)
    until = time.monotonic() + _START_SECONDS
    with httpx.Client(trust_env=False, timeout=5) as client:
        while time.monotonic() < until and child.poll() is None:
            with suppress(httpx.TransportError):
                if client.get(f"http://{HOST}:{port}/health/ready").status_code == 200:
                    return ready
            time.sleep(0.05)
    raise Problem("The scratch server did not become ready")


def _ended(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None and child.stdout is not None
    child.stdin.close()
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
