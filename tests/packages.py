"""Small packages, made up for tests, and how they are written as files."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

NAME = "example.guide"
PROFILE = "http://example.org/guide/StructureDefinition/example-patient"


def manifest(**more: Any) -> dict[str, Any]:
    return {
        "name": NAME,
        "version": "1.0.0",
        "canonical": "http://example.org/guide",
        "title": "An example",
        "fhirVersions": ["4.0.1"],
        "dependencies": {"hl7.fhir.r4.core": "4.0.1"},
        **more,
    }


def profile(version: str = "1.0.0") -> dict[str, Any]:
    return {
        "resourceType": "StructureDefinition",
        "id": "example-patient",
        "url": PROFILE,
        "version": version,
        "name": "ExamplePatient",
        "status": "active",
        "kind": "resource",
        "abstract": False,
        "type": "Patient",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
        "derivation": "constraint",
        "differential": {"element": [{"id": "Patient.name", "path": "Patient.name", "min": 1}]},
    }


def tgz(*resources: dict[str, Any], **changed: Any) -> bytes:
    """A package of these resources."""
    packed = io.BytesIO()
    files = {"package.json": manifest(**changed)}
    files |= {f"{n}.json": each for n, each in enumerate(resources)}
    with tarfile.open(fileobj=packed, mode="w:gz") as made:
        for name, content in files.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return packed.getvalue()
