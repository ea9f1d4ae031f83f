"""Operations by name: one file an operation, found here (https://hl7.org/fhir/R4/operations.html).

To add one, write its file with an `OPERATION` and name it in `ALL`. It says which letters of a
scope it needs, reads through `sight` and searches with `results.context`, so that access is in it.
"""

from __future__ import annotations

from fhir_server.bulk.offered import BULK
from fhir_server.core import Operation
from fhir_server.operations import (
    batch_validate_code,
    closure,
    docref,
    everything,
    expand,
    find_matches,
    install_package,
    lastn,
    lookup,
    meta,
    proof,
    purge,
    reindex,
    subsumes,
    translate,
    validate,
    validate_code,
    versions,
)

ALL: dict[str, Operation] = {
    each.code: each
    for each in (
        install_package.OPERATION,
        proof.OPERATION,
        purge.OPERATION,
        reindex.OPERATION,
        validate.OPERATION,
        batch_validate_code.OPERATION,
        closure.OPERATION,
        docref.OPERATION,
        everything.OPERATION,
        expand.OPERATION,
        find_matches.OPERATION,
        lastn.OPERATION,
        lookup.OPERATION,
        subsumes.OPERATION,
        translate.OPERATION,
        validate_code.OPERATION,
        versions.OPERATION,
        *meta.ALL,
        *BULK,
    )
}
