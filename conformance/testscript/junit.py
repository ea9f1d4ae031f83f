"""What became of scripts as JUnit XML, for build servers.

https://github.com/testmoapp/junitxml
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from conformance.testscript.result import Part, Run, totals

_ELEMENTS = {"fail": "failure", "error": "error", "skip": "skipped"}


def junit(runs: Sequence[Run]) -> str:
    """A suite for each script, a case for each test and for a setup that did not hold."""
    counted = totals(list(runs))
    seconds = sum(each.seconds for each in runs)
    opening = (
        f'<testsuites name="TestScripts" tests="{counted.all}" failures="{counted.failed}" '
        f'skipped="{counted.skipped}" time="{seconds:.3f}">'
    )
    suites = "\n".join(line for run in runs for line in _suite(run))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{opening}\n{suites}\n</testsuites>\n'


def _suite(run: Run) -> Iterator[str]:
    cases = [
        each
        for each in run.parts
        if each.kind == "test" or (each.kind == "setup" and each.outcome in ("fail", "error"))
    ]
    found = [each.outcome for each in cases]
    yield (
        f'<testsuite name={_attribute(run.script.name)} tests="{len(cases)}" '
        f'failures="{found.count("fail")}" errors="{found.count("error")}" '
        f'skipped="{found.count("skip")}" time="{run.seconds:.3f}" '
        f'timestamp="{run.began.replace(tzinfo=None).isoformat(timespec="seconds")}">'
    )
    for each in cases:
        yield _case(run, each)
    yield "</testsuite>"


def _case(run: Run, part: Part) -> str:
    opening = (
        f"<testcase classname={_attribute(run.script.name)} name={_attribute(part.name)} "
        f'time="{part.seconds:.3f}"'
    )
    element = _ELEMENTS.get(part.outcome)
    if element is None:
        return f"{opening}/>"
    lines = "\n".join(f"{each.outcome}: {each.about} {each.message}" for each in part.actions)
    body = f">{escape(_plain(lines))}</{element}>" if element != "skipped" else "/>"
    return f"{opening}><{element} message={_attribute(part.reason)}{body}</testcase>"


def _attribute(text: str) -> str:
    return quoteattr(_plain(text))


def _plain(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(each for each in text if each >= " " or each in "\n\t")
