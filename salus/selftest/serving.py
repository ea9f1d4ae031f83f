"""The scratch server, in a process of its own: `python -m salus.selftest.serving FOLDER PORT`. It
ends when its input does, so that it outlives nobody, and removes its folder.

https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from threading import Thread

import msgspec
from rich.console import Console

from salus.operator.ask import ask
from salus.operator.requests import IssueToken, Token
from salus.program import owner_only
from salus.selftest.scratch import HOST, SCOPE, Ready
from salus.serve import serve
from salus.settings import Settings

_MINUTES = 120  # that the token lives


def main(folder: Path, port: int) -> None:
    """Make a store, print the token that opens it, and serve it."""
    settings = Settings(host=HOST, port=port, data=folder / "data", keys=folder / "keys")
    try:
        with owner_only():
            token = ask(
                settings, IssueToken(client=None, scope=SCOPE, minutes=_MINUTES), Token
            ).token
            print(msgspec.json.encode(Ready(settings.fhir_base, token)).decode(), flush=True)
            Thread(target=_end_with_input, daemon=True).start()
            with (folder / "log").open("w", encoding="utf-8") as log:
                serve(settings, Console(file=log))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _end_with_input() -> None:
    """Whoever started us holds the other end; it closes when they end, however that comes."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
