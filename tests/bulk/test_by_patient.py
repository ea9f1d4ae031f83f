"""Files by patient: blocks that a header begins, each with what names one patient.

https://hl7.org/fhir/uv/bulkdata/export.html#bulk-data-output-file-organization
"""

from __future__ import annotations

import json

import pytest

from fhir_server.bulk import blocks
from fhir_server.bulk.blocks import Block
from fhir_server.bulk.state import Bulk
from tests.bulk.test_export import ALL, stored
from tests.bulk.world import file, group, kick_off, lines, manifest, work
from tests.security.clinic import Clinic, grant
from tests.security.people import reference, resource


def told(clinic, who, url: str):
    status = kick_off(clinic, who, url)
    work(clinic)
    return manifest(clinic, who, status)


def blocks_of(clinic, who, item) -> list[tuple[str, list[str]]]:
    """Of each block of a file the patient, and what is in it."""
    found: list[tuple[str, list[str]]] = []
    for line in lines(clinic, who, item["url"]):
        if line["resourceType"] == "Parameters":
            (header,) = line["parameter"]
            assert header["name"] == "header" and set(header) == {"name", "valueReference"}
            found.append((header["valueReference"]["reference"], []))
        else:
            found[-1][1].append(f"{line['resourceType']}/{line['id']}")
    assert sum(len(each) for _, each in found) == item.get(
        "count", sum(len(each) for _, each in found)
    )
    return found


def appointment(id: str, *patients: str):
    part = [{"actor": reference(f"Patient/{each}"), "status": "accepted"} for each in patients]
    times = {"start": "2026-01-01T08:00:00Z", "end": "2026-01-01T09:00:00Z"}
    return resource(f"Appointment/{id}", status="booked", participant=part, **times)


def test_each_block_is_headed_by_its_patient_and_has_what_names_it(clinic):
    clinic.put(appointment("both", "a", "b"))
    answer = told(clinic, ALL, "$export?organizeOutputBy=Patient")

    assert answer["outputOrganizedBy"] == "Patient"
    first, *rest = answer["output"]
    assert "type" not in first and "continuesInFile" not in first
    (a, of_a), (b, of_b) = blocks_of(clinic, ALL, first)
    assert (a, of_a[0], b, of_b[0]) == ("Patient/a", "Patient/a", "Patient/b", "Patient/b")
    assert {"Observation/lab-a", "Appointment/both"} <= set(of_a)
    assert {"Observation/lab-b", "Appointment/both"} <= set(of_b)
    assert set(of_a) & set(of_b) >= {"Appointment/both"}
    assert not {"Observation/lab-b", "Encounter/visit-b"} & set(of_a)

    apart: list[str] = []
    for item in rest:
        there = lines(clinic, ALL, item["url"])
        assert {each["resourceType"] for each in there} == {item["type"]}
        assert len(there) == item["count"]
        apart += [f"{each['resourceType']}/{each['id']}" for each in there]
    assert "Practitioner/doc" in apart and len(set(apart)) == len(apart)
    assert not set(apart) & {*of_a, *of_b}
    assert {*of_a, *of_b, *apart} == stored(clinic)


def test_a_group_has_blocks_of_its_members_only(clinic):
    clinic.put(appointment("both", "a", "b"), group("ward", "Patient/a"))
    answer = told(clinic, ALL, "Group/ward/$export?organizeOutputBy=Patient")

    ((name, there),) = blocks_of(clinic, ALL, answer["output"][0])
    assert name == "Patient/a" and "Appointment/both" in there
    assert {"Group", "Practitioner"} <= {each["type"] for each in answer["output"][1:]}


def test_without_the_patients_the_headers_still_name_them(clinic):
    clinic.put(appointment("both", "a", "b"))
    answer = told(clinic, ALL, "$export?organizeOutputBy=Patient&_type=Appointment,Encounter")

    found = dict(blocks_of(clinic, ALL, answer["output"][0]))
    assert set(found) == {"Patient/a", "Patient/b"}
    assert all("Appointment/both" in each for each in found.values())
    assert not any(name.startswith("Patient/") for each in found.values() for name in each)


def test_who_is_limited_to_patients_gets_blocks_of_no_others(clinic):
    clinic.put(appointment("both", "a", "b"))
    limited = grant("patient/*.rs", patient="a", client="phone")
    answer = told(clinic, limited, "Patient/$export?organizeOutputBy=Patient")

    names = [
        name
        for item in answer["output"]
        if "type" not in item
        for name, _ in blocks_of(clinic, limited, item)
    ]
    assert names == ["Patient/a"]


def test_a_block_that_is_too_long_for_a_file_goes_on_in_the_next(runner, clinic, monkeypatch):
    monkeypatch.setattr("fhir_server.bulk.blocks.SLICE", 3)
    whole = Clinic(clinic.server.store, runner, bulk=Bulk(lines=7))
    answer = told(whole, ALL, "$export?organizeOutputBy=Patient")
    items = [item for item in answer["output"] if "type" not in item]

    assert len(items) > 2 and "continuesInFile" not in items[-1]
    every: dict[str, list[str]] = {}
    for item, following in zip(items, [*items[1:], None], strict=True):
        there = blocks_of(whole, ALL, item)
        assert item["count"] <= 7
        for name, some in there:
            every.setdefault(name, []).extend(some)
        if "continuesInFile" in item:
            assert following and item["continuesInFile"] == following["url"]
            assert blocks_of(whole, ALL, following)[0][0] == there[-1][0]
        elif following:
            assert blocks_of(whole, ALL, following)[0][0] != there[-1][0]
    complete = told(clinic, ALL, "$export?organizeOutputBy=Patient")["output"][0]
    assert {name: sorted(some) for name, some in every.items()} == {
        name: sorted(some) for name, some in blocks_of(clinic, ALL, complete)
    }


def test_what_is_erased_takes_its_block_and_header_along(clinic):
    answer = told(clinic, ALL, "$export?organizeOutputBy=Patient")
    run, store = clinic._runner.run, clinic.server.store
    run(store.transaction(lambda tx: tx.erase("Patient/a"), write=True))

    body = file(clinic, ALL, answer["output"][0]["url"]).body
    headers = [
        json.loads(line)["parameter"][0]["valueReference"]["reference"]
        for line in body.splitlines()
        if b'"Parameters"' in line
    ]
    assert "Patient/a" not in headers and "Patient/b" in headers


@pytest.mark.parametrize("rounds", range(3, 12, 2))
def test_a_restart_in_between_gives_the_same(clinic, rounds):
    expected = told(clinic, ALL, "$export?organizeOutputBy=Patient")
    status = kick_off(clinic, ALL, "$export?organizeOutputBy=Patient")
    work(clinic, rounds)
    work(clinic)  # by another worker, which knows only what is kept
    again = manifest(clinic, ALL, status)

    assert [each["count"] for each in again["output"]] == [
        each["count"] for each in expected["output"]
    ]


def test_a_slice_of_blocks_is_read_as_it_was_written():
    made = [Block(7, [7, 1, 2]), Block(0, [3]), Block(9, [])]
    assert blocks.unpacked(blocks.packed(made)) == made
    assert blocks.unpacked(b"") == []
