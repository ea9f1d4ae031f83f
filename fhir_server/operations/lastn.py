"""Observation/$lastn: the newest observations of a patient, some of each code.

https://hl7.org/fhir/R4/observation-operation-lastn.html
"""

from __future__ import annotations

import re

from conformance.outcome import FhirError
from fhir_server.core import Operation, Step
from fhir_server.interaction import Interaction, Parameters, Result
from fhir_server.operations.given import body, text
from fhir_server.operations.newest import Grouping, newest
from fhir_server.operations.searchset import links, searchset
from fhir_server.search import params
from fhir_server.search.results import context

TYPE = "Observation"
_SUBJECTS = frozenset({"patient", "subject"})
_NUMBER = re.compile(r"[0-9]{1,4}", re.ASCII)
_MOST = 100  # observations of one code
# Of a search what has no meaning here, since newest come first, and all of them.
_REFUSED = frozenset(
    {"_count", "_sort", "_include", "_revinclude", "_summary", "_elements", "_total", "_page"}
)
_BY_CODE = Grouping("code", "code", ("effectiveDateTime", "effectiveInstant", "effectivePeriod"))


async def run(step: Step, asked: Interaction) -> Result:
    """200 with a searchset, newest first. FhirError 400, 403, 413."""
    used = _used(asked)
    most = _max(used)
    pairs = [pair for pair in used if pair[0] != "max"]
    search = params.parse(TYPE, [*pairs, ("_sort", "-date")], context(step, asked.prefer.handling))
    found = await newest(step, search, most, _BY_CODE)
    to_itself = links(step, asked, used, None)
    return await searchset(
        step, asked, found, links=to_itself, total=len(found), notes=search.ignored
    )


def _used(asked: Interaction) -> Parameters:
    """The parameters of the URL and of the body. FhirError 400."""
    used = (*asked.parameters, *((name, text(value)) for name, value in body(asked)))
    names = {name.partition(":")[0] for name, _ in used}
    if names & _REFUSED:
        refused = ", ".join(sorted(names & _REFUSED))
        raise FhirError("not-supported", f"$lastn does not take {refused}", status=400)
    if not names & _SUBJECTS:
        raise FhirError("required", "$lastn needs patient or subject", status=400)
    return used


def _max(used: Parameters) -> int:
    values = [value for name, value in used if name == "max"]
    if not values:
        return 1
    number = int(values[0]) if _NUMBER.fullmatch(values[0]) else 0
    if len(values) > 1 or not 0 < number <= _MOST:
        raise FhirError("value", f"max is one number from 1 to {_MOST}", status=400)
    return number


OPERATION = Operation(
    "lastn",
    frozenset({"type"}),
    frozenset({TYPE}),
    False,
    "http://hl7.org/fhir/OperationDefinition/Observation-lastn",
    run,
    "s",
)
