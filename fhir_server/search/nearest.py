"""What was perhaps meant, for the text of a refusal.

https://hl7.org/fhir/R4/search.html#errors
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LENGTH = 64  # of a name that is worth comparing or repeating


def shown(name: str) -> str:
    """A name from the URL, as a refusal repeats it."""
    return name if len(name) <= _LENGTH else f"{name[:_LENGTH]}..."


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean ...?` with up to three names that are spelled alike, or nothing."""
    found = get_close_matches(name[:_LENGTH], list(names), n=3, cutoff=0.67)
    return f"; did you mean {' or '.join(f'`{each}`' for each in found)}?" if found else ""
