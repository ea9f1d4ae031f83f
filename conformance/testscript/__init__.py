"""Runs R4 TestScripts over HTTP against any server, and reports.

https://hl7.org/fhir/R4/testscript.html
"""

from conformance.testscript.asserts import Validate
from conformance.testscript.engine import Engine, base_profiles
from conformance.testscript.html import html
from conformance.testscript.junit import junit
from conformance.testscript.report import test_report
from conformance.testscript.result import Action, Part, Run, Totals, succeeded, totals
from conformance.testscript.script import Script, ScriptError, suite
from conformance.testscript.wire import Limits, Target

__all__ = [
    "Action",
    "Engine",
    "Limits",
    "Part",
    "Run",
    "Script",
    "ScriptError",
    "Target",
    "Totals",
    "Validate",
    "base_profiles",
    "html",
    "junit",
    "succeeded",
    "suite",
    "test_report",
    "totals",
]
