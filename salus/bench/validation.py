"""How long validation takes in process: of Observations and a Patient, by R4 alone and by US Core.

https://hl7.org/fhir/us/core/

Usage: python -m salus.bench.validation PACKAGE.tgz [FILE.json...]

The package is a release of US Core. Each figure is the least of many short rounds, processor time;
beside it stands the same by the machine as it is in quiet (calibration.py), measured in the same
rounds, for a machine that others share is never as fast as it can be. Files are resources to be
measured besides. Every resource must be without error before it is measured.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from conformance.definitions import load
from conformance.json import parse
from conformance.packages import Packages, read
from conformance.profiles import Profiles
from conformance.validator import Validator
from fhir_server.packages.guides import Current
from salus.bench.calibration import QUIET

ROUNDS = 400
TIMES = 5  # a round
LOOP = 1000  # iterations of the loop that tells how fast the machine is
_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/"
_LOINC = "http://loinc.org"
_UNITS = "http://unitsofmeasure.org"
_RACES = "urn:oid:2.16.840.1.113883.6.238"


class Figure(NamedTuple):
    """Microseconds, as measured and as in quiet."""

    measured: float
    quiet: float

    def __str__(self) -> str:
        return f"{self.measured:8.1f} us {self.quiet:8.1f} us in quiet"


def main(arguments: list[str]) -> int:
    """Print the figures. 1 when a resource is not valid, 2 without a package."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    package = read(Path(arguments[0]).read_bytes())
    known = Current(Packages([package])).profiles
    base = Validator(load())
    print(f"{package.name} {package.version}; least of {ROUNDS} rounds of {TIMES}, one core\n")
    for name, resource in _resources(arguments[1:]):
        wrong = [each for each in known.validate(resource) if each.severity == "error"]
        if wrong:
            print(f"{name} is not valid: {wrong[0].expression}: {wrong[0].text}", file=sys.stderr)
            return 1
        _tell(name, resource, base, known)
    _compiling(package)
    return 0


def _tell(name: str, resource: dict[str, Any], base: Validator, known: Profiles) -> None:
    rows: dict[str, Callable[[], Any]] = {
        "R4 alone, errors": lambda: base.validate(resource, warnings=False),
        "profiles, errors": lambda: known.validate(resource, warnings=False),
        "profiles, all remarks": lambda: known.validate(resource),
    }
    claimed = ", ".join(
        each.rpartition("/")[2] for each in resource.get("meta", {}).get("profile", ())
    )
    print(f"{name} ({claimed or 'claims nothing'})")
    for what, run in rows.items():
        print(f"  {what:22} {measured(run)}")


def measured(run: Callable[[], Any]) -> Figure:
    """The time of one call."""
    best = loop = float("inf")
    for _ in range(ROUNDS):
        best = min(best, _timed(run, TIMES))
        loop = min(loop, _timed(_loop, 1) / LOOP)
    return Figure(best * 1e6, best * 1e6 * QUIET.loop_ns / (loop * 1e9))


def _loop() -> int:
    total = 0
    for each in range(LOOP):
        total += each
    return total


def _timed(run: Callable[[], Any], times: int) -> float:
    began = time.process_time_ns()
    for _ in range(times):
        run()
    return (time.process_time_ns() - began) / times / 1e9


def _compiling(package: Any) -> None:
    """How long the profiles of the package take to compile, each anew."""
    known = Current(Packages([package])).profiles
    listed = [
        each
        for each in package.by_type.get("StructureDefinition", ())
        if each.kind == "resource" and each.derivation == "constraint"
    ]
    took = []
    for each in listed:
        package.resource(each)  # reading it is not compiling it
        began = time.process_time_ns()
        found = known.shelf.compiled(f"{each.url}|{each.version}")
        assert found is None or found.check is not None
        took.append((time.process_time_ns() - began) / 1e6)
    took.sort()
    print(
        f"\n{len(took)} profiles compiled: median {took[len(took) // 2]:.1f} ms, "
        f"most {took[-1]:.1f} ms"
    )


def _resources(files: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "Observation, laboratory", _observation()
    yield "Observation, vital sign", _vital_sign()
    yield "Patient", _patient()
    for file in files:
        yield Path(file).name, parse(Path(file).read_bytes())


def _concept(system: str, code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def _observation() -> dict[str, Any]:
    category = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        "resourceType": "Observation",
        "id": "sodium",
        "meta": {"profile": [f"{_CORE}us-core-observation-lab"]},
        "status": "final",
        "category": [_concept(category, "laboratory", "Laboratory")],
        "code": _concept(_LOINC, "2951-2", "Sodium"),
        "subject": {"reference": "Patient/example"},
        "encounter": {"reference": "Encounter/example"},
        "effectiveDateTime": "2024-05-01T10:00:00+02:00",
        "issued": "2024-05-01T12:00:00.000+02:00",
        "valueQuantity": {
            "value": parse(b'{"n":140.5}')["n"],
            "unit": "mmol/L",
            "system": _UNITS,
            "code": "mmol/L",
        },
        "referenceRange": [{"low": {"value": 135, "unit": "mmol/L"}, "text": "135 or more"}],
    }


def _vital_sign() -> dict[str, Any]:
    category = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        **_observation(),
        "id": "rate",
        "meta": {"profile": [f"{_CORE}us-core-heart-rate"]},
        "category": [_concept(category, "vital-signs", "Vital Signs")],
        "code": _concept(_LOINC, "8867-4", "Heart rate"),
        "valueQuantity": {"value": 72, "unit": "/min", "system": _UNITS, "code": "/min"},
        "referenceRange": [{"low": {"value": 60, "unit": "/min"}, "text": "60 or more"}],
    }


def _patient() -> dict[str, Any]:
    white = {"system": _RACES, "code": "2106-3", "display": "White"}
    other = {"system": _RACES, "code": "2186-5", "display": "Not Hispanic or Latino"}
    return {
        "resourceType": "Patient",
        "id": "example",
        "meta": {"profile": [f"{_CORE}us-core-patient"]},
        "extension": [
            _parts("us-core-race", white, "White"),
            _parts("us-core-ethnicity", other, "Not Hispanic or Latino"),
            {"url": f"{_CORE}us-core-birthsex", "valueCode": "F"},
        ],
        "identifier": [
            {
                "type": _concept("http://terminology.hl7.org/CodeSystem/v2-0203", "MR", "Number"),
                "system": "http://hospital.example",
                "value": "1032702",
            }
        ],
        "active": True,
        "name": [{"use": "official", "family": "Example", "given": ["Ada", "B."]}],
        "telecom": [
            {"system": "phone", "value": "555-555-5555", "use": "home"},
            {"system": "email", "value": "ada@example.org"},
        ],
        "gender": "female",
        "birthDate": "1987-02-20",
        "address": [
            {
                "line": ["49 Meadow St"],
                "city": "Mounds",
                "state": "OK",
                "postalCode": "74047",
                "country": "US",
            }
        ],
        "communication": [{"language": _concept("urn:ietf:bcp:47", "en", "English")}],
    }


def _parts(name: str, coding: dict[str, str], text: str) -> dict[str, Any]:
    return {
        "url": f"{_CORE}{name}",
        "extension": [
            {"url": "ombCategory", "valueCoding": coding},
            {"url": "text", "valueString": text},
        ],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
