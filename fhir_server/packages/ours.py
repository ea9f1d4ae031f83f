"""The OperationDefinitions of operations that R4 and the guides do not have: those of Salus itself,
and those that a later FHIR names, under its url and with what is taken here.

https://hl7.org/fhir/R4/operationdefinition.html
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from conformance.packages import Package, Packing
from conformance.packages.package import Manifest

URL = "urn:salus:OperationDefinition:"


class Given(NamedTuple):
    """A parameter: its name, whether it goes in or out, how often it may come, and its type (of one
    that has parts: none, but the name and the type of each part)."""

    name: str
    use: str
    min: int
    max: str
    type: str | None
    means: str
    parts: tuple[tuple[str, str], ...] = ()


class Defined(NamedTuple):
    """An operation: its code, where it is offered, whether it changes something; the types that
    have it (none: all, where it is not of the system alone), and its url where others gave it
    one."""

    code: str
    levels: tuple[str, ...]
    affects: bool
    means: str
    parameters: tuple[Given, ...]
    types: tuple[str, ...] = ()
    url: str = ""


_COUNTED = (("below", "uri"), ("count", "integer"))
_REMOVED = (("type", "code"), ("resources", "integer"))
DEFINED = (
    Defined(
        "install-package",
        ("system",),
        True,
        "Installs a FHIR package. The .tgz may be the body itself (application/gzip) or a Binary.",
        (
            Given("package", "in", 1, "1", "base64Binary", "The .tgz"),
            Given("strict", "in", 0, "1", "boolean", "Refuse what depends on what is not here"),
            Given("package", "out", 1, "1", "string", "name#version"),
            Given("resources", "out", 1, "1", "integer", "How many resources it holds"),
            Given("missing", "out", 0, "*", "string", "A dependency that is not here"),
            Given(
                "unknown-value-sets", "out", 0, "*", None, "Below an address: how many", _COUNTED
            ),
            Given("unknown-profiles", "out", 0, "*", None, "Below an address: how many", _COUNTED),
        ),
    ),
    Defined(
        "proof",
        ("instance",),
        False,
        "Proves that a version of a resource is in the log as it is.",
        (
            Given("checkpoint", "out", 1, "1", "string", "The signed head of the log"),
            Given("receipt", "out", 1, "1", "string", "All that a check without the server takes"),
        ),
    ),
    Defined(
        "reindex",
        ("system",),
        True,
        "Tells how far search parameters are indexed, and makes entries anew in the background.",
        (
            Given("parameter", "in", 0, "*", "uri", "A search parameter"),
            Given("type", "in", 0, "*", "code", "A resource type"),
            Given("all", "in", 0, "1", "boolean", "Everything"),
        ),
    ),
    Defined(
        "import",
        ("system",),
        True,
        "Takes in resources as lines, of files that are fetched or of the body itself.",
        (
            Given("inputFormat", "in", 1, "1", "code", "application/fhir+ndjson"),
            Given("inputSource", "in", 1, "1", "uri", "Where the files come from"),
            Given(
                "storageDetail",
                "in",
                0,
                "1",
                None,
                "How the files are fetched",
                (("type", "code"),),
            ),
            Given("input", "in", 1, "*", None, "A file", (("type", "code"), ("url", "uri"))),
        ),
    ),
    Defined(
        "batch-validate-code",
        ("system", "type"),
        False,
        "Answers many questions of $validate-code in their order.",
        (
            Given("validation", "in", 1, "*", "Parameters", "The parameters of one $validate-code"),
            Given("tx-resource", "in", 0, "*", "Resource", "What the questions are about"),
            Given("displayLanguage", "in", 0, "1", "code", "The language of displays"),
            Given("validation", "out", 1, "*", "Resource", "Parameters, or an OperationOutcome"),
        ),
        ("CodeSystem", "ValueSet"),
        "http://hl7.org/fhir/OperationDefinition/ValueSet-batch-validate-code",
    ),
    Defined(
        "purge",
        ("instance",),
        True,
        "Removes everything that is a patient's for good, with every version.",
        (
            Given("basis", "in", 0, "1", "string", "Why, without a word about the patient"),
            Given("confirm", "in", 0, "1", "string", "The id once more"),
            Given("dry-run", "in", 0, "1", "boolean", "Tell what would go, and do nothing"),
            Given("dry-run", "out", 1, "1", "boolean", "Whether nothing was done"),
            Given("hold", "out", 1, "1", "boolean", "Whether a hold keeps it"),
            Given("versions", "out", 1, "1", "integer", "How many versions"),
            Given("removed", "out", 0, "*", None, "Of a type: how many", _REMOVED),
        ),
        ("Patient",),
        "http://hl7.org/fhir/OperationDefinition/Patient-purge",
    ),
)


@cache
def ours() -> Package:
    """These definitions as a package."""
    packing = Packing()
    for defined in DEFINED:
        packing.add(_resource(defined))
    return Package(packing.finish(Manifest("salus", "1", fhir_versions=("4.0.1",))))


def _resource(defined: Defined) -> dict[str, Any]:
    types = defined.types or (("Resource",) if defined.levels != ("system",) else ())
    return {
        "resourceType": "OperationDefinition",
        "id": defined.code,
        "url": defined.url or URL + defined.code,
        "version": "1",
        "name": "".join(word.capitalize() for word in defined.code.split("-")),
        "status": "active",
        "kind": "operation",
        "affectsState": defined.affects,
        "description": defined.means,
        "code": defined.code,
        **({"resource": list(types)} if types else {}),
        **{level: level in defined.levels for level in ("system", "type", "instance")},
        "parameter": list(_parameters(defined.parameters)),
    }


def _parameters(given: tuple[Given, ...]) -> Iterator[dict[str, Any]]:
    for each in given:
        told: dict[str, Any] = {"name": each.name, "use": each.use, "min": each.min}
        told |= {"max": each.max, "documentation": each.means}
        if each.type is not None:
            yield {**told, "type": each.type}
            continue
        part = {"use": each.use, "min": 1, "max": "1"}
        yield {**told, "part": [{"name": n, **part, "type": t} for n, t in each.parts]}
