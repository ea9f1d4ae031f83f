"""Which changes come out the same whatever a resource says: who may not read it may make them.

https://hl7.org/fhir/R4/http.html#patch

Whether a patch succeeds tells its sender something: that an element was there to be deleted, that
none was where one is added, or by a rule of the type (obs-7 compares Observation.code with that of
a component) what an element says.
"""

from __future__ import annotations

import re
from functools import cache

from conformance.definitions import Definitions

# Types of values that refer to nothing, so that no contained resource hangs on them.
_PLAIN = frozenset({"boolean", "code", "date", "dateTime", "decimal", "instant", "integer"})
_ACTING = frozenset({"SearchParameter"})  # what the rest of it says is tried out when it is active
_NAME = re.compile(r"\w+")


def is_certain(definitions: Definitions, type: str, name: str) -> bool:
    """Whether replacing an element of a resource type succeeds on all valid resources or on none:
    one that must be there, once, of a plain type, and that no rule of the type mentions."""
    element = definitions.children(type).get(name)
    return (
        element is not None
        and (element.min, element.max) == (1, 1)
        and [each.code in _PLAIN for each in element.types] == [True]
        and type not in _ACTING
        and name not in _ruled(definitions, type)
    )


@cache
def _ruled(definitions: Definitions, type: str) -> frozenset[str]:
    """The names that the invariants of a type mention."""
    elements = definitions.structures[type].elements
    rules = (rule.expression for element in elements for rule in element.constraints)
    return frozenset(name for rule in rules for name in _NAME.findall(rule))
