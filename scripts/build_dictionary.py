"""Train the zstd dictionary that stored bodies are compressed with: fhir_server/storage/zdict.bin.

    python scripts/build_dictionary.py EXAMPLES.tar.xz BUNDLES.ndjson.gz... [--leave FILE.ndjson.gz]
    python scripts/build_dictionary.py --events

The second form only renews the audit events at its end, after a change of their shape.

The official R4 examples (CC0) give every type, bundles of generated patients (Synthea, Apache-2.0)
the usual ones. Lines of the file after --leave are left out, so that a benchmark is not trained on
itself. Bodies are brought to the form in which the server stores them: minified, with id and meta.
https://facebook.github.io/zstd/
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import tarfile
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from fhir_server.audit.event import TOKEN_END, Caller, events
from fhir_server.interaction import Interaction, Result
from smart_auth.grant import Grant

SIZE = 112_640
EACH = 120  # samples of one type from one file
LONGEST = 16_384  # bytes of one sample
TARGET = Path(__file__).parent.parent / "fhir_server" / "storage" / "zdict.bin"


def examples(file: Path) -> Iterator[dict[str, Any]]:
    with tarfile.open(file) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".json"):
                stream = archive.extractfile(member)
                resource = json.load(stream) if stream else {}
                if "resourceType" in resource:
                    yield resource


def _lines(file: Path) -> list[bytes]:
    with gzip.open(file) as lines:
        return list(lines)


def generated(file: Path, leave: frozenset[bytes]) -> Iterator[dict[str, Any]]:
    for line in _lines(file):
        if line not in leave:
            for entry in json.loads(line)["entry"]:
                yield entry["resource"]


def stored(resource: dict[str, Any], chance: random.Random) -> bytes:
    """The bytes as the server would store them."""
    day, hour, second = (chance.randrange(10, limit) for limit in (29, 24, 60))
    meta = {
        "versionId": "1",
        "lastUpdated": f"2026-0{day % 10}-{day}T{hour}:{second}:30.527Z",
    }
    rest = {key: value for key, value in resource.items() if key not in ("resourceType", "id")}
    body = {
        "resourceType": resource["resourceType"],
        "id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "meta": {**meta, **rest.pop("meta", {})},
        **rest,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def samples(sources: list[Iterator[dict[str, Any]]]) -> list[bytes]:
    """At most EACH bodies of one type from one source, always the same ones."""
    chance = random.Random(4)
    chosen: list[bytes] = []
    for source in sources:
        by_type: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for resource in source:
            by_type[resource["resourceType"]].append(resource)
        for _, resources in sorted(by_type.items()):
            picked = chance.sample(resources, min(EACH, len(resources)))
            chosen += (stored(resource, chance)[:LONGEST] for resource in picked)
    return chosen


_APP = Grant("Practitioner/1", agent="Practitioner/1", client="app")
_SERVICE = Grant("service", client="service")
# Callers and what they ask for, the usual last: events share nearly every byte, and what stands at
# the end of a dictionary is cheapest to refer to.
_ASKED = (
    (Grant.open(), ("delete", "search-type", "create", "read")),
    (_SERVICE, ("transaction", "update", "create", "search-type", "read")),
    (_APP, ("delete", "patch", "history-instance", "update", "vread", "create")),
    (_APP, ("search-type", "read")),
)


def audit_events() -> bytes:
    """Our own AuditEvents."""
    return b"".join(_audited(grant, code) for grant, codes in _ASKED for code in codes)


def _audited(grant: Grant, code: str) -> bytes:
    patient, other = (str(uuid.UUID(int=number << 64, version=4)) for number in (7, 9))
    token = "" if grant.unrestricted else "0" * TOKEN_END
    caller = Caller(grant, "127.0.0.1", "127.0.0.1:8080", "0" * 12, token)
    touched = () if code.startswith("search") else (("Observation", other, 1),)
    parameters = () if touched else (("patient", patient), ("code", "8302-2"), ("_sort", "-date"))
    asked = Interaction(code, "Observation", parameters=parameters)
    status = 201 if code == "create" else 200
    result = Result(status, touched=touched, patients=(f"Patient/{patient}",))
    made = events(asked, caller, result, 1_767_225_600_000_000, 200)
    told = b"".join(each.head + b"1" + each.tail for each in made)
    return re.sub(rb"[A-Za-z0-9+/]{43}=", b"0" * 43 + b"=", told)  # of a query: never the same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("examples", type=Path, nargs="?")
    parser.add_argument("bundles", type=Path, nargs="*")
    parser.add_argument("--leave", type=Path)
    parser.add_argument("--events", action="store_true")
    asked = parser.parse_args()
    if asked.events:
        TARGET.write_bytes(TARGET.read_bytes()[:SIZE] + audit_events())
        return
    leave = frozenset(_lines(asked.leave)) if asked.leave else frozenset()
    sources = [examples(asked.examples)]
    sources += [generated(file, leave) for file in asked.bundles]
    bodies = samples(sources)
    trained = zstandard.train_dictionary(SIZE, bodies, level=3, notifications=0)
    TARGET.write_bytes(trained.as_bytes() + audit_events())
    print(f"{len(bodies)} bodies, {sum(map(len, bodies))} bytes -> {TARGET}")


if __name__ == "__main__":
    main()
