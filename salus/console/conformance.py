"""The self-test for administrators: the suites that come with the product, on a scratch store of
this build, as a picture of cells.

https://hl7.org/fhir/R4/testreport.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fastapi import APIRouter
from starlette.responses import Response

from conformance.testscript.html import MARKS, WORDS, milliseconds
from salus.console.page import Visit, download, go, render, signed_page
from salus.selftest.lines import Cell, Done
from salus.selftest.watched import Progress, SelfTest
from smart_auth.errors import OAuthError
from smart_auth.sessions import Signed

CONFORMANCE = "/conformance"
_FILE = f"{CONFORMANCE}/{{name}}"
_AGAIN_SECONDS = "2"  # until the page of a running test is asked for again
_FILES: Mapping[str, tuple[str, str]] = {  # what can be downloaded: field and media type
    "salus-conformance.json": ("report", "application/fhir+json"),
    "salus-conformance.xml": ("junit", "application/xml"),
    "salus-conformance.html": ("html", "text/html; charset=utf-8"),
}

router = APIRouter(include_in_schema=False)


class Shown(NamedTuple):
    """A test as a cell: `kind` is its outcome, or waiting."""

    name: str
    kind: str
    mark: str
    words: str
    took: str
    reason: str


class Row(NamedTuple):
    """A suite: `kind` is the worst of its cells."""

    title: str
    kind: str
    cells: list[Shown]
    passed: int


async def _page(visit: Visit, signed: Signed) -> Response:
    test = _self_test(visit, signed)
    if visit.request.method == "POST":
        test.start()
        return go(visit, CONFORMANCE)
    last = test.last
    rows = list(_rows(last)) if last else []
    cells = [each for row in rows for each in row.cells]
    kinds = [each.kind for each in cells]
    answer = render(
        visit,
        "conformance",
        last=last,
        running=last is not None and last.running,
        rows=rows,
        amiss=[
            (row.title, each)
            for row in rows
            for each in row.cells
            if each.kind in ("fail", "error", "skip", "warning")
        ],
        passed=kinds.count("pass") + kinds.count("warning"),
        failed=kinds.count("fail") + kinds.count("error"),
        skipped=kinds.count("skip"),
        every=len(cells),
        took=milliseconds(last.done.seconds) if last and last.done else "",
    )
    if last is not None and last.running:
        answer.headers["Refresh"] = _AGAIN_SECONDS
    return answer


async def _file(visit: Visit, signed: Signed) -> Response:
    """A result to keep."""
    last = _self_test(visit, signed).last
    name = visit.request.path_params["name"]
    done: Done | None = last.done if last else None
    if done is None or name not in _FILES:
        raise OAuthError("invalid_request", "There is no such result: run the self-test first")
    field, media_type = _FILES[name]
    content: str = getattr(done, field)
    return download(content.encode(), name, media_type)


def _self_test(visit: Visit, signed: Signed) -> SelfTest:
    """OAuthError for who is no administrator."""
    if not signed.account.administrator:
        raise OAuthError("access_denied", "This page is for administrators")
    found: SelfTest = visit.request.app.state.self_test
    return found


def _rows(progress: Progress) -> Iterator[Row]:
    for number, suite in enumerate(progress.suites):
        cells = [
            _shown(name, progress.cells.get((number, at))) for at, name in enumerate(suite.tests)
        ]
        kinds = {each.kind for each in cells}
        worst = next(
            (each for each in ("fail", "error", "waiting", "skip") if each in kinds), "pass"
        )
        passed = sum(each.kind in ("pass", "warning") for each in cells)
        yield Row(suite.title, worst, cells, passed)


def _shown(name: str, cell: Cell | None) -> Shown:
    if cell is None:
        return Shown(name, "waiting", "·", "not run yet", "", "")
    kind = cell.outcome
    return Shown(name, kind, MARKS[kind], WORDS[kind], milliseconds(cell.seconds), cell.reason)


router.get(CONFORMANCE)(signed_page(_page, CONFORMANCE))
router.post(CONFORMANCE)(signed_page(_page, CONFORMANCE))
router.get(_FILE)(signed_page(_file, CONFORMANCE))
