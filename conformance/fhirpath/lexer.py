"""The tokens of a FHIRPath expression.

http://hl7.org/fhirpath/N1/#syntax-rules
"""

from __future__ import annotations

import re
from typing import NamedTuple

from conformance.fhirpath.syntax import FhirPathError

MAX_LENGTH = 20_000  # characters of an expression

_TOKEN = re.compile(
    r"""
    (?P<space>\s+ | //[^\n]* | /\*.*?\*/)
  | (?P<time>@T\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?)
  | (?P<datetime>@\d{4}(?:-\d\d(?:-\d\d)?)?T
        (?:\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:\d\d)?)?)
  | (?P<date>@\d{4}(?:-\d\d(?:-\d\d)?)?)
  | (?P<number>\d+(?:\.\d+)?)
  | (?P<string>'(?:[^'\\]|\\.)*')
  | (?P<quoted>`(?:[^`\\]|\\.)*`)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<symbol>!=|!~|<=|>=|\$(?:this|index|total)\b|[-+*/&|<>=~.,()\[\]{}%])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
# What is meant by what other languages begin a text with.
_QUOTES = {
    '"': "strings stand between single quotes, as 'official'",
    "\u201c": "strings stand between straight single quotes, as 'official'",
    "\u2018": "strings stand between straight single quotes, as 'official'",
    "\u2019": "strings stand between straight single quotes, as 'official'",
    "'": "a string begins here and does not end",
}
_ESCAPES = {"f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Token(NamedTuple):
    """`kind`: time, datetime, date, number, string, quoted, name, symbol or end. `text` of a
    string or quoted name has its escapes resolved."""

    kind: str
    text: str
    offset: int


def tokens(expression: str) -> list[Token]:
    """All tokens and an end. FhirPathError where none fits, or the expression is too long."""
    if len(expression) > MAX_LENGTH:
        raise FhirPathError(f"An expression has at most {MAX_LENGTH} characters")
    found: list[Token] = []
    offset = 0
    while offset < len(expression):
        match = _TOKEN.match(expression, offset)
        if match is None or _comment_is_open(expression, offset, match):
            raise _unexpected(expression[offset], offset)
        kind = match.lastgroup or ""
        if kind != "space":
            found.append(Token(kind, _text(kind, match[0], offset), offset))
        offset = match.end()
    found.append(Token("end", "the end", offset))
    return found


def _unexpected(character: str, offset: int) -> FhirPathError:
    told = _QUOTES.get(character)
    if told is not None:
        return FhirPathError(f"Unexpected `{character}`: {told}", offset)
    return FhirPathError(f"Unexpected {character!r}", offset)


def _comment_is_open(expression: str, offset: int, match: re.Match[str]) -> bool:
    return expression.startswith("/*", offset) and match.lastgroup != "space"


def _text(kind: str, text: str, offset: int) -> str:
    if kind not in ("string", "quoted"):
        return text
    inner = text[1:-1]
    return _ESCAPE.sub(lambda match: _unescape(match[1], offset), inner) if "\\" in inner else inner


def _unescape(escape: str, offset: int) -> str:
    if len(escape) == 5:
        return chr(int(escape[1:], 16))
    if escape == "u":
        raise FhirPathError("An escape \\u needs four hexadecimal digits", offset)
    return _ESCAPES.get(escape, escape)
