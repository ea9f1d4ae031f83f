"""From files to lines: JSON and NDJSON, plain or gzip, each line with a key of its own.

https://hl7.org/fhir/R4/nd-json.html
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from salus.problem import Problem

LINES = frozenset({".ndjson", ".jsonl"})  # a document a line
WHOLE = frozenset({".json"})  # one document, however it is broken into lines
BLOCK = 1024 * 1024  # bytes read at once


class LoadError(Problem):
    """Nothing can be loaded, or nothing more; the text says why and what to do."""


class Unreadable(LoadError):
    """One file that cannot be read to its end; others may be."""


class Line(NamedTuple):
    """One document of a file. `key` names it wherever the file lies: the digest of the file and
    the number of the line, so that loading it again changes nothing."""

    path: Path
    number: int
    data: bytes
    key: str


def files(paths: Iterable[Path]) -> list[Path]:
    """The files to load, in order: those named, and what directories hold, by name. LoadError."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.is_file() and _form(each))
            if not inside:
                raise LoadError(f"{path} holds no .json, .ndjson or .jsonl file (or .gz of one)")
            found += inside
        elif not path.is_file():
            raise LoadError(f"{path} does not exist")
        elif _form(path) is None:
            raise LoadError(f"{path} is no .json, .ndjson or .jsonl file (or .gz of one)")
        else:
            found.append(path)
    return found


def lines(path: Path, advance: Callable[[int], None] = lambda read: None) -> Iterator[Line]:
    """The lines of one file that hold something; `advance` is told the bytes of the file that were
    read since the last call. Unreadable when it cannot be read to its end."""
    last = 0
    try:
        for line in _lines(path, advance):
            last = line.number
            yield line
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Unreadable(
            f"{path} cannot be read beyond line {last}: {reason}. {_then(last)}"
        ) from None


def _then(last: int) -> str:
    """What was done and what to do. A mended file has another digest, and so other keys."""
    if last == 0:
        return "Nothing of it was loaded: get a whole copy and load that"
    return (
        f"Its lines up to {last} were loaded, as if it ended there. Get a whole copy, and load "
        f"only what follows (tail -n +{last + 1}): in another file, the first lines would be "
        "another load"
    )


def _lines(path: Path, advance: Callable[[int], None]) -> Iterator[Line]:
    digest = _digest(path)
    with path.open("rb") as raw:
        at = 0
        documents = [_open(path, raw).read()] if _form(path) in WHOLE else _open(path, raw)
        for number, data in enumerate(documents, 1):
            stripped = data.strip().removeprefix(b"\xef\xbb\xbf")
            if stripped:
                yield Line(path, number, stripped, f"{digest}:{number}")
            now = raw.tell()
            advance(now - at)
            at = now


def _form(path: Path) -> str | None:
    """The suffix that says how a file is laid out, .gz left away; None when it is not ours."""
    named = path.with_suffix("") if path.suffix == ".gz" else path
    return named.suffix if named.suffix in LINES | WHOLE else None


def _open(path: Path, raw: IO[bytes]) -> IO[bytes]:
    if path.suffix != ".gz":
        return raw
    return io.BufferedReader(gzip.GzipFile(fileobj=raw), BLOCK)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
