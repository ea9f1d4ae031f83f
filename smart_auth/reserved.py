"""Names of apps that would pass for this server's own, or for the organisation that runs it.

https://www.rfc-editor.org/rfc/rfc7591#section-5, https://www.unicode.org/reports/tr39/#Confusable_Detection
"""

from __future__ import annotations

import unicodedata

_OWN = "Salus"
# What looks like a small Latin letter: digits, and letters of other scripts.
_LOOKALIKES = {
    "a": "аαɑ4",
    "b": "вβб8",
    "c": "сϲ",
    "e": "еε3",
    "h": "нһ",
    "i": "іιıӏl1",  # a capital i and a small l are one stroke
    "j": "ј",
    "k": "кκ",
    "m": "м",
    "n": "ոη",
    "o": "оοօ0ø",
    "p": "рρ",
    "s": "ѕ5ʂ",
    "t": "тτ7",
    "u": "υսцʋ",
    "v": "ν",
    "x": "хχ",
    "y": "уγ",
}
_PLAIN = str.maketrans({each: letter for letter, these in _LOOKALIKES.items() for each in these})


def is_reserved(name: str, organisation: str) -> bool:
    """Whether a name begins as the product's or the organisation's, however it is spelt."""
    shown = _folded(name)
    own = filter(None, map(_folded, (_OWN, organisation)))
    return any(shown.startswith(each) for each in own)


def _folded(name: str) -> str:
    """A name as it is taken in at a glance: compatible and accented letters as plain ones, small,
    lookalikes as the Latin letter, without spaces and signs."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    return "".join(filter(str.isalnum, plain)).translate(_PLAIN)
