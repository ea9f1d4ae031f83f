"""The files that tell of a run: a TestReport of each script, JUnit XML, and one page.

https://hl7.org/fhir/R4/testreport.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conformance.json import encode, pretty
from conformance.testscript import Run, html, junit, test_report
from salus.problem import Problem

TITLE = "FHIR R4 conformance"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Reports:
    """Where results are to go. `written` are the files that were."""

    def __init__(self, folder: Path | None, junit: Path | None, html: Path | None) -> None:
        self._folder, self._junit, self._html = folder, junit, html
        self.written: list[Path] = []

    def check(self) -> None:
        """Problem where a file cannot be written: before the suites are run."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        for each in (self._junit, self._html):
            if each is not None and not each.absolute().parent.is_dir():
                raise Problem(f"There is no folder {each.parent} to write {each.name} in")

    def write(self, runs: Sequence[Run]) -> None:
        if self._folder is not None:
            for number, run in enumerate(runs, 1):
                name = _UNSAFE.sub("-", run.script.name).strip("-")[:80]
                data = pretty(encode(test_report(run)))
                self._put(self._folder / f"TestReport-{number:03d}-{name}.json", data)
        if self._junit is not None:
            self._put(self._junit, junit(runs).encode())
        if self._html is not None:
            self._put(self._html, html(runs, TITLE).encode())

    def _put(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        self.written.append(path)


def collection(runs: Sequence[Run]) -> dict[str, Any]:
    """All TestReports in one Bundle."""
    entries = [{"resource": test_report(each)} for each in runs]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}
