"""A newcomer's terminal: the commands of a document, pasted as they are written."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# curl tells the status of each answer apart from the answer.
CURL = r"""curl() { command curl -w '%{stderr}%{http_code}\n' "$@"; }"""


class Printed(NamedTuple):
    """What a block printed, and the status of each answer to its curl, in order."""

    out: str
    statuses: list[int]


def blocks(document: str, begin: str, end: str) -> list[str]:
    """The fenced blocks of a document between two of its phrases."""
    text = (ROOT / document).read_text(encoding="utf-8")
    part = text.partition(begin)[2].partition(end)[0]
    assert part, f"{document} lacks {begin!r}"
    return [found[2] for found in FENCE.finditer(part)]


def paste(script: str, folder: Path, environment: Mapping[str, str]) -> Printed:
    """Run a block where `salus` and `python` are this environment's; every command must succeed."""
    own = {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", f"{CURL}\n{script}"],
        capture_output=True,
        text=True,
        env={**environment, **own},
        cwd=folder,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    statuses = re.findall(r"^(\d{3})$", done.stderr, re.MULTILINE)
    return Printed(done.stdout, [int(each) for each in statuses])
