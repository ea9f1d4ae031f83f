"""What validation says of a text, against its lines: for the command and the page.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from conformance.json import parse
from conformance.outcome import FhirError, Issue
from conformance.profiles import Profiles
from conformance.source import Place, Source

WRONG = frozenset({"error", "fatal"})


class Remark(NamedTuple):
    """An issue, and where it points in the text."""

    issue: Issue
    place: Place

    @property
    def is_wrong(self) -> bool:
        return self.issue.severity in WRONG


class Judged(NamedTuple):
    """A text and what is said of it, in the order of its lines."""

    lines: Sequence[str]
    remarks: tuple[Remark, ...]

    @property
    def errors(self) -> int:
        return sum(each.is_wrong for each in self.remarks)

    @property
    def others(self) -> int:
        return len(self.remarks) - self.errors


def judge(known: Profiles, data: bytes, asked: Sequence[str] = ()) -> Judged:
    """Validate a resource in JSON; what is no JSON gets that one remark, at the place where it
    stops being so."""
    text = data.decode("utf-8-sig", "replace")
    try:
        resource = parse(data.removeprefix(b"\xef\xbb\xbf"))
    except FhirError as error:
        place = _stop(text)
        return Judged(text.splitlines() or [""], tuple(Remark(e, place) for e in error.issues))
    source = Source(text)
    issues = known.validate(resource, asked)
    remarks = [Remark(each, source.place(each.expression)) for each in issues]
    return Judged(source.lines, tuple(sorted(remarks, key=lambda each: each.place)))


def _stop(text: str) -> Place:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return Place(error.lineno, error.colno)
    except (ValueError, RecursionError):
        pass
    return Place(1, 1)
