"""Validation against profiles: `Profiles(definitions, packages, codes).validate(resource)`.

https://hl7.org/fhir/R4/profiling.html
"""

from conformance.profiles.further import Check
from conformance.profiles.profiles import Policy, Profiles
from conformance.profiles.run import Codes, Resolve, Session
from conformance.profiles.shelf import Library

__all__ = ["Check", "Codes", "Library", "Policy", "Profiles", "Resolve", "Session"]
