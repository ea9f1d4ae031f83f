"""`salus validate`: what is wrong with resources in files, shown against their lines.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from salus.problem import Problem
from salus.reading import content, unpacked
from salus.terminal import err, explained, option, out

if TYPE_CHECKING:
    from conformance.packages import Packages
    from conformance.profiles import Profiles
    from salus.judging import Judged, Remark

_STANDARD_INPUT = "-"
_MOST = 10_000  # issues of a resource that are told
_WIDE = 100  # characters of a line that are shown
_TONES = {"fatal": "bold red", "error": "bold red", "warning": "yellow", "information": "blue"}


def validate(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Resources as JSON, or one a line (NDJSON), .gz too; directories of them; - for"
            " standard input."
        ),
    ],
    profile: Annotated[
        list[str] | None,
        option(help="Canonical url of a profile that they must meet; repeatable."),
    ] = None,
    package: Annotated[
        list[Path] | None,
        option(help="Package (.tgz) of profiles and value sets; repeatable."),
    ] = None,
    quiet: Annotated[bool, option("--errors", help="Show errors only.")] = False,
) -> None:
    """Validate resources by R4, the profiles that they claim, and those that you name.

    Each issue is shown under the line that it is about, with what would be right. The exit code is
    0 when nothing is wrong, 1 when a resource has an error, 2 when a file cannot be read. Nothing
    is sent anywhere, and no server is needed: what is known is R4 and what --package names.

    [bold]Examples[/]

      salus validate patient.json

      salus validate export/*.ndjson --errors

      salus validate *.json --package hl7.fhir.us.core-6.1.0.tgz --errors

      salus validate bundle.json --package ips.tgz --profile http://hl7.org/fhir/uv/ips/StructureDefinition/Bundle-uv-ips
    """
    with explained():
        wrong = _run(files, profile or [], package or [], quiet)
    if wrong:
        raise typer.Exit(1)


def _run(files: list[Path], asked: list[str], packages: list[Path], quiet: bool) -> bool:
    from salus.judging import judge_each

    named = list(_files(files))
    known, library = _profiles(packages)
    for canonical in asked:
        if known.shelf.compiled(canonical) is None:
            raise Problem(_unknown(canonical, library, bool(packages)))
    wrong = False
    for file in named:
        judged = judge_each(known, _text(file), asked, _MOST)
        _show(file, judged, quiet)
        wrong = wrong or judged.errors > 0
    return wrong


def _files(paths: list[Path]) -> Iterator[Path]:
    """What is meant: files, and those in directories. Problem for a directory that has none."""
    for path in paths:
        if path.is_dir():
            from salus.load.sources import files

            yield from files([path])
        else:
            yield path


def _text(file: Path) -> bytes:
    """Problem for what is no text, which is no resource in any form."""
    data = sys.stdin.buffer.read() if str(file) == _STANDARD_INPUT else unpacked(file)
    try:
        data.decode()
    except UnicodeDecodeError:
        raise Problem(
            f"{file} is no text in UTF-8: is it an archive, or in another form?"
        ) from None
    return data


def _unknown(canonical: str, library: Packages, named: bool) -> str:
    """That a profile is not known, and which are called like it."""
    known = [(str(each.url), each.version) for _, each in library.each("StructureDefinition")]
    url, _, version = canonical.partition("|")
    near = sorted({f"{one}|{other}" for one, other in known if one == url and version})
    near = near or sorted({one for one, _ in known if one.endswith(f"/{url}")})
    near = near or get_close_matches(url, sorted({one for one, _ in known}), 2, 0.9)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    if not named:
        return f"No profile {canonical} is known: name its package with --package{meant}"
    return f"The packages that are named have no profile {canonical}{meant}"


def _profiles(packages: list[Path]) -> tuple[Profiles, Packages]:
    """What resources are held to, and what the packages hold. Problem for what is no package."""
    from conformance.packages import PackageError, Packages, read
    from fhir_server.packages.guides import Current

    found = []
    for each in packages:
        try:
            with err.status(f"reading {each.name}"):
                found.append(read(content(each)))
        except PackageError as error:
            raise Problem(f"{each}: {error}") from error
    library = Packages(found)
    return Current(library).profiles, library


def _show(file: Path, judged: Judged, quiet: bool) -> None:
    shown = [each for each in judged.remarks if each.is_wrong or not quiet]
    summary = Text(f"{file}: ", "bold")
    if judged.resources > 1:
        summary.append(f"{judged.resources:,} resources, ")
    said = judged.counted if judged.remarks else "nothing was found"
    summary.append(said, "bold red" if judged.errors else "green")
    if judged.more:
        summary.append(f". {judged.more}")
    out.print(summary, soft_wrap=True)
    for each in shown:
        _tell(each, judged.lines)


def _tell(remark: Remark, lines: Sequence[str]) -> None:
    issue, (line, column) = remark.issue, remark.place
    tone = _TONES.get(issue.severity, "")
    text = lines[line - 1] if line <= len(lines) else ""
    begin = max(0, column - _WIDE // 2) if len(text) > _WIDE else 0
    part = text[begin : begin + _WIDE].replace("\t", " ")
    margin = f"{line:>6} | "
    out.print(Text(margin + part), soft_wrap=True)
    caret = Text(" " * (len(margin) + column - 1 - begin))
    caret.append("^", tone)
    out.print(caret, soft_wrap=True)
    said = Text(f"       {issue.severity}", tone)
    if issue.expression:
        said.append(f" {issue.expression}", "dim")
    out.print(said.append(f": {issue.text}", "not dim"), soft_wrap=True)
