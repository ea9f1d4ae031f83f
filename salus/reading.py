"""The files that a command is given to read.

https://docs.python.org/3.11/library/gzip.html
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from salus.problem import Problem


def content(path: Path) -> bytes:
    """What a file holds. Problem where there is none; OSError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Problem(f"There is no {path}") from None


def unpacked(path: Path) -> bytes:
    """The same, of `.gz` what is packed in it. Problem, also where that is damaged."""
    data = content(path)
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise Problem(f"{path} is damaged: it cannot be unpacked") from None
