"""How an assertion compares what was found with what is expected.

https://hl7.org/fhir/R4/valueset-assert-operator-codes.html
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from conformance.testscript.message import ActionError

_REGEX = (
    "import json,re,sys;a=json.load(sys.stdin);"
    "print(int(bool(re.search(a[0],a[1],re.DOTALL|re.IGNORECASE))))"
)
_REGEX_LONGEST = 2000  # characters of a pattern

Compare = Callable[[Sequence[str], str], bool]


def _ordered(one: str, other: str) -> int:
    """-1, 0 or 1: as numbers where both are, else as texts, which is right for dates."""
    try:
        a, b = Decimal(one), Decimal(other)
    except InvalidOperation:
        return (one > other) - (one < other)
    return (a > b) - (a < b)


def _listed(expected: str) -> list[str]:
    return [each.strip() for each in expected.split(",")]


# By operator: the values found, of which there may be several, and the one expected. Equal is equal
# as it is written: 72.5 is not 72.50, for the digits of a decimal say how precise it is.
OPERATORS: Mapping[str, Compare] = {
    "equals": lambda found, wanted: bool(found) and found[0] == wanted,
    "notEquals": lambda found, wanted: not (found and found[0] == wanted),
    "in": lambda found, wanted: bool(found) and all(each in _listed(wanted) for each in found),
    "notIn": lambda found, wanted: not any(each in _listed(wanted) for each in found),
    "greaterThan": lambda found, wanted: bool(found) and _ordered(found[0], wanted) > 0,
    "lessThan": lambda found, wanted: bool(found) and _ordered(found[0], wanted) < 0,
    "empty": lambda found, wanted: not any(found),
    "notEmpty": lambda found, wanted: any(found),
    "contains": lambda found, wanted: any(wanted in each for each in found),
    "notContains": lambda found, wanted: not any(wanted in each for each in found),
}
UNARY = frozenset({"empty", "notEmpty"})


def compared(operator: str, found: Sequence[str], wanted: str, seconds: float) -> bool:
    """Whether what was found is as expected. ActionError for an operator that is not known."""
    if operator == "matchesRegex":
        return any(matches(wanted, each, seconds) for each in found)
    compare = OPERATORS.get(operator)
    if compare is None:
        raise ActionError(f"{operator} is no operator of R4 here")
    return compare(found, wanted)


def matches(pattern: str, text: str, seconds: float) -> bool:
    """Whether a regular expression is found in a text, the dot for line ends too, in any case. A
    script's pattern may take for ever, so it is tried in a process that can be ended.
    ActionError."""
    if len(pattern) > _REGEX_LONGEST:
        raise ActionError(f"The pattern has more than {_REGEX_LONGEST} characters")
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _REGEX],
            input=json.dumps([pattern, text]),
            capture_output=True,
            text=True,
            timeout=seconds + 1,  # that a process takes to start
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ActionError(f"The pattern takes more than {seconds:g} s on this text") from None
    if done.returncode:
        raise ActionError("The pattern is no regular expression")
    return done.stdout.strip() == "1"
