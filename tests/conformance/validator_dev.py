"""Runs the cases of the reference validator's own tests: is a resource valid or not, as such and
against a profile."""

import json
from functools import cache
from typing import NamedTuple

from conformance import definitions
from conformance.json import parse
from conformance.outcome import FhirError
from conformance.packages import Packages, read
from conformance.profiles import Policy, Profiles
from conformance.xml import from_xml
from terminology import ucum
from terminology.service import Terminology
from tests.shared import shared

# What needs formats, networks or guides that are not FHIR R4 itself, or not at hand.
ELSEWHERE = frozenset(
    {
        "api",
        "cdshooks",
        "dsig",
        "json5",
        "matchetype",
        "package-versioning",
        "shc",
        "tx",
        "tx-advanced",
        "xver",
    }
)


class Case(NamedTuple):
    """`raw`: the manifest's own object; `alone`: whether nothing from outside is needed."""

    name: str
    raw: dict
    alone: bool


class Judged(NamedTuple):
    """Whether the case agrees, and what was found."""

    agrees: bool
    base: tuple
    profile: tuple | None
    expected: tuple


def cases():
    return [Case(each["name"], each, _alone(each)) for each in _json("manifest.json")["test-cases"]]


def _alone(raw):
    outside = [each for each in raw.get("packages", ()) if not each.endswith(".tgz")]
    return raw.get("module") not in ELSEWHERE and not outside and not raw.get("logical")


@cache
def _folder():
    return shared("suites/validator-dev")


def _json(path):
    return json.loads((_folder() / path).read_text("utf-8-sig"))


def _read(path):
    """A resource in JSON or XML. FhirError."""
    data = (_folder() / path).read_bytes().removeprefix(b"\xef\xbb\xbf")
    return from_xml(data) if path.endswith(".xml") else parse(data)


@cache
def _core():
    return Packages()


class _Library:
    """Packages, and the resources that a case brings along before them."""

    def __init__(self, packages, resources):
        self._packages = packages
        self._own = {}
        for each in resources:
            if "url" in each:
                key = each["resourceType"], each["url"]
                self._own[key] = each
                if "version" in each:
                    self._own[key[0], f"{each['url']}|{each['version']}"] = each

    def find(self, type, canonical):
        return self._own.get((type, canonical)) or self._packages.find(type, canonical)


@cache
def _definitions():
    return definitions.load()


@cache
def _terminology():
    return Terminology(_core())


def judge(case):
    """Run a case."""
    raw, expected = case.raw, []
    packages = _core()
    for each in raw.get("packages", ()):
        if each.endswith(".tgz"):
            packages = packages.including(read((_folder() / each).read_bytes()))
    brought = [_read(each) for each in raw.get("supporting", ()) if (_folder() / each).exists()]
    base = _errors(case, packages, brought, ())
    expected.append(raw["expect"]["errors"])
    agrees = bool(base) == bool(expected[0])
    profile, asked = None, raw.get("profile")
    if asked:
        brought += [_read(each) for each in asked.get("supporting", ())]
        source = asked["source"]
        if not source.startswith("http"):
            found = _read(source)
            brought.append(found)
            source = found["url"]
        profile = _errors(case, packages, brought, (source,))
        expected.append(asked["expect"]["errors"])
        agrees = agrees and bool(profile) == bool(expected[1])
    return Judged(agrees, base, profile, tuple(expected))


def _errors(case, packages, brought, asked):
    try:
        resource = _read(case.raw["file"])
    except FhirError as error:
        return tuple(error.issues)
    codes = _terminology() if packages is _core() else Terminology(packages)
    profiles = Profiles(
        _definitions(),
        _Library(packages, brought),
        codes.having(brought) if brought else codes,
        units=ucum,
        policy=Policy(unknown_extensions="error"),
    )
    issues = profiles.validate(resource, asked)
    return tuple(each for each in issues if each.severity in ("error", "fatal"))
