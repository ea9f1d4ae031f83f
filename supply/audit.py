"""Asks whether a pinned package has a known vulnerability. Never takes silence for a no: when some
package could not be asked about, the exit code says so.

Online, pip-audit asks the service of https://osv.dev. Offline, a copy of that service's database
is read: a zip, or a folder, of records (https://ossf.github.io/osv-schema/).

Exit code: 0 none is known, 1 there are some, 2 it could not be asked.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from packaging.version import InvalidVersion, Version

NONE, SOME, UNKNOWN = 0, 1, 2
_SECONDS = 300  # for all packages
_ASK = ("-f", "json", "--no-deps", "--disable-pip", "--progress-spinner", "off", "-s", "osv")


class CouldNotAsk(Exception):
    """The text says why."""


class Found(NamedTuple):
    """A vulnerability of a pinned package."""

    package: str
    version: str
    id: str
    fixed: str


def pinned(lock: Path) -> dict[str, str]:
    """Version by name of every package that a lock file pins."""
    lines = (line.partition("#")[0].strip() for line in lock.read_text().splitlines())
    return {_plain(name): version for name, _, version in (x.partition("==") for x in lines if x)}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# --- online --------------------------------------------------------------------------------------


def asked(lock: Path) -> list[Found]:
    """What the service knows. CouldNotAsk when it does not answer, or not about each package."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(lock), *_ASK]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise CouldNotAsk(f"the service did not answer within {_SECONDS} s") from None
    try:
        answered = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        raise CouldNotAsk(last[:300]) from None
    told = {_plain(each["name"]) for each in answered if "skip_reason" not in each}
    if missing := sorted(pinned(lock).keys() - told):
        raise CouldNotAsk(f"the service was not asked about {', '.join(missing)}")
    return [
        Found(each["name"], each["version"], one["id"], ", ".join(one["fix_versions"]))
        for each in answered
        for one in each["vulns"]
    ]


# --- offline -------------------------------------------------------------------------------------


def looked_up(lock: Path, database: Path) -> list[Found]:
    """What a copy of the database knows. CouldNotAsk when it cannot be read."""
    pins, count, found = pinned(lock), 0, set()
    try:
        for record in _records(database):
            count += 1
            if "withdrawn" not in record:
                found |= {*_hits(record, pins)}
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise CouldNotAsk(f"{database} is no copy of the database: {error}") from None
    if not count:
        raise CouldNotAsk(f"{database} holds no record")
    return sorted(found)


def _records(database: Path) -> Iterator[dict[str, Any]]:
    if database.is_dir():
        for path in sorted(database.glob("*.json")):
            yield json.loads(path.read_bytes())
        return
    with zipfile.ZipFile(database) as packed:
        for name in packed.namelist():
            if name.endswith(".json"):
                yield json.loads(packed.read(name))


def _hits(record: dict[str, Any], pins: dict[str, str]) -> Iterator[Found]:
    for affected in record.get("affected", ()):
        package = affected.get("package", {})
        name = _plain(package.get("name", ""))
        if package.get("ecosystem") != "PyPI" or name not in pins:
            continue
        version = pins[name]
        ranges = [each for each in affected.get("ranges", ()) if each["type"] == "ECOSYSTEM"]
        listed = version in affected.get("versions", ())
        if listed or any(_within(Version(version), each["events"]) for each in ranges):
            fixed = [e["fixed"] for each in ranges for e in each["events"] if "fixed" in e]
            yield Found(name, version, record["id"], ", ".join(fixed))


def _within(version: Version, events: list[dict[str, str]]) -> bool:
    """Whether a version lies between an event that introduced a fault and one that ended it."""
    inside = False
    for event in sorted(events, key=_order):
        if "introduced" in event:
            inside = inside or _at(event["introduced"]) <= version
        elif "fixed" in event:
            inside = inside and version < _at(event["fixed"])
        elif "last_affected" in event:
            inside = inside and version <= _at(event["last_affected"])
    return inside


def _order(event: dict[str, str]) -> tuple[Version, bool]:
    (kind, at), *_ = event.items()
    return _at(at), kind != "introduced"


def _at(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        raise ValueError(f"{text} is no version") from None


# --- the command ---------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lock", type=Path, help="file that pins every package")
    parser.add_argument("--database", type=Path, help="zip or folder of OSV records: ask nobody")
    options = parser.parse_args()
    try:
        if options.database:
            found = looked_up(options.lock, options.database)
        else:
            found = asked(options.lock)
    except CouldNotAsk as why:
        print(f"NOT AUDITED: {why}.", file=sys.stderr)
        print("Nothing is known about the packages. Where no service can be reached, name a copy")
        print('of its database: make audit ARGS="--database FILE"')
        return UNKNOWN
    for each in found:
        fixed = f"fixed in {each.fixed}" if each.fixed else "not fixed yet"
        print(f"{each.package} {each.version}: {each.id}, {fixed}")
    number = len(pinned(options.lock))
    print(f"{len(found)} known vulnerabilities in {number} pinned packages.")
    return SOME if found else NONE


if __name__ == "__main__":
    sys.exit(main())
