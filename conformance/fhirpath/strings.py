"""Functions on strings.

http://hl7.org/fhirpath/N1/#string-manipulation
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Callable

from conformance.fhirpath.function import Function, require_short, spend
from conformance.fhirpath.items import Collection, Focus, boolean, integer, number, string, text
from conformance.fhirpath.regex import Pattern, pattern
from conformance.fhirpath.syntax import FhirPathError

_CHARACTERS = 64  # of a text that are read at the price of an item
_READ = 10  # items: what it costs to read the shortest regular expression
_READING = 3  # items for a character of it


def _pair(
    what: str, answer: Callable[[str, str], Collection]
) -> Callable[[Focus, Collection, Collection], Collection]:
    """A function of the input string and one string argument; empty when either is."""

    def run(focus: Focus, input: Collection, argument: Collection) -> Collection:
        one, other = text(input, what), text(argument, what)
        if one is None or other is None:
            return []
        spend(focus, (len(one) + len(other)) // _CHARACTERS)
        return answer(one, other)

    return run


def _one(what: str, answer: Callable[[str], Collection]) -> Callable[..., Collection]:
    def run(focus: Focus, input: Collection) -> Collection:
        found = text(input, what)
        if found is None:
            return []
        spend(focus, len(found) // _CHARACTERS)
        return answer(found)

    return run


def _substring(
    focus: Focus, input: Collection, start: Collection, length: Collection | None = None
) -> Collection:
    value, at = text(input, "substring()"), integer(start, "substring()")
    if value is None or at is None or not 0 <= at < len(value):
        return []
    count = None if length is None else integer(length, "substring()")
    return string(value[at:] if count is None else value[at : at + max(count, 0)])


def _replace(focus: Focus, input: Collection, old: Collection, new: Collection) -> Collection:
    value, old_text, new_text = (text(each, "replace()") for each in (input, old, new))
    if value is None or old_text is None or new_text is None:
        return []
    spend(focus, len(value) // _CHARACTERS)
    require_short(len(value) + value.count(old_text) * len(new_text))
    return string(value.replace(old_text, new_text))


def _replace_matches(
    focus: Focus, input: Collection, source: Collection, new: Collection
) -> Collection:
    value, regex, by = (text(each, "replaceMatches()") for each in (input, source, new))
    if value is None or regex is None or by is None:
        return []
    if not regex:
        return string(value)
    # The standard writes groups as $1, Python as \g<1>.
    template = re.sub(r"\$(\d+)", r"\\g<\1>", by.replace("\\", "\\\\"))
    return string(_read(focus, regex).substituted(template, value, focus.world.spend))


def _matches(what: str, whole: bool) -> Function:
    def run(focus: Focus, input: Collection, source: Collection) -> Collection:
        value, regex = text(input, what), text(source, what)
        if value is None or regex is None:
            return []
        found = _read(focus, regex)
        asked = found.fullmatch if whole else found.search
        return boolean(asked(value, focus.world.spend))

    return Function(run, 1, 1)


def _read(focus: Focus, source: str) -> Pattern:
    """A regular expression, paid for where an evaluation asks it first. FhirPathError."""
    kept = focus.world.kept
    found = kept.get(source)
    if not isinstance(found, Pattern):
        spend(focus, _READ + _READING * len(source))
        found = kept[source] = pattern(source)
    return found


def _to_chars(focus: Focus, input: Collection) -> Collection:
    value = text(input, "toChars()") or ""
    spend(focus, len(value))
    return [("System.String", each, None) for each in value]


def _split(focus: Focus, input: Collection, separator: Collection) -> Collection:
    value, by = text(input, "split()"), text(separator, "split()")
    if value is None or not by:
        return []
    spend(focus, value.count(by))
    return [("System.String", each, None) for each in value.split(by)]


def _join(focus: Focus, input: Collection, separator: Collection | None = None) -> Collection:
    by = "" if separator is None else text(separator, "join()") or ""
    parts = [item[1] for item in input if item[1] is not None]
    if any(not isinstance(part, str) for part in parts):
        raise FhirPathError("join() takes strings")
    spend(focus, len(parts) // 8)
    require_short(sum(map(len, parts)) + len(by) * len(parts))
    return string(by.join(parts)) if input else []


_JSON_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


def _unescaped(escape: str) -> str:
    if len(escape) > 1:
        return chr(int(escape[1:], 16))
    return {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}.get(escape, escape)


_ENCODE: dict[str, Callable[[str], str]] = {
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "urlbase64": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "hex": lambda value: value.encode().hex(),
}
_DECODE: dict[str, Callable[[str], str]] = {
    "base64": lambda value: base64.b64decode(value, validate=True).decode(),
    "urlbase64": lambda value: base64.urlsafe_b64decode(value).decode(),
    "hex": lambda value: bytes.fromhex(value).decode(),
}
_ESCAPE: dict[str, Callable[[str], str]] = {
    "html": html.escape,
    "json": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
}
_UNESCAPE: dict[str, Callable[[str], str]] = {
    "html": html.unescape,
    "json": lambda value: _JSON_ESCAPE.sub(lambda found: _unescaped(found[1]), value),
}


_WIDER = 12  # times as long as a text is at most what encodes or escapes it


def _coded(what: str, table: dict[str, Callable[[str], str]]) -> Callable[..., Collection]:
    """encode() and its kind: the argument names the form; empty when the form is unknown or the
    text is not in it."""

    def answer(value: str, form: str) -> Collection:
        require_short(len(value) * _WIDER)
        change = table.get(form)
        if change is None:
            return []
        try:
            return string(change(value))
        except (ValueError, binascii.Error):
            return []

    return _pair(what, answer)


TABLE = {
    "indexOf": Function(_pair("indexOf()", lambda one, other: number(one.find(other))), 1, 1),
    "substring": Function(_substring, 1, 2),
    "startsWith": Function(
        _pair("startsWith()", lambda one, other: boolean(one.startswith(other))), 1, 1
    ),
    "endsWith": Function(
        _pair("endsWith()", lambda one, other: boolean(one.endswith(other))), 1, 1
    ),
    "contains": Function(_pair("contains()", lambda one, other: boolean(other in one)), 1, 1),
    "upper": Function(_one("upper()", lambda value: string(value.upper()))),
    "lower": Function(_one("lower()", lambda value: string(value.lower()))),
    "trim": Function(_one("trim()", lambda value: string(value.strip()))),
    "length": Function(_one("length()", lambda value: number(len(value)))),
    "toChars": Function(_to_chars),
    "replace": Function(_replace, 2, 2),
    "matches": _matches("matches()", whole=False),
    "matchesFull": _matches("matchesFull()", whole=True),
    "replaceMatches": Function(_replace_matches, 2, 2),
    "split": Function(_split, 1, 1),
    "join": Function(_join, 0, 1),
    "encode": Function(_coded("encode()", _ENCODE), 1, 1),
    "decode": Function(_coded("decode()", _DECODE), 1, 1),
    "escape": Function(_coded("escape()", _ESCAPE), 1, 1),
    "unescape": Function(_coded("unescape()", _UNESCAPE), 1, 1),
}
