"""The published guides that tests validate against, read once."""

import tarfile
from functools import cache

from conformance.definitions import load
from conformance.json import parse
from conformance.packages import Packages, read
from conformance.profiles import Profiles
from tests.conformance.listed_codes import ListedCodes
from tests.shared import shared

US_CORE_3 = "hl7.fhir.us.core-3.1.1"
US_CORE_6 = "hl7.fhir.us.core-6.1.0"
US_CORE_7 = "hl7.fhir.us.core-7.0.0"
IPS = "hl7.fhir.uv.ips-2.0.0"


@cache
def profiles(*names):
    """The profiles of these guides and of R4."""
    packages = Packages([read(_file(name).read_bytes()) for name in names])
    return Profiles(load(), packages, ListedCodes(packages))


@cache
def examples(name):
    """The example resources of a guide, by their file names without `.json`."""
    found = {}
    with tarfile.open(_file(name)) as archive:
        for member in archive:
            folder, _, file = member.name.rpartition("/")
            if folder == "package/example" and file.endswith(".json"):
                resource = parse(archive.extractfile(member).read())
                if "resourceType" in resource:
                    found[file.removesuffix(".json")] = resource
    return found


def _file(name):
    return shared(f"packages/{name}.tgz")
