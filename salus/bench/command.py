"""`salus bench`: run every phase against one server, print the tables, write the figures.

https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from rich.console import Console

from salus.bench import machine
from salus.bench.phases import QUICK, Run, Times
from salus.bench.report import report
from salus.bench.shapes import read_shapes
from salus.bench.subject import BenchError, OwnServer, Subject

FILES = {
    "bench60": "smart-bench60.ndjson.gz",
    "full615": "smart-615.ndjson.gz",
    "us80": "us80.ndjson.gz",
}


class Asked(NamedTuple):
    """The options of the command. `open`: of a server of our own, that it asks for no token."""

    url: str | None
    pid: int | None
    folder: Path | None
    tier: str
    quick: bool
    output: Path
    token: str | None = None
    open: bool = False


def run(asked: Asked, console: Console) -> None:
    """Measure, print and write. BenchError."""
    folder = _folder(asked.folder)
    if asked.tier not in FILES:
        raise BenchError(f"There is no tier {asked.tier}; there are {', '.join(FILES)}")
    path = folder / FILES[asked.tier]
    if not path.is_file():
        raise BenchError(f"{path} does not exist")
    available = machine.cores()
    apart = len(available) >= 2
    if apart:
        machine.pin(available[-1])
    with _subject(asked, available[0] if apart else None) as subject:
        figures = _figures(asked, subject, path, folder, console)
    figures["pinned"] = (
        "server on one core, load on another"
        if apart and asked.url is None
        else "nothing pinned: server and load share cores"
    )
    asked.output.write_text(json.dumps(figures, indent=1) + "\n")
    report(figures, read_shapes(folder / "queries.json"), console)
    console.print(f"All figures are in {asked.output}")


def _figures(
    asked: Asked, subject: Subject, path: Path, folder: Path, console: Console
) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "tier": asked.tier,
        "quick": asked.quick,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": version("salus-fhir"),
        "url": subject.url,
        "authenticated": subject.authenticated,
    }
    with tempfile.TemporaryDirectory(prefix="salus-bench-") as place:
        figures["machine"] = machine.describe(Path(place))
    made = Run(
        subject,
        path,
        asked.tier,
        read_shapes(folder / "queries.json"),
        QUICK if asked.quick else Times(),
        told=lambda name: console.print(f"[dim]{name} ...[/]"),
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures |= runner.run(made.all())
    except OSError as error:
        raise BenchError(f"The server at {subject.url} broke off: {error}") from None
    if asked.url is None:
        console.print("[dim]audit ...[/]")
        figures["audit"] = _audit()
    return figures


def _audit() -> dict[str, Any]:
    from salus.bench.audit import audit_cost

    with tempfile.TemporaryDirectory(prefix="salus-bench-") as place:
        return asyncio.run(audit_cost(Path(place)))


@contextlib.contextmanager
def _subject(asked: Asked, core: int | None) -> Iterator[Subject]:
    if asked.url is not None:
        yield Subject(asked.url, asked.pid, asked.token or "")
        return
    with OwnServer(core, open=asked.open) as server:
        yield server


def _folder(named: Path | None) -> Path:
    """Where the sets and queries.json are."""
    if named is None:
        data = os.environ.get("SALUS_TEST_DATA")
        if not data:
            raise BenchError(
                "The benchmark needs the Synthea sets: name their folder with --folder, "
                "or the folder above data/synthea with SALUS_TEST_DATA"
            )
        named = Path(data) / "data" / "synthea"
    if not (named / "queries.json").is_file():
        raise BenchError(f"{named} holds no queries.json")
    return named
