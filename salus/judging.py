"""What validation says of a text, against its lines: for the command and the page.

https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from conformance.json import parse
from conformance.outcome import FhirError, Issue
from conformance.profiles import Profiles
from conformance.source import Place, Source
from conformance.validator import LIMIT

WRONG = frozenset({"error", "fatal"})
_NO_ELEMENT = re.compile(r"has no element `(\w+)`")  # as the rule of structure says it


class Remark(NamedTuple):
    """An issue, and where it points in the text."""

    issue: Issue
    place: Place

    @property
    def is_wrong(self) -> bool:
        return self.issue.severity in WRONG


class Judged(NamedTuple):
    """A text and what is said of it, in the order of its lines; `more`: what is said when that is
    not all; `resources` counts those of the text."""

    lines: Sequence[str]
    remarks: tuple[Remark, ...]
    more: str = ""
    resources: int = 1

    @property
    def errors(self) -> int:
        return sum(each.is_wrong for each in self.remarks)

    @property
    def others(self) -> int:
        return len(self.remarks) - self.errors

    @property
    def counted(self) -> str:
        """How much was found, in words."""
        least = "at least " if self.more else ""
        found = f"{_counted(self.errors, 'error')}, {_counted(self.others, 'remark')} besides"
        return least + found


def judge(known: Profiles, data: bytes, asked: Sequence[str] = (), limit: int = LIMIT) -> Judged:
    """Validate a resource in JSON, and tell at most `limit` issues; what is no JSON gets that one
    remark, at the place where it stops being so."""
    text = data.decode("utf-8-sig", "replace")
    try:
        resource = parse(data.removeprefix(b"\xef\xbb\xbf"))
    except FhirError as error:
        place = _stop(text)
        return Judged(text.splitlines() or [""], tuple(Remark(e, place) for e in error.issues))
    source = Source(text)
    issues = known.validate(resource, asked, limit=limit)
    more = "".join(each.text for each in issues if each.code == "incomplete")
    remarks = [Remark(each, _place(source, each)) for each in issues if each.code != "incomplete"]
    remarks.sort(key=lambda each: each.place)
    return Judged(source.lines, tuple(remarks), more)


def judge_each(known: Profiles, data: bytes, asked: Sequence[str], limit: int) -> Judged:
    """The same of a resource, or of NDJSON: a resource a line."""
    lines = data.split(b"\n")
    if not is_ndjson(data):
        return judge(known, data, asked, limit)
    full = [(number, each) for number, each in enumerate(lines, 1) if each.strip()]
    remarks: list[Remark] = []
    more = ""
    for number, line in full:
        judged = judge(known, line, asked, limit)
        more = more or judged.more
        remarks += [Remark(e.issue, Place(number, e.place.column)) for e in judged.remarks]
    texts = [each.decode("utf-8-sig", "replace").rstrip("\r") for each in lines]
    return Judged(texts, tuple(remarks), more, len(full))


def is_ndjson(data: bytes) -> bool:
    """Whether each line is an object of its own."""
    full = [each for each in data.split(b"\n") if each.strip()]
    return len(full) > 1 and (_is_object(full[0]) or _is_object(full[-1]))


def _is_object(line: bytes) -> bool:
    """Whether a line is a whole object, as one of a document over several lines is not."""
    try:
        return bool(parse(line.removeprefix(b"\xef\xbb\xbf")))
    except FhirError:
        return False


def _place(source: Source, issue: Issue) -> Place:
    """What a type does not have is shown where it stands, not where its parent does."""
    found = _NO_ELEMENT.search(issue.text)
    return source.member(issue.expression, found[1]) if found else source.place(issue.expression)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _stop(text: str) -> Place:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return Place(error.lineno, error.colno)
    except (ValueError, RecursionError):
        pass
    return Place(1, 1)
