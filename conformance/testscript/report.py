"""What became of a script as a TestReport.

https://hl7.org/fhir/R4/testreport.html
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from conformance.testscript.result import Action, Part, Run

ENGINE = "urn:salus:testscript-engine"
_RESULTS = {"pass": "pass", "fail": "fail", "error": "fail", "skip": "pending"}


def test_report(run: Run) -> dict[str, Any]:
    """The TestReport of a run; its details are the URLs that were asked."""
    made: dict[str, Any] = {
        "resourceType": "TestReport",
        "name": run.script.name,
        "status": "completed",
        "testScript": _script(run),
        "result": _RESULTS[run.outcome],
        "score": _score(run),
        "tester": "Salus",
        "issued": run.began.isoformat(timespec="milliseconds"),
        "participant": [
            {"type": "test-engine", "uri": ENGINE, "display": "Salus TestScript engine"},
            {"type": "server", "uri": run.server},
        ],
    }
    if run.note:
        made["text"] = _narrative(run.note)
    for kind in ("setup", "test", "teardown"):
        parts = [_part(each) for each in run.parts if each.kind == kind and each.actions]
        if parts:
            made[kind] = parts if kind == "test" else parts[0]
    return made


def _script(run: Run) -> dict[str, Any]:
    resource = run.script.resource
    made = {"display": run.script.title}
    if id := resource.get("id"):
        made["reference"] = f"TestScript/{id}"
    return made


def _score(run: Run) -> Decimal:
    """Tests that passed, in percent."""
    passed = sum(each.outcome == "pass" for each in run.tests)
    return Decimal(100 * passed) / Decimal(len(run.tests) or 1) if passed else Decimal(0)


def _part(part: Part) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if part.kind == "test":
        made["name"] = part.name
        if part.about:
            made["description"] = part.about
    actions: Sequence[Action] = part.actions
    made["action"] = [{each.kind: _action(each)} for each in actions]
    return made


def _action(action: Action) -> dict[str, Any]:
    said = f"{action.about}: {action.message}" if action.about else action.message
    made = {"result": action.outcome, "message": said or action.outcome}
    if action.url and " " not in action.url:
        made["detail"] = action.url
    return made


def _narrative(text: str) -> dict[str, str]:
    plain = text.replace("&", "&amp;").replace("<", "&lt;")
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{plain}</div>'
    return {"status": "generated", "div": div}
