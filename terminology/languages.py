"""Which language a display is wanted in, and which designation answers that.

https://www.rfc-editor.org/rfc/rfc9110#name-accept-language, https://www.rfc-editor.org/rfc/rfc4647
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from conformance.outcome import FhirError

_TAG = re.compile(r"\*|[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*", re.ASCII)
_WEIGHT = re.compile(r"q\s*=\s*([01](?:\.\d{0,3})?)", re.ASCII)
_MOST = 50  # tags of one list


class Languages(NamedTuple):
    """The tags that are wanted, dearest first, without those of weight 0; `rest` says whether any
    other language will do (None: nothing was said); `written` is the list as it is told back."""

    tags: tuple[str, ...]
    rest: bool | None
    written: str

    @property
    def hard(self) -> bool:
        """Whether no other language is accepted, not even the system's own."""
        return self.rest is False


@lru_cache(256)
def languages(text: str | None) -> Languages | None:
    """A weighted list of language tags; None when it names none. FhirError for what is no list."""
    if text is None or not text.strip():
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > _MOST:
        raise _malformed()
    weighed = [_weighed(part) for part in parts]
    rest = next((weight > 0 for tag, weight in weighed if tag == "*"), None)
    ordered = sorted(
        (one for one in weighed if one[0] != "*" and one[1] > 0), key=lambda one: -one[1]
    )
    if not ordered and rest is not False:
        return None
    written = ", ".join(parts) if ";" in text else text.strip()
    return Languages(tuple(tag.lower() for tag, _ in ordered), rest, written)


def _weighed(part: str) -> tuple[str, float]:
    tag, _, parameter = (each.strip() for each in part.partition(";"))
    weight = _WEIGHT.fullmatch(parameter)
    if not _TAG.fullmatch(tag) or (parameter and weight is None):
        raise _malformed()
    return tag, float(weight[1]) if weight else 1.0


def _malformed() -> FhirError:
    text = "A list of languages is written de-CH, de;q=0.8, *;q=0.5"
    return FhirError("value", text, "displayLanguage")


def closeness(wanted: str, tag: str | None) -> int:
    """How well a language tag answers the one that is wanted (in lower case): 3 the same, 2 a
    region of it, 1 what it is a region of, 0 another language, or none that is told."""
    if tag is None:
        return 0
    other = tag.lower()
    if other == wanted:
        return 3
    if other.startswith(wanted + "-"):
        return 2
    return 1 if wanted.startswith(other + "-") else 0


def best(wanted: Languages, tags: Sequence[str | None]) -> int | None:
    """The index of the first tag that answers best what is wanted; else of one that tells no
    language, which may be any; None when there is none."""
    for each in wanted.tags:
        scores = [closeness(each, tag) for tag in tags]
        if (most := max(scores, default=0)) > 0:
            return scores.index(most)
    return tags.index(None) if None in tags else None


def answers(wanted: Languages, tag: str | None) -> bool:
    """Whether a tag is, or may be, of one of the languages that are wanted."""
    return tag is None or any(closeness(each, tag) for each in wanted.tags)
