"""Packages that are installed on a server, and what follows from them.

https://hl7.org/fhir/packages.html
"""

from fhir_server.packages.guides import Current, Guides

__all__ = ["Current", "Guides"]
