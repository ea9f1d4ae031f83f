"""FHIR packages: what an implementation guide publishes, read, kept small and looked up.

https://hl7.org/fhir/packages.html
"""

from conformance.packages.archive import read, read_folder
from conformance.packages.package import (
    Listed,
    Package,
    PackageError,
    Packing,
    core,
    pack,
    unpack,
)
from conformance.packages.packages import Packages
from conformance.packages.versions import order

__all__ = [
    "Listed",
    "Package",
    "PackageError",
    "Packages",
    "Packing",
    "core",
    "order",
    "pack",
    "read",
    "read_folder",
    "unpack",
]
