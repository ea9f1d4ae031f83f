"""`salus conformance`: run TestScripts against any FHIR server, and tell what it does and does not.

https://hl7.org/fhir/R4/testscript.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column, Table

from salus.problem import Problem
from salus.terminal import command, err, explained, group, listing, option, out

if TYPE_CHECKING:
    from conformance.testscript import Engine, Part, Run, Script
    from salus.selftest.asked import Asked
    from salus.selftest.reports import Reports

app = group("conformance", "Run TestScripts against a FHIR server.")

_NO_TOKEN = (
    "No token was shown. If the server wants one: --token, SALUS_TOKEN, --client with --key; for a "
    "server of your own SALUS_DATA and SALUS_KEYS"
)
_NOT_TAKEN = (
    "The server answers 401 although a token was shown: it may have expired, or be another server's"
)
_TITLE = 72  # characters of a script's name in the table
_COLOURS = {"pass": "green", "fail": "red", "error": "magenta", "skip": "dim"}

Suites = Annotated[
    list[str],
    typer.Argument(
        metavar="SUITE",
        help="Files or folders of TestScripts, `core`, or a name of `salus conformance list`.",
    ),
]
Token = Annotated[
    str | None,
    option(
        help="Access token to show [SALUS_TOKEN; the operator's own, where we can read the "
        "server's data and keys].",
        envvar="SALUS_TOKEN",
        show_envvar=False,
    ),
]
Headers = Annotated[
    list[str] | None, option(help="Header for every request, NAME: VALUE; repeatable.")
]
Destinations = Annotated[
    list[str] | None,
    option(help="Address of another destination of the scripts, N=URL; repeatable."),
]
Given = Annotated[
    list[str] | None,
    option("--set", help="Value of a script's variable, NAME=VALUE; repeatable."),
]
Fixtures = Annotated[
    list[Path] | None, option(help="Another folder to find fixtures in; repeatable.")
]
PackageFiles = Annotated[
    list[Path] | None,
    option(help="Package (.tgz) whose profiles scripts validate by; repeatable."),
]


@command(app)
def run(
    suites: Suites,
    url: Annotated[
        str | None, option(help="FHIR base of the server [a scratch server of this build].")
    ] = None,
    token: Token = None,
    client: Annotated[
        str | None, option(help="Ask for a token as this backend service, with --key.")
    ] = None,
    key: Annotated[Path | None, option(help="Its private key (JWK).")] = None,
    scope: Annotated[str, option(help="What it asks for.")] = "system/*.cruds",
    header: Headers = None,
    destination: Destinations = None,
    given: Given = None,
    fixtures: Fixtures = None,
    package: PackageFiles = None,
    report: Annotated[Path | None, option(help="Folder for a TestReport of each script.")] = None,
    junit: Annotated[Path | None, option(help="File for JUnit XML.")] = None,
    html: Annotated[Path | None, option(help="File for one page with all results.")] = None,
    parallel: Annotated[int, option(min=1, max=16, help="Scripts at once.")] = 1,
    timeout: Annotated[float, option(min=0.1, max=3600, help="Seconds for an answer.")] = 60.0,
    ca: Annotated[Path | None, option(help="Certificate to trust as well (PEM).")] = None,
) -> None:
    """Run suites, show what came of each test, and exit with 1 when one failed.

    Scripts create, change and delete what they name: point them at a server for tests. Without
    --url they run on a scratch server of this build, which is gone afterwards.

    [bold]Examples[/]

      salus conformance run core

      salus conformance run core --url http://localhost:8080/fhir --html report.html

      salus conformance run ./suites --url https://fhir.example --client tester --key key.jwk
    """
    from conformance.testscript import Engine, Limits, succeeded
    from salus.selftest.asked import Asked, target
    from salus.selftest.profiles import by_packages
    from salus.selftest.reports import Reports
    from salus.selftest.suites import named

    with explained():
        scripts = named(suites, fixtures or ())
        asked = Asked(url, token, client, key, scope, header or (), destination or (), ca)
        asked = asked._replace(token=_own(url) if url and _is_nobody(asked) else token)
        reports = Reports(report, junit, html)
        reports.check()
        with target(asked) as found:
            engine = Engine(
                found,
                validate=by_packages(package or ()),
                limits=Limits(seconds=timeout),
                given=_pairs(given or ()),
            )
            runs = _run(engine, scripts, parallel)
        reports.write(runs)
    _print(runs, reports)
    if not succeeded(runs):
        raise _failed(asked, runs)


@command(app, "list")
def list_suites() -> None:
    """Name the suites that come with the product; `core` is all of them."""
    from conformance.suites import shipped

    rows = [(name, str(len(each.tests)), each.title) for name, each in shipped().items()]
    listing(("Suite", "Tests", "What it is about"), rows)
    if out.is_terminal:
        out.print(f"{sum(int(tests) for _, tests, _ in rows)} tests in all: [bold]core[/]")


def _own(url: str) -> str | None:
    """The operator's token, where the server at an address has the data folder of the settings and
    that and its keys are ours to read; elsewhere whoever asks must name one."""
    from salus.load.command import own_token
    from salus.operator.running import serves
    from salus.settings import read_settings

    settings = read_settings()
    ours = not settings.open and serves(settings, url)
    return own_token(settings) if ours else None


def _is_nobody(asked: Asked) -> bool:
    """Whether the server is not told who asks."""
    authorized = any(each.lower().startswith("authorization:") for each in asked.headers)
    return not (asked.token or asked.client or authorized)


def _failed(asked: Asked, runs: Sequence[Run]) -> typer.Exit:
    """The end of a run of which something failed."""
    if asked.url is not None and _is_nobody(asked):
        err.print(_NO_TOKEN, highlight=False, soft_wrap=True)
    elif (answers := _operations(runs)) and all("answers 401" in each for each in answers):
        err.print(_NOT_TAKEN, highlight=False, soft_wrap=True)
    return typer.Exit(1)


def _operations(runs: Sequence[Run]) -> list[str]:
    """What was asked by all operations that were carried out, with the status of the answer."""
    actions = [each for run in runs for part in run.parts for each in part.actions]
    done = [each for each in actions if each.kind == "operation" and each.outcome != "skip"]
    return [each.message for each in done]


def _pairs(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise Problem(f"--set takes NAME=VALUE, not {each}")
        found[name] = value
    return found


def _run(engine: Engine, scripts: Sequence[Script], parallel: int) -> list[Run]:
    with _progress(sum(len(each.tests) for each in scripts)) as told:
        return engine.run_all(scripts, parallel=parallel, told=told)


@contextmanager
def _progress(tests: int) -> Iterator[_Bar]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=out, transient=True) as shown:
        yield _Bar(shown, tests)


class _Bar:
    """Tells each test that was run, while others are."""

    def __init__(self, shown: Progress, tests: int) -> None:
        self._shown = shown
        self._task = shown.add_task("running", total=tests)

    def __call__(self, script: Script, part: Part) -> None:
        if part.kind != "test":
            return
        name = escape(f"{script.title}: {part.name}"[:60])
        self._shown.update(self._task, advance=1, description=name)


def _print(runs: Sequence[Run], reports: Reports) -> None:
    """What came of each script, and why not where it did not."""
    from conformance.testscript import totals

    first = Column("Script", no_wrap=True, overflow="ellipsis", max_width=_TITLE)
    table = Table(first, "Passed", "Failed", "Skipped", "Time", box=None, pad_edge=False)

    for each in runs:
        passed, failed, skipped = totals([each])
        colour = _COLOURS[each.outcome]
        name = "/".join(filter(None, (each.script.group, each.script.title)))
        took = f"{each.seconds * 1000:,.0f} ms"
        table.add_row(
            f"[{colour}]{escape(name)}[/]", *(str(n or "") for n in (passed, failed, skipped)), took
        )
    out.print(table)
    for each in runs:
        for part in each.parts:
            if part.outcome in ("fail", "error"):
                _because(each, part)
        if each.outcome == "skip":
            out.print(f"[dim]skipped[/] {escape(each.script.title)}: {escape(each.note)}")
    for line in _written(reports.written):
        out.print(line, highlight=False, soft_wrap=True)
    counted, undone = totals(list(runs)), _undone(runs)
    verdict = f"{counted.passed} passed, {counted.failed} failed, {counted.skipped} skipped"
    if undone:
        verdict += f"; [red]{undone} of them not done, since a setup did not hold[/]"
    out.print(f"[bold]{verdict}[/]", soft_wrap=True)


def _undone(runs: Sequence[Run]) -> int:
    """The tests that were skipped because what should come before them did not succeed."""
    return sum(
        part.outcome == "skip"
        for run in runs
        if any(each.kind == "setup" and each.outcome in ("fail", "error") for each in run.parts)
        for part in run.tests
    )


def _written(paths: Sequence[Path]) -> Iterator[str]:
    """A line for each folder with several files, and for each other file."""
    in_folder = Counter(each.parent for each in paths if each.suffix == ".json")
    for folder, count in in_folder.items():
        yield f"written: {count} TestReports in {escape(str(folder))}"
    for each in paths:
        if each.suffix != ".json":
            yield f"written: {escape(str(each))}"


def _because(run: Run, part: Part) -> None:
    mark = f"[{_COLOURS[part.outcome]}]{part.outcome}[/]"
    where = escape(f"{run.script.title}: {part.name}")
    out.print(f"{mark} {where}\n     {escape(part.reason)}", highlight=False, soft_wrap=True)
