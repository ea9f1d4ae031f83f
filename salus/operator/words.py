"""Scopes in words: what an app may do, as an operator reads it.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from smart_auth.grant import Scope
from smart_auth.scopes import BadScope, read_scope

_LETTERS = {"c": "create", "r": "read", "u": "change", "d": "delete", "s": "search"}
_WHOSE = {
    "patient": "of the one patient in context",
    "user": "that the user who signed in may reach",
    "system": "of everybody, without a user",
}
_PLAIN = {
    "openid": "learn who signed in",
    "fhirUser": "read that user's own resource",
    "launch": "learn the patient and visit that the record system has open",
    "launch/patient": "have a patient chosen when it starts",
    "launch/encounter": "have a visit chosen when it starts",
    "offline_access": "go on when the user is away",
    "online_access": "go on until the user signs out",
}


def sentences(scopes: Collection[str], contexts: Collection[str]) -> Iterator[str]:
    """What each scope means; `contexts` are those of the profile, for a client that was registered
    without a limit of its own."""
    if not scopes:
        yield f"whatever is granted to it, of {', '.join(f'{each}/' for each in sorted(contexts))}"
    for text in scopes:
        if text in _PLAIN:
            yield _PLAIN[text]
            continue
        try:
            found = read_scope(text)
        except BadScope:
            found = None
        if found and found.clinical:
            yield _clinical(found.clinical)
        else:
            yield f"nothing by `{text}`, which is no scope of this server"


def _clinical(scope: Scope) -> str:
    acts = [_LETTERS[each] for each in scope.letters]
    said = f"{', '.join(acts[:-1])} and {acts[-1]}" if len(acts) > 1 else acts[0]
    what = "every resource" if scope.type == "*" else scope.type
    where = "".join(f", where {name} is {value}" for name, value in scope.query)
    return f"{said} {what} {_WHOSE[scope.context]}{where}"
