"""Build conformance/r4-package.bin, the definitions of R4 as a package in our own form.

https://hl7.org/fhir/R4/downloads.html

Usage: python scripts/build_package.py [PACKAGE.tgz]

Without a path the package is taken as build_definitions.py takes it. The output depends on the
package only: same package, same bytes.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from build_definitions import SHA256, fetch  # noqa: E402

from conformance.packages import read  # noqa: E402

TARGET = Path(__file__).parent.parent / "conformance" / "r4-package.bin"
LEVEL = 22
TYPES = {
    "CapabilityStatement",
    "CodeSystem",
    "CompartmentDefinition",
    "ConceptMap",
    "NamingSystem",
    "OperationDefinition",
    "SearchParameter",
    "StructureDefinition",
    "ValueSet",
}


def build(package: bytes) -> bytes:
    """The package in our own form. Raises ValueError if it is another package."""
    if hashlib.sha256(package).hexdigest() != SHA256:
        raise ValueError("This is not hl7.fhir.r4.core 4.0.1: its SHA-256 differs")
    return read(package, level=LEVEL, wanted=_wanted).data


def _wanted(resource: dict[str, Any]) -> bool:
    return resource["resourceType"] in TYPES


def main() -> None:
    package = Path(sys.argv[1]).read_bytes() if len(sys.argv) > 1 else fetch()
    packed = build(package)
    TARGET.write_bytes(packed)
    print(f"{TARGET.name}: {len(packed)} bytes")


if __name__ == "__main__":
    main()
