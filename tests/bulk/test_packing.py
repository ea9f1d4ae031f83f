"""Downloads in gzip.

https://www.rfc-editor.org/rfc/rfc9110#field.accept-encoding
"""

from __future__ import annotations

import gzip

import pytest

from fhir_server.bulk.packing import takes_gzip
from tests.bulk.test_export import ALL
from tests.bulk.world import below, file, kick_off, manifest, work


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("", False),
        ("identity, br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("*;q=0", False),
        ("gzip;q=0.01", True),
    ],
)
def test_gzip_is_taken_by_who_says_so(header, takes):
    assert takes_gzip(header.encode()) is takes


def test_a_file_in_gzip_is_the_file(clinic):
    status = kick_off(clinic, ALL)
    work(clinic)
    url = manifest(clinic, ALL, status)["output"][0]["url"]
    plain = file(clinic, ALL, url)
    accept = [("Accept", "application/fhir+ndjson"), ("Accept-Encoding", "gzip, deflate")]
    packed = clinic.ask(ALL, "GET", below(url), headers=accept)

    assert plain.header("content-encoding") is None
    assert (packed.status, packed.header("content-encoding")) == (200, "gzip")
    assert packed.header("vary") == plain.header("vary") == "accept-encoding"
    assert packed.header("content-type") == plain.header("content-type")
    assert gzip.decompress(packed.body) == plain.body != b""
