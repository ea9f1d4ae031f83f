"""How fast terminology is answered, in process and through the ASGI face, in processor time.

Run: python scripts/bench_terminology.py
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from conformance.packages import Packages
from terminology.asked import Asked
from terminology.providers import built_in
from terminology.service import Terminology
from tests.security.clinic import Clinic, grant, opened

GENDER = "http://hl7.org/fhir/ValueSet/administrative-gender"
GENDERS = "http://hl7.org/fhir/administrative-gender"
LARGEST = "http://dicom.nema.org/resources/ontology/DCM"  # of the core: 3,156 codes
WHOLE: dict[str, Any] = {
    "resourceType": "ValueSet",
    "id": "largest",
    "url": "http://example.org/largest",
    "status": "active",
    "compose": {"include": [{"system": LARGEST}]},
}
QUESTIONS = {
    "$validate-code": f"ValueSet/$validate-code?url={GENDER}&system={GENDERS}&code=male",
    "$lookup": f"CodeSystem/$lookup?system={GENDERS}&code=male",
    "$expand, filter, largest of core": f"ValueSet/$expand?url={WHOLE['url']}&filter=acq&count=20",
}


def asked(**given: object) -> Asked:
    return Asked.query((name, str(value)) for name, value in given.items())


def timed(name: str, act: Callable[[], object], count: int) -> None:
    began = time.process_time()
    act()
    first = time.process_time() - began
    best = min(_each(act, count) for _ in range(5))
    print(f"{name:45} {best * 1e6:10.1f} us {1 / best:12,.0f} a second, first {first * 1e3:.1f} ms")


def _each(act: Callable[[], object], count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        act()
    return (time.process_time() - began) / count


def in_process() -> None:
    known = Terminology(Packages(), built_in())
    here = known.having([WHOLE])
    code = asked(url=GENDER, system=GENDERS, code="male", display="Male")
    timed("member, a list", lambda: known.member(GENDER, GENDERS, "male"), 20_000)
    units = "http://hl7.org/fhir/ValueSet/ucum-units"
    timed(
        "member, a grammar",
        lambda: known.member(units, "http://unitsofmeasure.org", "mg/dL"),
        5_000,
    )
    timed("$validate-code", lambda: known.validate_code(code), 1_000)
    timed("$lookup", lambda: known.lookup(asked(system=GENDERS, code="male")), 1_000)
    filtered = asked(url=WHOLE["url"], filter="acq", count=20)
    timed("$expand, filter, largest of core", lambda: here.expand(filtered), 50)
    timed("$expand, all of the largest of core", lambda: here.expand(asked(url=WHOLE["url"])), 5)


def served() -> None:
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        store = runner.run(opened(Path(folder) / "data"))
        clinic = Clinic(store, runner)
        clinic.put(WHOLE)
        caller = grant("user/*.rs", reach=None)
        for name, url in QUESTIONS.items():
            timed(f"HTTP {name}", lambda url=url: clinic.ask(caller, "GET", url), 100)  # type: ignore[misc]
        runner.run(store.close())


if __name__ == "__main__":
    in_process()
    served()
