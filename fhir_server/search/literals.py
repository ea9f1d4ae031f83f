"""How a search value is written: alternatives, parts, escapes, prefixes, and text made comparable.

https://hl7.org/fhir/R4/search.html#escaping
"""

from __future__ import annotations

import re
import unicodedata

PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")

# Text beyond this many characters is not compared: a key of an index must end somewhere, and a
# search value is far shorter. Both sides are cut alike, so an equal text stays equal.
TEXT = 4_096

_ESCAPED = re.compile(r"\\([\\,$|])")


def split(text: str, separator: str) -> list[str]:
    """The parts between separators (`,`, `|` or `$`) that no backslash escapes; escapes stay."""
    if "\\" not in text:
        return text.split(separator)
    parts: list[str] = []
    start = at = 0
    while at < len(text):
        if text[at] == separator:
            parts.append(text[start:at])
            start = at + 1
        at += 2 if text[at] == "\\" else 1
    return [*parts, text[start:]]


def unescape(text: str) -> str:
    r"""The text that `\,` `\|` `\$` and `\\` stand for."""
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def escape(text: str) -> str:
    """The text with its separators escaped, so that joined parts cannot be taken for others."""
    if "|" in text or "$" in text or "\\" in text:
        return text.replace("\\", r"\\").replace("|", r"\|").replace("$", r"\$")
    return text


def prefixed(text: str) -> tuple[str, str]:
    """The comparison prefix (`eq` when there is none) and what follows it."""
    return (text[:2], text[2:]) if text[:2] in PREFIXES else ("eq", text)


def fold(text: str) -> str:
    """What is compared: no case, no accents, single spaces, at most TEXT characters."""
    text = text[:TEXT]
    if not text.isascii():
        text = "".join(
            each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each)
        )
    return " ".join(text.casefold().split())[:TEXT]
