"""Whether a version stands under the patient whose data it is: then nobody else reads it, and it is
erased with them.

https://hl7.org/fhir/R4/compartmentdefinition-patient.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from conformance.json import parse
from fhir_server.storage.sqlite.proving import Recorded

OwnerOf: TypeAlias = Callable[[str, dict[str, Any]], str | None]

_PATIENT = "Patient"
_NAMED = re.compile(rb"Patient/([A-Za-z0-9\-.]{1,64})")
_QUOTE = ord('"')


def is_misplaced(record: Recorded, redacted: bool, owner_of: OwnerOf) -> bool:
    """Whether a version that can be read, and is no deletion, is another's than its row says. What
    names one patient by itself, or none, needs no second look. What an address names depends on the
    address that this server had: where there is one, it is enough that the owner is named. Of what
    was redacted somebody is not named any more."""
    if record.type == _PATIENT:
        return record.owner != f"{_PATIENT}/{record.id}"
    own = (record.owner or "/").partition("/")[2].encode()
    named, elsewhere = _mentioned(record.content)
    if not elsewhere and named == ({own} if own else set()):
        return False
    try:
        derived = owner_of(record.type, parse(record.content))
    except Exception:  # it was valid by another word, and nobody can say whose it is
        return False
    if derived == record.owner:
        return False
    if redacted:
        return derived is not None and record.owner is not None
    if elsewhere:
        return bool(own) and own not in named | elsewhere
    return bool(own) or len(named) == 1  # of several, an older version may have made nobody's


def _mentioned(content: bytes) -> tuple[set[bytes], set[bytes]]:
    """The ids of the patients that are named by themselves, and of those within something."""
    named, elsewhere = set[bytes](), set[bytes]()
    for found in _NAMED.finditer(content):
        alone = content[found.start() - 1] == _QUOTE
        (named if alone else elsewhere).add(found[1])
    return named, elsewhere
