"""$install-package: an implementation guide or another package, from now on known to this server.

POST [base]/$install-package with the .tgz as it is (application/gzip), a Binary that holds it, or
Parameters with `package` (base64Binary) and `strict` (boolean: refuse it when it depends on what is
not here). R4 defines no such operation. For callers who may do everything on the whole system.
https://hl7.org/fhir/packages.html
"""

from __future__ import annotations

import binascii
from typing import Any, NamedTuple

from conformance.json import encode
from conformance.outcome import FhirError
from conformance.packages import Package, PackageError, read
from fhir_server import access
from fhir_server.core import Core, Operation, Step
from fhir_server.interaction import Interaction, Resource, Result
from fhir_server.packages import installed
from fhir_server.packages.acceptance import Lacking, lacking, require_installable
from smart_auth.grant import Grant

GZIP = frozenset({"application/gzip", "application/x-gzip", "application/x-tar+gzip"})
_TAKES = "$install-package takes package (base64Binary) and strict (boolean)"


class _Plan(NamedTuple):
    package: Package
    lacks: Lacking


def prepare(core: Core, grant: Grant, asked: Interaction) -> _Plan:
    """The package, read and found to fit. FhirError 400, 403, 422."""
    if not access.administers(grant):
        raise access.refusal("$install-package", None)
    file, strict = _given(asked)
    try:
        package = read(file)
        require_installable(package)
    except PackageError as error:
        raise FhirError("processing", str(error)) from error
    lacks = lacking(package, core.guides.current.packages)
    if strict and lacks.dependencies:
        missing = ", ".join(f"{name}#{version}" for name, version, _ in lacks.dependencies)
        text = f"{package.label} depends on packages that are not here: {missing}"
        raise FhirError("business-rule", text)
    return _Plan(package, lacks)


async def run(step: Step, asked: Interaction, plan: _Plan) -> Result:
    """200 with Parameters that name the package and what it lacks. FhirError 422."""
    if len(await installed.entries(step.tx)) >= installed.MOST:
        raise FhirError("too-costly", f"At most {installed.MOST} packages can be installed")
    upload, pieces = installed.new_upload(), 0
    for data in installed.in_pieces(plan.package.data):
        await installed.write_piece(step.tx, upload, pieces, data)
        pieces += 1
    await installed.commit(step.tx, plan.package, upload, pieces)
    step.core.guides.touch()
    return Result(200, _told(plan), described=f"installed {plan.package.label}")


def _given(asked: Interaction) -> tuple[bytes, bool]:
    """The file, and whether its dependencies must be there. FhirError 400."""
    if asked.content is not None:
        return asked.content.data, _strict_in_url(asked)
    sent = asked.resource or {}
    if sent.get("resourceType") == "Binary":
        return _decoded(sent.get("data")), _strict_in_url(asked)
    if sent.get("resourceType") != "Parameters":
        text = "$install-package takes a .tgz, a Binary or Parameters in its body"
        raise FhirError("required", text, status=400)
    return _of_parameters(sent)


def _of_parameters(sent: Resource) -> tuple[bytes, bool]:
    found: dict[str, Any] = {}
    for part in sent.get("parameter", ()):
        name = part.get("name") if isinstance(part, dict) else None
        if name not in ("package", "strict") or name in found:
            raise FhirError("invalid", _TAKES)
        found[name] = part.get("valueBase64Binary" if name == "package" else "valueBoolean")
    strict = found.get("strict", False)
    if not isinstance(strict, bool):
        raise FhirError("invalid", _TAKES)
    return _decoded(found.get("package")), strict


def _strict_in_url(asked: Interaction) -> bool:
    if any(pair not in (("strict", "true"), ("strict", "false")) for pair in asked.parameters):
        raise FhirError("invalid", "$install-package takes strict in its URL: true or false")
    return ("strict", "true") in asked.parameters


def _decoded(data: Any) -> bytes:
    try:
        if isinstance(data, str):
            return binascii.a2b_base64("".join(data.split()), strict_mode=True)
    except ValueError:  # binascii.Error is one
        pass
    raise FhirError("value", "The package is base64 of a .tgz", status=400)


def _told(plan: _Plan) -> bytes:
    package, lacks = plan
    parts: list[dict[str, Any]] = [
        {"name": "package", "valueString": package.label},
        {"name": "resources", "valueInteger": len(package.listed)},
        *({"name": "missing", "valueString": f"{name}#{v}"} for name, v, _ in lacks.dependencies),
        *_counted("unknown-value-sets", lacks.value_sets),
        *_counted("unknown-profiles", lacks.profiles),
    ]
    return encode({"resourceType": "Parameters", "parameter": parts})


def _counted(name: str, found: tuple[tuple[str, int], ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "part": [
                {"name": "below", "valueUri": below},
                {"name": "count", "valueInteger": count},
            ],
        }
        for below, count in found
    ]


OPERATION = Operation(
    "install-package",
    frozenset({"system"}),
    frozenset(),
    True,
    "urn:salus:OperationDefinition:install-package",
    run,
    "cruds",
    prepare=prepare,
    media=GZIP,
)
