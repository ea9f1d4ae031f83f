"""Invariants of an element: compiled FHIRPath, or plain Python where that is simpler or much
faster; skipped where nothing that they speak of is present.

https://hl7.org/fhir/R4/conformance-rules.html#constraints
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from conformance.definitions import Constraint, Definitions
from conformance.fhirpath import Environment, Invariant, compile_invariant, contained, errata
from conformance.json import encode
from conformance.validator.rules import Rule

# Checked where the value itself is: on every object, and on the div of a narrative.
ELSEWHERE = frozenset({"ele-1", "txt-1", "txt-2"})

_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'")
_WORD = re.compile(r"[A-Za-z_]\w*")
# What looks further than at the children that the expression names.
_FAR = re.compile(r"%|\b(?:children|descendants|hasValue|htmlChecks)\b")
_BEFORE_VALUE = (b":", b",", b"[")  # what a value of an object or array follows in compact JSON
_NOWHERE = Environment({}, {})


class Held(NamedTuple):
    """An invariant of an object. With a `guard` it need be asked only if the object has one of
    those properties: it holds where none of them is."""

    guard: frozenset[str] | None
    holds: Invariant
    rule: Rule


def compiled(
    constraints: Iterable[Constraint], path: str, keys: Mapping[str, str], definitions: Definitions
) -> tuple[Held, ...]:
    """The invariants of the elements at `path`, whose objects have the properties `keys`, each
    with the name that FHIRPath knows it by."""
    found = [
        _held(each, path, keys, definitions) for each in constraints if each.key not in ELSEWHERE
    ]
    return (*found, *TOLD.get(path, ()))


def _held(
    constraint: Constraint, path: str, keys: Mapping[str, str], definitions: Definitions
) -> Held:
    rule = Rule(constraint.severity, "invariant", constraint.human, constraint.key)
    if constraint.key in NATIVE:
        return Held(NATIVE_GUARDS.get(constraint.key), NATIVE[constraint.key], rule)
    expression = errata(constraint.key, constraint.expression)
    holds = compile_invariant(expression, path, definitions)
    guard = GUARDS.get(constraint.key) if path == "Observation" else None
    return Held(_guard(expression, holds, keys) if guard is None else guard, holds, rule)


def held(
    expression: str, path: str, keys: Mapping[str, str], definitions: Definitions, rule: Rule
) -> Held:
    """An expression of a profile of the elements at `path`, as `compiled` has them: it costs no
    more than the allowance of its environment. FhirPathError when it cannot be read."""
    holds = compile_invariant(expression, path, definitions, bounded=True)
    return Held(_guard(expression, holds, keys), holds, rule)


def _guard(expression: str, holds: Invariant, keys: Mapping[str, str]) -> frozenset[str] | None:
    words = _LITERAL.sub("''", expression)
    if not keys or _FAR.search(words) or not holds({}, _NOWHERE):
        return None
    named = set(_WORD.findall(words))
    spoken_of = [key for key, name in keys.items() if name in named]
    return frozenset(spoken_of) | frozenset(f"_{key}" for key in spoken_of)


def value_or_extensions(value: Any, environment: Environment) -> bool:
    """ext-1: an extension has either a value or extensions of its own."""
    extended = "extension" in value
    for key in value:
        if key[:5] == "value" or key[:6] == "_value":
            return not extended
    return extended


def contained_is_there(value: Any, environment: Environment) -> bool:
    """ref-1: a local reference names a contained resource; `#` alone is the container itself, as
    seen from a contained one."""
    reference = value.get("reference")
    if type(reference) is not str or reference[:1] != "#":
        return True
    if reference == "#":
        return environment.root is not environment.resource
    return contained(reference, environment) is not None


def contained_is_used(resource: Any, environment: Environment) -> bool:
    """dom-3: each contained resource is referred to, or refers to its container. Its expression
    would walk the whole resource several times for each; one search in its JSON is enough."""
    inner = resource.get("contained")
    if type(inner) is not list:
        return True
    local = _local(encode(resource))
    return all(
        f"{each.get('id')}".encode() in local or b"" in _local(encode(each))
        for each in inner
        if type(each) is dict
    )


def _local(data: bytes) -> set[bytes]:
    """The texts that begin with #, without it, among the values in compact JSON."""
    before, *parts = data.split(b'"#')
    found: set[bytes] = set()
    for part in parts:
        text, _, _ = part.partition(b'"')
        if before.endswith(_BEFORE_VALUE) and b"\\" not in text:
            found.add(text)
        before = part
    return found


def size_is_right(attachment: Any, environment: Environment) -> bool:
    """The size of an attachment is that of its data, as bytes. What is no base64 is told apart."""
    data, size = attachment.get("data"), attachment["size"]
    if type(data) is not str or type(size) is not int or size < 0:
        return True
    try:
        return len(a2b_base64("".join(data.split()), strict_mode=True)) == size
    except ValueError:
        return True


def codes_are_unique(system: Any, environment: Environment) -> bool:
    """csd-1: a code system has each code once, however deep. Its expression walks all that it says
    of them too."""
    seen: set[str] = set()
    waiting = [system.get("concept")]
    while waiting:
        concepts = waiting.pop()
        for each in concepts if type(concepts) is list else ():
            if type(each) is not dict:
                continue
            code = each.get("code")
            if type(code) is str:
                if code in seen:
                    return False
                seen.add(code)
            waiting.append(each.get("concept"))
    return True


NATIVE: Mapping[str, Invariant] = {
    "csd-1": codes_are_unique,
    "dom-3": contained_is_used,
    "ext-1": value_or_extensions,
    "ref-1": contained_is_there,
}
# Of rules that look further, what they need to be broken.
GUARDS: Mapping[str, frozenset[str]] = {"obs-7": frozenset({"component"})}
NATIVE_GUARDS: Mapping[str, frozenset[str]] = {
    "csd-1": frozenset({"concept"}),
    "dom-3": frozenset({"contained"}),
    "ref-1": frozenset({"reference"}),
}
# What the definition of an element says in words only, by its path.
TOLD: Mapping[str, tuple[Held, ...]] = {
    "Attachment": (
        Held(
            frozenset({"size"}),
            size_is_right,
            Rule("error", "invariant", "The size of an attachment must be that of its data"),
        ),
    ),
}
