"""What `validateProfileId` is held to: the base definitions, and the profiles of packages.

https://hl7.org/fhir/packages.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from conformance.outcome import Issue
from conformance.packages import Package, PackageError, Packages, read
from conformance.testscript import Validate, base_profiles
from fhir_server.packages.guides import Current
from salus.problem import Problem
from salus.reading import content


def by_packages(files: Sequence[Path]) -> Validate:
    """Validates by the profiles of packages, those of R4 among them. Problem for what is none."""
    base = base_profiles()
    if not files:
        return base
    packages = Packages(_read(each) for each in files)
    profiles, lock = Current(packages).profiles, Lock()

    def validate(resource: dict[str, Any], canonical: str) -> Sequence[Issue] | None:
        if packages.find("StructureDefinition", canonical) is None:
            return base(resource, canonical)
        with lock:  # profiles are compiled when they are first met
            return profiles.validate(resource, (canonical,), warnings=False, claims=False)

    return validate


def _read(file: Path) -> Package:
    try:
        return read(content(file))
    except PackageError as error:
        raise Problem(f"{file}: {error}") from None
