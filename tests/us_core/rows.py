"""What the kits of US Core ask of a server, as rows: from the metadata of 3.1.1, and from the tables
of the later versions."""

import re
from functools import cache
from typing import NamedTuple

import yaml

from tests.shared import shared

CORE = "http://hl7.org/fhir/us/core/StructureDefinition/"
_COMPARATORS = re.compile(r"([\w-]+): ([a-z ]+)")


class Row(NamedTuple):
    """One search. `fixed`: the values of the last named parameter but `patient`, each asked for
    alone; `comparators` by parameter; `several`: the parameters whose values are asked together."""

    profile: str
    type: str
    required: bool
    names: tuple
    fixed: tuple = ()
    comparators: dict = {}
    several: tuple = ()
    systems: tuple = ()
    posted: bool = False
    typed: bool = False
    include: str | None = None
    revinclude: str | None = None

    def __str__(self):
        more = f" {self.include or self.revinclude or ''}".rstrip()
        return f"{self.type} {self.profile.rpartition('/')[2]}: {'+'.join(self.names)}{more}"


@cache
def metadata():
    """The groups of 3.1.1, one a profile."""
    folder = shared("suites/inferno-us-core-metadata/v3.1.1")
    found = [yaml.safe_load(each.read_text()) for each in sorted(folder.glob("*/metadata.yml"))]
    assert len(found) == 29
    return found


def of_metadata():
    """The searches of 3.1.1, with those that include provenance and medications."""
    return [row for group in metadata() for row in _searches(group)]


def _searches(group):
    defined = group[":search_definitions"]
    for search in group[":searches"]:
        names = tuple(search[":names"])
        yield Row(
            group[":profile_url"],
            group[":resource"],
            search[":expectation"] == "SHALL",
            names,
            fixed=_fixed(names, defined) if search[":expectation"] == "SHALL" else (),
            comparators={
                name: tuple(
                    key.strip(":")
                    for key, level in defined[f":{name}"][":comparators"].items()
                    if level == "SHALL"
                )
                for name in names
            },
            several=tuple(n for n in names if defined[f":{n}"][":multiple_or"] == "SHALL"),
            systems=tuple(
                n for n in names if defined[f":{n}"][":type"] in ("CodeableConcept", "Identifier")
            ),
            posted=True,
            typed="patient" in names,
        )
    first = next((s for s in group[":searches"] if s[":expectation"] == "SHALL"), None)
    names = tuple(first[":names"]) if first else ("_id",)
    for revinclude in group[":revincludes"]:
        yield Row(
            group[":profile_url"],
            group[":resource"],
            True,
            names,
            fixed=_fixed(names, defined),
            revinclude=revinclude,
        )
    for include in group[":include_params"]:
        yield Row(
            group[":profile_url"],
            group[":resource"],
            True,
            names,
            fixed=_fixed(names, defined),
            include=include,
        )


def _fixed(names, defined):
    last = [n for n in names if n != "patient"][-1:] if len(names) == 2 else []
    return tuple(str(v) for n in last for v in defined[f":{n}"][":values"])


def of_table(version):
    """The searches of a table of a later version."""
    text = shared(f"notes/us-core-searches-{version}.md").read_text()
    rows = [line.replace("\\|", "¦").split("|")[1:-1] for line in text.splitlines()]
    return [_row(row) for row in rows if len(row) == 6 and row[1] in ("R", "o")]


def _row(row):
    who, required, names, flags, comparators, fixed = (each.strip() for each in row)
    type, profile = re.fullmatch(r"(\w+) `([^`]+)`", who).groups()
    parts = [each.strip(" `") for each in names.split(" + ")]
    plain = tuple(each for each in parts if not each.startswith(("_include", "_revinclude")))
    joined = dict(each.split("=", 1) for each in parts if each.startswith("_rev"))
    systems = re.search(r"S\(([^)]*)\)", flags)
    several = re.search(r"\bor\(([^)]*)\)", flags)
    return Row(
        profile if profile.startswith("http") else CORE + profile,
        type,
        required == "R",
        plain,
        fixed=tuple(each for each in fixed.split(",") if each),
        comparators={n: tuple(c.split()) for n, c in _COMPARATORS.findall(comparators)},
        several=tuple(several[1].split(",")) if several else (),
        systems=tuple(systems[1].split(",")) if systems else (),
        posted="P" in flags.split(),
        typed="T" in flags.split(),
        include=f"{type}:medication" if "inc" in flags.split() else None,
        revinclude=joined.get("_revinclude"),
    )
