"""FHIRPath over plain JSON, typed by the definitions: search parameters, invariants, expressions.

http://hl7.org/fhirpath/N1/ and https://hl7.org/fhir/R4/fhirpath.html
"""

from conformance.fhirpath.errata import errata
from conformance.fhirpath.evaluate import compile_expression, evaluate
from conformance.fhirpath.host import Host, Units
from conformance.fhirpath.invariants import Invariant, compile_invariant
from conformance.fhirpath.items import Allowance, Environment
from conformance.fhirpath.resolution import contained, reference_type
from conformance.fhirpath.search import Extract, ExtractFrom, Hit, compile_relative, compile_search
from conformance.fhirpath.syntax import FhirPathError

__all__ = [
    "Allowance",
    "Environment",
    "Extract",
    "ExtractFrom",
    "FhirPathError",
    "Hit",
    "Host",
    "Invariant",
    "Units",
    "compile_expression",
    "compile_invariant",
    "compile_relative",
    "compile_search",
    "contained",
    "errata",
    "evaluate",
    "reference_type",
]
