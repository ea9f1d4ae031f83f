"""Errors as answers: issues, the OperationOutcome that carries them, and the one exception.

https://hl7.org/fhir/R4/operationoutcome.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

# The HTTP status of each issue type, unless the one who raises knows better.
STATUS = {
    "invalid": 400,
    "structure": 400,
    "required": 422,
    "value": 400,
    "invariant": 422,
    "security": 403,
    "login": 401,
    "forbidden": 403,
    "processing": 422,
    "not-supported": 422,
    "duplicate": 409,
    "multiple-matches": 412,
    "not-found": 404,
    "deleted": 410,
    "too-long": 413,
    "code-invalid": 422,
    "extension": 422,
    "too-costly": 413,
    "business-rule": 422,
    "conflict": 409,
    "transient": 503,
    "lock-error": 503,
    "timeout": 503,
    "throttled": 429,
    "incomplete": 400,
    "exception": 500,
}

_MESSAGE_ID = "http://hl7.org/fhir/StructureDefinition/operationoutcome-message-id"


class Issue(NamedTuple):
    """One issue. `text` names the thing and the remedy and holds no patient data; `key` is the
    constraint's key where one was broken, or a code of `system`, which then tells more closely
    what it is; `message` is the id under which validators know the text."""

    severity: str
    code: str
    text: str
    expression: str | None = None
    key: str | None = None
    system: str | None = None
    message: str | None = None


class FhirError(Exception):
    """A refusal: its issues become the OperationOutcome, its status the HTTP status."""

    def __init__(
        self,
        code: str,
        text: str,
        expression: str | None = None,
        *,
        status: int | None = None,
        issues: Sequence[Issue] = (),
    ) -> None:
        super().__init__(text)
        self.issues = tuple(issues) or (Issue("error", code, text, expression),)
        self.status = status or STATUS[code]


def outcome(issues: Sequence[Issue]) -> dict[str, Any]:
    """The OperationOutcome of at least one issue."""
    return {"resourceType": "OperationOutcome", "issue": [_issue(each) for each in issues]}


def _issue(issue: Issue) -> dict[str, Any]:
    made: dict[str, Any] = {"severity": issue.severity, "code": issue.code}
    if issue.message:
        made["extension"] = [{"url": _MESSAGE_ID, "valueString": issue.message}]
    if issue.system:
        coding = {"system": issue.system, "code": issue.key}
        made["details"] = {"coding": [coding], "text": issue.text}
    elif issue.key:
        made["details"] = {"coding": [{"code": issue.key}], "text": issue.text}
    if not issue.system:
        made["diagnostics"] = issue.text
    if issue.expression:
        made["expression"] = [issue.expression]
    return made
