"""The `phonetic` parameters: names found by how they sound, with the Soundex code of each word.

https://hl7.org/fhir/R4/patient.html#search, https://www.archives.gov/research/census/soundex
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fhir_server.search.context import Modifiers, SearchContext, malformed
from fhir_server.search.limit import bounded
from fhir_server.search.literals import fold, unescape
from fhir_server.search.parameters import Parameter
from fhir_server.search.place import Add, Factory, Place, Writer, token_entry
from fhir_server.search.ranges import any_of
from fhir_server.storage.store import All, Condition, Match, Query

_WORD = re.compile(r"[^\W_]+")
_DIGITS = {
    letter: digit
    for digit, letters in enumerate(("bfpv", "cgjkqsxz", "dt", "l", "mn", "r"), start=1)
    for letter in letters
}


def soundex(word: str) -> str:
    """The Soundex code of a folded word; the word itself where it has other than Latin letters."""
    if not (word.isascii() and word.isalpha()):
        return word
    code, before = word[0].upper(), _DIGITS.get(word[0])
    for letter in word[1:]:
        digit = _DIGITS.get(letter)
        if digit and digit != before:
            code += str(digit)
        if letter not in "hw":  # these do not part two letters of one sound
            before = digit
    return code[:4].ljust(4, "0")


def _sounds(text: str) -> list[str]:
    return [soundex(word) for word in _WORD.findall(fold(text))]


def _name(param: str, _: Place) -> Writer:
    def write(value: Any, add: Add) -> None:
        parts = _spoken(value) if isinstance(value, dict) else [value]
        for part in bounded(parts, param):
            for sound in _sounds(part) if isinstance(part, str) else ():
                add(token_entry(param, None, sound))

    return write


def _spoken(name: dict[str, Any]) -> list[object]:
    """The given and family names; of a name that is only text, that."""
    parts = [name.get("family"), *(name.get("given") or ())]
    return parts if any(parts) else [name.get("text")]


WRITERS: Mapping[str, Factory] = {"HumanName": _name, "string": _name}


def _alike(parameter: Parameter, values: Sequence[str], _: SearchContext) -> Query:
    """Every word of some value sounds like a word of the name."""
    asked = [_sounds(unescape(each)) for each in values]
    if not all(asked):
        raise malformed(f"`{parameter.code}` of {parameter.type} needs a name")
    return any_of(
        [
            All(
                tuple(
                    Match(parameter.code, "token", (Condition("code", "eq", sound),))
                    for sound in dict.fromkeys(sounds)
                )
            )
            for sounds in asked
        ]
    )


MODIFIERS: Modifiers = {None: _alike}
