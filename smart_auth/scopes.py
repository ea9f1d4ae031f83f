"""SMART scopes: the grammar of versions 1 and 2, read strictly and answered as they were asked.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple, cast
from urllib.parse import quote, unquote

from smart_auth.grant import LETTERS, Context, Scope

_CLINICAL = re.compile(r"(patient|user|system)/([^.?\s]*)\.([^?\s]*)(?:\?(\S*))?", re.ASCII)
_CONTEXTS = ("patient/", "user/", "system/")
_TYPE = re.compile(r"[A-Z][A-Za-z]*", re.ASCII)
_PARAMETER = re.compile(r"_?[A-Za-z][A-Za-z0-9-]*", re.ASCII)  # no modifier, no chain
_VERSION_1 = {"read": "rs", "write": "cud", "*": LETTERS}
_CHARACTERS = 8192  # of all scopes of one request
_SCOPES = 300
_BARE = "!$'()*,-./:;=?@_|~"  # what `written` leaves as it is, besides letters and digits

# Scopes that are no clinical ones. Whatever else is asked for is not granted, and no error: clients
# in the field ask for `profile` and the like.
OPENID, FHIR_USER, LAUNCH = "openid", "fhirUser", "launch"
LAUNCH_PATIENT, LAUNCH_ENCOUNTER = "launch/patient", "launch/encounter"
OFFLINE, ONLINE = "offline_access", "online_access"
PLAIN = (OPENID, FHIR_USER, LAUNCH, LAUNCH_PATIENT, LAUNCH_ENCOUNTER, OFFLINE, ONLINE)


class BadScope(ValueError):
    """A scope that cannot be read; the text names it and says why."""


class Asked(NamedTuple):
    """One scope of a request: its text as it was sent, and its meaning when it is clinical."""

    text: str
    clinical: Scope | None

    @property
    def version(self) -> int | None:
        """The syntax in which a clinical scope was asked, 1 or 2."""
        if self.clinical is None:
            return None
        letters = self.text.partition("?")[0].rpartition(".")[2]
        return 1 if letters in _VERSION_1 else 2


def read_scopes(text: str) -> tuple[Asked, ...]:
    """The scopes of a request, each once, in its order; unknown ones are left out. BadScope for
    a clinical scope that is written wrongly, and beyond the limits."""
    if len(text) > _CHARACTERS:
        raise BadScope(f"scope has at most {_CHARACTERS} characters")
    words = dict.fromkeys(text.split())
    if len(words) > _SCOPES:
        raise BadScope(f"scope names at most {_SCOPES} scopes")
    found = (read_scope(word) for word in words)
    return tuple(each for each in found if each is not None)


def read_scope(text: str) -> Asked | None:
    """One scope; None for one that this server does not know. BadScope."""
    if not text.startswith(_CONTEXTS):
        return Asked(text, None) if text in PLAIN else None
    match = _CLINICAL.fullmatch(text)
    if match is None:
        raise BadScope(f"`{text[:100]}` is not written context/Type.cruds?parameter=value")
    context, type, letters, query = match.groups()
    if type != "*" and not _TYPE.fullmatch(type):
        raise BadScope(f"`{text[:100]}` names no resource type")
    return Asked(
        text, Scope(cast(Context, context), type, _letters(text, letters), _query(text, query))
    )


def _letters(text: str, written: str) -> str:
    letters = _VERSION_1.get(written, written)
    if not letters or "".join(each for each in LETTERS if each in letters) != letters:
        raise BadScope(f"`{text[:100]}` grants by letters of {LETTERS}, in that order, or read")
    return letters


def _query(text: str, query: str | None) -> tuple[tuple[str, str], ...]:
    if query is None:
        return ()
    found = []
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        if not _PARAMETER.fullmatch(name) or not equals or not value:
            raise BadScope(
                f"`{text[:100]}` limits by search parameters with a value, without modifier or "
                "chain"
            )
        found.append((name, _decoded(text, value)))
    return tuple(found)


def _decoded(text: str, value: str) -> str:
    try:
        found = unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise BadScope(f"`{text[:100]}` is not UTF-8 when percent-decoded") from None
    # Scopes travel as texts with spaces between: a value with one would become several scopes.
    if " " in found or not found.isprintable():
        raise BadScope(f"`{text[:100]}` has a value with a space or a control character")
    return found


def written(scope: Scope, version: int = 2) -> str:
    """A scope as text, where no text of the client's is at hand. `version` 1 falls back to 2 when
    it has no word for the letters."""
    words = {letters: word for word, letters in _VERSION_1.items()}
    letters = words.get(scope.letters, scope.letters) if version == 1 else scope.letters
    query = "&".join(f"{name}={quote(value, _BARE)}" for name, value in scope.query)
    return f"{scope.context}/{scope.type}.{letters}" + (f"?{query}" if query else "")


def is_confined(texts: Iterable[str]) -> bool:
    """Whether scopes speak of one patient: whatever else is among them is limited to that patient
    as well, and stays so when fewer of them are left."""
    return any(each.startswith("patient/") for each in texts)


def allowed(asked: Iterable[Asked], by: Collection[Asked]) -> tuple[Asked, ...]:
    """What is left of the scopes asked for when no more may be granted than `by`, a registration
    or an earlier grant: a scope that is allowed whole keeps its text, one that is allowed in part
    becomes the parts, and nothing is ever widened."""
    texts = {each.text for each in by}
    limits = [each.clinical for each in by if each.clinical]
    found: dict[str, Asked] = {}
    for each in asked:
        if each.text in texts:
            found[each.text] = each
        elif each.clinical:
            found |= {part.text: part for part in _parts(each, each.clinical, limits)}
    return tuple(found.values())


def _parts(asked: Asked, scope: Scope, limits: Iterable[Scope]) -> Iterable[Asked]:
    parts = [both for limit in limits if (both := _both(scope, limit))]
    if scope in parts:
        return (asked,)
    version = asked.version or 2
    return [Asked(written(each, version), each) for each in dict.fromkeys(parts)]


def _both(one: Scope, other: Scope) -> Scope | None:
    """What two scopes both allow."""
    letters = "".join(each for each in LETTERS if each in one.letters and each in other.letters)
    types = {one.type, other.type} - {"*"}
    if one.context != other.context or not letters or len(types) > 1:
        return None
    query = tuple(dict.fromkeys((*one.query, *other.query)))
    return Scope(one.context, types.pop() if types else "*", letters, query)
