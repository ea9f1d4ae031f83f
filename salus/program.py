"""How this program is called in what it tells people to type, and what it makes is its owner's.

https://man7.org/linux/man-pages/man2/umask.2.html
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

NAME = "salus"


def called() -> str:
    """The program as it was started: by its name where the shell finds the same one, by its path,
    by `uv run`, or by `python -m`."""
    if "UV_RUN_RECURSION_DEPTH" in os.environ:
        return f"uv run {NAME}"
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{_typed(Path(sys.executable))} -m {NAME}"
    beside = Path(sys.executable).with_name(NAME)
    program = started if started.name == NAME else beside
    return _typed(program.absolute()) if program.is_file() else NAME


def _typed(program: Path) -> str:
    """What a shell finds a program by: its name, or its path from here."""
    found = shutil.which(program.name)
    if found and Path(found).absolute() == program:
        return program.name
    here = Path.cwd()
    return quote(str(program.relative_to(here) if program.is_relative_to(here) else program))


@contextmanager
def owner_only() -> Iterator[None]:
    """Files and folders made meanwhile can be read by their owner only."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
