"""Token parameters: codes, identifiers and flags, each with the system that gives it meaning.

https://hl7.org/fhir/R4/search.html#token
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from fhir_server.search import coded
from fhir_server.search.context import Modifiers, SearchContext, malformed
from fhir_server.search.limit import bounded
from fhir_server.search.literals import escape, split, unescape
from fhir_server.search.parameters import Parameter
from fhir_server.search.place import (
    Add,
    Factory,
    Place,
    Writer,
    add_present,
    known_token,
    token_entry,
)
from fhir_server.search.ranges import any_of
from fhir_server.search.strings import said, text_query
from fhir_server.storage.store import Condition, Match, Not, Query

BOOLEANS = "http://hl7.org/fhir/special-values"
TEXT = ":text"  # what follows a param's code: its displays and texts
IDENTIFIER = ":identifier"  # the identifiers of a reference
OF_TYPE = ":of-type"  # identifiers with their type


# --- entries -------------------------------------------------------------------------------------


def _coding(param: str, _: Place) -> Writer:
    text = param + TEXT

    def write(value: Any, add: Add) -> None:
        code, system = value.get("code"), value.get("system")
        if code is not None or system is not None:
            add(known_token(param, system, code))
        else:
            add_present(param, add)
        if "display" in value and (named := said(text, value["display"])):
            add(named)

    return write


def _concept(param: str, place: Place) -> Writer:
    coding, text = _coding(param, place), param + TEXT

    def write(value: Any, add: Add) -> None:
        codings = value.get("coding")
        if not codings:
            add_present(param, add)
        else:
            for each in bounded(codings, param):
                coding(each, add)
        if "text" in value and (named := said(text, value["text"])):
            add(named)

    return write


def _identifier(param: str, _: Place) -> Writer:
    typed, text = param + OF_TYPE, param + TEXT

    def write(value: Any, add: Add) -> None:
        number, system = value.get("value"), value.get("system")
        if number is not None or system is not None:
            add(token_entry(param, system, number))
        else:
            add_present(param, add)
        type = value.get("type")
        if not type:
            return
        if "text" in type and (named := said(text, type["text"])):
            add(named)
        if number is None:
            return
        for each in bounded(type.get("coding") or (), param):
            code = of_type(each.get("system") or "", each.get("code") or "", number)
            add(token_entry(typed, None, code))

    return write


def of_type(system: str, code: str, value: str) -> str:
    """The code under which an identifier with its type is found."""
    return f"{escape(system)}|{escape(code)}|{escape(value)}"


def _plain(param: str, place: Place) -> Writer:
    systems = place.systems
    if isinstance(systems, Mapping):
        return lambda value, add: add(known_token(param, systems.get(value), value))
    return lambda value, add: add(known_token(param, systems, value))


def _unsystematic(param: str, _: Place) -> Writer:
    return lambda value, add: add(token_entry(param, None, value))


def _boolean(param: str, _: Place) -> Writer:
    entries = tuple(known_token(param, BOOLEANS, code) for code in ("false", "true"))
    return lambda value, add: add(entries[value])


def _contact(param: str, _: Place) -> Writer:
    def write(value: Any, add: Add) -> None:
        if "value" in value:
            add(token_entry(param, None, value["value"]))
        else:
            add_present(param, add)

    return write


WRITERS: Mapping[str, Factory] = {
    "CodeableConcept": _concept,
    "Coding": _coding,
    "Identifier": _identifier,
    "ContactPoint": _contact,
    "code": _plain,
    "boolean": _boolean,
    **dict.fromkeys(("string", "uri", "id", "canonical", "url", "oid", "uuid"), _unsystematic),
}


# --- queries -------------------------------------------------------------------------------------


class Token(NamedTuple):
    """What a value asks: `system` None is any, empty is none; `code` None is any."""

    system: str | None
    code: str | None


def token(parameter: Parameter, text: str) -> Token:
    """`code`, `system|code`, `|code` (no system) or `system|` (any code)."""
    parts = [unescape(each) for each in split(text, "|")]
    if len(parts) == 1:
        return Token(None, parts[0])
    if len(parts) > 2 or not any(parts):
        raise malformed(
            f"A value of `{parameter.code}` of {parameter.type} is written code, system|code,"
            " |code or system|"
        )
    return Token(parts[0], parts[1] or None)


def matches(key: str, asked: Iterable[Token]) -> list[Query]:
    """Queries of which one holds when an entry under `key` is one of these tokens. Codes that
    share a system are asked for together."""
    codes: dict[str | None, list[str]] = {}
    found: list[Query] = []
    for system, code in asked:
        if code is None:
            found.append(Match(key, "token", (Condition("system", "eq", system),)))
        else:
            codes.setdefault(system, []).append(code)
            if system == "" and code in ("true", "false"):  # their system is never written
                codes.setdefault(BOOLEANS, []).append(code)
    for system, these in codes.items():
        one = Condition("code", "eq", these[0])
        test = one if len(these) == 1 else Condition("code", "in", frozenset(these))
        of = () if system is None else (Condition("system", "eq", system or None),)
        found.append(Match(key, "token", (*of, test)))
    return found


def _is(parameter: Parameter, values: Sequence[str], _: SearchContext) -> Query:
    asked = list(dict.fromkeys(token(parameter, each) for each in values))
    return any_of([query for key in parameter.keys for query in matches(key, asked)])


def _is_not(parameter: Parameter, values: Sequence[str], context: SearchContext) -> Query:
    """None of the values: what has no value at all is found too."""
    return Not(_is(parameter, values, context))


def _said(parameter: Parameter, values: Sequence[str], context: SearchContext) -> Query:
    texts = replace(parameter, keys=tuple(key + TEXT for key in parameter.keys))
    return text_query("prefix")(texts, values, context)


def _of_type(parameter: Parameter, values: Sequence[str], _: SearchContext) -> Query:
    asked: list[Token] = []
    for each in values:
        parts = [unescape(part) for part in split(each, "|")]
        if len(parts) != 3 or not all(parts):
            raise malformed(
                f"A value of `{parameter.code}:of-type` of {parameter.type} is written"
                " system|code|value, none of them empty"
            )
        asked.append(Token("", of_type(*parts)))
    return any_of([query for key in parameter.keys for query in matches(key + OF_TYPE, asked)])


def _coded(parameter: Parameter, codes: coded.Codes) -> Query:
    """One of these codes; of no codes, nothing."""
    asked = [Token(system, code) for system, code in codes]
    return any_of([query for key in parameter.keys for query in matches(key, asked)])


def _in(parameter: Parameter, values: Sequence[str], context: SearchContext) -> Query:
    return _coded(parameter, coded.listed(parameter, values, context))


def _not_in(parameter: Parameter, values: Sequence[str], context: SearchContext) -> Query:
    """In none of the value sets: what has no value at all is found too."""
    return Not(_in(parameter, values, context))


def _below(parameter: Parameter, values: Sequence[str], context: SearchContext) -> Query:
    return _coded(parameter, coded.below(parameter, values, context))


def _above(parameter: Parameter, values: Sequence[str], context: SearchContext) -> Query:
    return _coded(parameter, coded.above(parameter, values, context))


MODIFIERS: Modifiers = {
    None: _is,
    "not": _is_not,
    "text": _said,
    "of-type": _of_type,
    "in": _in,
    "not-in": _not_in,
    "above": _above,
    "below": _below,
}


def identified(parameter: Parameter, values: Sequence[str], context: SearchContext) -> Query:
    """`:identifier` of a reference: the identifier that it bears beside or instead of a target."""
    keys = tuple(key + IDENTIFIER for key in parameter.keys)
    return _is(replace(parameter, keys=keys), values, context)
