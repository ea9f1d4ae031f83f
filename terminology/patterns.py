"""Regular expressions of value sets, matched in linear time: value sets are anybody's input.

https://hl7.org/fhir/R4/valueset-filter-operator.html#valueset-filter-operator-regex
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import re2

from terminology.issues import refusal

LONGEST = 1_000  # characters of a pattern
_MEMORY = 1024 * 1024  # bytes that a compiled pattern may take

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = _MEMORY


@lru_cache(256)
def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether the whole of a text matches. FhirError for a pattern that is none, is too large, or
    needs more than linear time (back-references, look-around)."""
    if len(pattern) > LONGEST:
        raise _refused(f"A regex filter has at most {LONGEST} characters")
    try:
        compiled = re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        text = "A regex filter is not understood, or cannot be matched in linear time"
        raise _refused(text) from error
    match = compiled.fullmatch
    return lambda text: match(text) is not None


def _refused(text: str) -> Exception:
    return refusal("broken-set", text=text)
