"""Loading files into a server, in order, resumable, without doubling.

https://hl7.org/fhir/R4/http.html#transaction
"""

from salus.load.run import Load, Report, load
from salus.load.sources import LoadError, files
from salus.load.targets import HttpTarget, Target

__all__ = [
    "HttpTarget",
    "Load",
    "LoadError",
    "Report",
    "Target",
    "files",
    "load",
]
