"""The official examples of R4, read from the shared data."""

import io
import json
import tarfile
from decimal import Decimal
from functools import cache

from tests.shared import shared

NOT_INSTANCES = ("SearchParameter", "ValueSet", "CodeSystem", "StructureDefinition")


@cache
def examples():
    """The instances among the official examples, without the definitions of the standard."""
    archive = shared("data/r4-examples.tar.xz")
    found = []
    with tarfile.open(archive, "r:xz") as opened:
        for member in opened:
            name = member.name.rpartition("/")[2]
            if member.size < 200_000 and name.endswith(".json") and "-" in name:
                if name.startswith(NOT_INSTANCES):
                    continue
                text = io.TextIOWrapper(opened.extractfile(member), encoding="utf-8")
                found.append(json.load(text, parse_float=Decimal))
    return found
