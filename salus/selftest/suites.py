"""What the name of a suite means: one that comes with the product, all of them, or a file or folder
of scripts.

https://hl7.org/fhir/R4/testscript.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from conformance.suites import CORE, shipped
from conformance.testscript import Script, ScriptError, suite
from salus.problem import Problem

_TOLD = 5  # scripts that are named


def named(names: Sequence[str], fixtures: Sequence[Path] = ()) -> list[Script]:
    """The scripts of all names, each once. Problem."""
    found: list[Script] = []
    for name in names:
        found += [each for each in _of(name, fixtures) if each not in found]
    if not any(each.tests for each in found):
        said = ", ".join(each.place for each in found[:_TOLD])
        raise Problem(f"Nothing was run: there is no test in {said}")
    return found


def _of(name: str, fixtures: Sequence[Path]) -> Sequence[Script]:
    ours = shipped()
    if name == CORE:
        return tuple(ours.values())
    if name in ours:
        return (ours[name],)
    path = Path(name)
    if not path.exists():
        raise Problem(
            f"{name} is no file, no folder and no suite that comes with the product: `salus "
            "conformance list` names those"
        )
    try:
        return suite(path, fixtures)
    except ScriptError as error:
        raise Problem(str(error)) from None
