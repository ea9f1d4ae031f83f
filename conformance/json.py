"""JSON of resources with every digit kept: the one decoder and the one encoder.

https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from conformance.outcome import FhirError

DEPTH = 64  # levels of objects and arrays
DIGITS = 1024  # characters of one number
EXPONENT = 308  # powers of ten, either way: what a double can hold

_BOM = b"\xef\xbb\xbf"
_WHITE_SPACE = b" \t\r\n"
_PARENTHESES = bytes.maketrans(b"{[}]", b"(())")
_ALL = set(range(256))
_POSITION = re.compile(r"\(byte (\d+)\)")
_PROPERTY = re.compile(r"\w{1,64}", re.ASCII)


def parse(data: bytes, depth: int = DEPTH) -> dict[str, Any]:
    """The JSON object that `data` holds, decimals as Decimal with all their digits. Raises
    FhirError (invalid, 400) for what is no JSON, no object, deeper than `depth` levels, or names a
    property twice; its text says where and never what."""
    value = parse_any(data, depth)
    if type(value) is not dict:
        raise _refusal("A resource is a JSON object: it begins with {")
    return value


def parse_any(data: bytes, depth: int = DEPTH) -> Any:
    """The JSON value that `data` holds, under the same rules; for what is no resource."""
    if data.startswith(_BOM):
        data = data[len(_BOM) :]
    value = _decoded(data)
    # Few brackets cannot be deep.
    if data.count(b"{") + data.count(b"[") > depth and _depth(data, depth) > depth:
        raise _refusal(f"The JSON is nested deeper than {depth} levels")
    again = encode(value)
    if data != again and _lost_properties(data, again):
        raise _refusal(_repeated(data))
    if b"\\" in data and b"\\u0000" in data.replace(b"\\\\", b""):
        raise _refusal("The character U+0000 may not stand in a string")
    return value


def pretty(data: bytes) -> bytes:
    """The same JSON, indented for people."""
    return msgspec.json.format(data, indent=2)


def _number(text: str) -> Decimal:
    if len(text) > DIGITS:
        raise _refusal(f"A number has more than {DIGITS} characters")
    value = Decimal(text)
    # Beyond this, plain arithmetic with the number takes memory without bound.
    if ("e" in text or "E" in text) and not -EXPONENT <= value.adjusted() <= EXPONENT:
        raise _refusal(f"A number is larger or smaller than 10 to the power of {EXPONENT}")
    return value


_decode = msgspec.json.Decoder(float_hook=_number).decode
# encode(value) is the compact JSON of a value, in UTF-8, without changing a digit.
encode = msgspec.json.Encoder(decimal_format="number").encode


def _decoded(data: bytes) -> Any:
    try:
        return _decode(data)
    except UnicodeDecodeError as error:
        raise _refusal("The JSON is not valid UTF-8") from error
    except RecursionError as error:
        raise _refusal("The JSON is nested too deep") from error
    except InvalidOperation as error:
        raise _refusal("A number is too large to be kept") from error
    except msgspec.ValidationError as error:
        raise _refusal("A whole number has too many digits to be kept") from error
    except msgspec.DecodeError as error:
        raise _refusal(f"This is not JSON: {_where(data, str(error))}") from error


def _where(data: bytes, message: str) -> str:
    found = _POSITION.search(message)
    if found is None:
        return "it ends too early"
    before = data[: int(found[1])]
    line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
    return f"the fault is at line {line}, column {column}"


def _refusal(text: str) -> FhirError:
    return FhirError("invalid", text, status=400)


def _lost_properties(data: bytes, again: bytes) -> bool:
    """Whether `again`, which has each property once, has fewer of them than `data`. What differs
    by white space only lost nothing, which is quickly seen; else the colons are counted."""
    if data.translate(None, _WHITE_SPACE) == again.translate(None, _WHITE_SPACE):
        return False
    return _outside_strings(b":", data).count(b":") != _outside_strings(b":", again).count(b":")


def _depth(data: bytes, most: int) -> int:
    """How deep the brackets nest, counted up to `most` + 1."""
    left = _outside_strings(b"{}[]", data).translate(_PARENTHESES)
    levels = 0
    while left and levels <= most:
        left = left.replace(b"()", b"")
        levels += 1
    return levels


def _outside_strings(marks: bytes, data: bytes) -> bytes:
    """Those characters of `marks` that stand outside strings, in order."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    kept = data.translate(None, bytes(_ALL - {*marks, *b'"'}))
    # Two quotes side by side open and close, or close and open: neither way do they change
    # whether what follows is inside a string.
    return b"".join(kept.replace(b'""', b"").split(b'"')[::2])


def _repeated(data: bytes) -> str:
    """Which property came twice, found the slow way."""
    repeated: list[str] = []

    def names(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        repeated.extend(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]

    json.loads(data, object_pairs_hook=names, parse_int=str, parse_float=str)
    name = repeated[0] if repeated and _PROPERTY.fullmatch(repeated[0]) else None
    return f"The property `{name}` is given twice" if name else "A property is given twice"
