"""`salus fhirpath`: what an expression yields on resources in a file.

http://hl7.org/fhirpath/N1/, https://hl7.org/fhir/R4/fhirpath.html
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from salus.problem import Problem
from salus.reading import unpacked
from salus.terminal import explained, option

if TYPE_CHECKING:
    from conformance.fhirpath import FhirPathError
    from conformance.fhirpath.items import Collection, Item

# What the compiler says of a name, which it does not know the place of.
_NAMED = re.compile(
    r"`(?P<element>\w+)` is not an element of |The function (?P<absent>\w+)\(\) is not supported"
    r"|(?P<called>\w+)\(\) (?:needs an order|does not take|takes one type)"
)
_STANDARD_INPUT = "-"


class _Resource(NamedTuple):
    """One resource of a file, and where it stands there."""

    json: dict[str, Any]
    place: str


def fhirpath(
    expression: Annotated[str, typer.Argument(help="The FHIRPath expression.")],
    file: Annotated[
        str,
        typer.Argument(help="A resource as JSON, or one a line (NDJSON); - for standard input."),
    ],
    as_json: Annotated[
        bool, option("--json", help="Print each result as JSON: its type and its value.")
    ] = False,
    strict: Annotated[
        bool, option("--strict", help="Refuse names that no type has, and order where is none.")
    ] = False,
) -> None:
    """Evaluate a FHIRPath expression: each result is a line, its type and its value.

    The resource is the context. resolve() finds what is contained, or in the same Bundle; UCUM
    units are converted; trace() tells on standard error. Nothing is sent anywhere.

    [bold]Examples[/]

      salus fhirpath "Patient.name.given" patient.json

      salus fhirpath "name.where(use = 'official').family" patients.ndjson --json

      salus fhirpath "entry.resource.ofType(Observation).value > 37 'Cel'" --strict bundle.json

      curl -s https://fhir.example/fhir/Patient/1 | salus fhirpath "birthDate <= today()" -
    """
    with explained():
        _run(expression, file, as_json, strict)


def _run(expression: str, file: str, as_json: bool, strict: bool) -> None:
    resources = list(_read(file))
    for each in resources:
        name = f"{each.json['resourceType']}/{each.json.get('id', each.place)}"
        of = name if len(resources) > 1 else None
        found = _evaluated(expression, each, strict)
        for item in found:
            if as_json:
                print(_as_json(item, of))
            else:
                print(_as_text(item) if of is None else f"{of}\t{_as_text(item)}")
        if not found:
            _tell_refusal(each)


def _tell_refusal(resource: _Resource) -> None:
    """A server that was asked for a resource may have sent why it gives none."""
    if resource.json["resourceType"] != "OperationOutcome":
        return
    for issue in resource.json.get("issue", ()):
        if issue.get("severity") in ("error", "fatal"):
            said = issue.get("diagnostics") or issue.get("code")
            print(f"{resource.place} is an OperationOutcome: {said}", file=sys.stderr)


def _evaluated(expression: str, resource: _Resource, strict: bool) -> Collection:
    """FhirPathError is told as a Problem that shows the place in the expression."""
    from conformance.definitions import load
    from conformance.fhirpath import Environment, FhirPathError, compile_expression
    from salus.surroundings import Surroundings

    definitions, body = load(), resource.json
    type = body["resourceType"]
    if type not in definitions.types:
        raise Problem(f"{resource.place}: R4 has no resource type {type}")
    try:
        run = compile_expression(expression, type, definitions, strict=strict, trace=_trace)
        return run(body, Environment(body, body, Surroundings(definitions, body)))
    except FhirPathError as error:
        shown = f"{error}"
        offset = _offset(error, expression)
        if offset is not None:
            line = " ".join(expression.split("\n"))
            shown += f"\n  {line}\n  {' ' * offset}^"
        raise Problem(shown) from error


def _offset(error: FhirPathError, expression: str) -> int | None:
    """Where it is in the expression; a name that is not as it must be, where that stands only
    once."""
    named = _NAMED.match(f"{error}")
    if error.offset is not None or named is None:
        return error.offset
    name = named[named.lastgroup or 0]
    call = "" if named.lastgroup == "element" else r"\s*\("
    places = [each.start() for each in re.finditer(rf"\b{name}\b{call}", expression)]
    return places[0] if len(places) == 1 else None


def _trace(name: str, items: Collection) -> None:
    for each in items:
        print(f"{name}: {_as_text(each)}", file=sys.stderr)


def _as_text(item: Item) -> str:
    """The type and the value, of an object its JSON."""
    type, value = _plain(item)
    if isinstance(value, str):
        return f"{type}\t{value if value.isprintable() else json.dumps(value, ensure_ascii=False)}"
    return f"{type}\t{_encoded(value)}"


def _as_json(item: Item, of: str | None) -> str:
    """The type and the value, and of which of several resources."""
    type, value = _plain(item)
    made = {"type": type, "value": value}
    return _encoded(made if of is None else {"resource": of, **made})


def _plain(item: Item) -> tuple[str, Any]:
    """The FHIR or System type, and JSON; of a primitive without a value its extensions."""
    from conformance.definitions import load
    from conformance.fhirpath.types import types_of
    from conformance.fhirpath.values import Quantity, Temporal

    type, value, beside = item
    if isinstance(value, Temporal | Quantity):
        value = str(value)
    name = type if type.startswith("System.") else types_of(load()).datatype(type)
    return name, dict(beside) if value is None and isinstance(beside, Mapping) else value


def _encoded(value: Any) -> str:
    from conformance.json import encode

    return encode(value).decode()


# --- reading -------------------------------------------------------------------------------------


def _read(file: str) -> Iterator[_Resource]:
    """The resources of a file: one, or one a line."""
    from conformance.outcome import FhirError

    name = "standard input" if file == _STANDARD_INPUT else file
    data = sys.stdin.buffer.read() if file == _STANDARD_INPUT else unpacked(Path(file))
    if not data.strip():
        raise Problem(f"{name} is empty: it should hold a resource as JSON")
    try:
        yield _parsed(data, name)
        return
    except FhirError as error:
        lines = [each for each in data.split(b"\n") if each.strip()]
        if len(lines) < 2 or not lines[0].strip().endswith(b"}"):
            raise Problem(f"{name}: {error}") from error
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                yield _parsed(line, f"{name}, line {number}")
            except FhirError as error:
                raise Problem(f"{name}, line {number}: {error}") from error


def _parsed(data: bytes, place: str) -> _Resource:
    from conformance.json import parse

    found = parse(data)
    if not isinstance(found.get("resourceType"), str):
        raise Problem(f"{place}: a resource has a resourceType")
    return _Resource(found, place)
