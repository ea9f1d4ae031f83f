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

NAME = "salus"


def called() -> str:
    """`salus` where the shell finds it, otherwise the path of the one beside this Python."""
    beside = Path(sys.executable).with_name(NAME)
    if shutil.which(NAME) or not beside.is_file():
        return NAME
    here = Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)


@contextmanager
def owner_only() -> Iterator[None]:
    """Files and folders made meanwhile can be read by their owner only."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
