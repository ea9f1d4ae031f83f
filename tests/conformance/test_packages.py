"""FHIR packages: read without trust, kept small, looked up by canonical url."""

import gzip
import io
import json
import runpy
import tarfile
from pathlib import Path

import pytest

from conformance.packages import (
    Package,
    PackageError,
    Packages,
    core,
    order,
    pack,
    read,
    read_folder,
    unpack,
)
from conformance.packages.archive import Bounds
from tests.shared import shared

MANIFEST = {
    "name": "example.guide",
    "version": "1.2.0",
    "canonical": "http://example.org/guide",
    "title": "A guide",
    "fhirVersions": ["4.0.1"],
    "dependencies": {"hl7.fhir.r4.core": "4.0.1"},
}


def code_system(version="1.2.0", content="complete", **more):
    return {
        "resourceType": "CodeSystem",
        "id": "colors",
        "url": "http://example.org/guide/CodeSystem/colors",
        "version": version,
        "status": "active",
        "content": content,
        **more,
    }


def archive(files, kind=tarfile.REGTYPE) -> bytes:
    """A .tgz of these files; what is no bytes is written as JSON."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as made:
        for name, content in files:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(data) if kind == tarfile.REGTYPE else 0
            member.linkname = "../../etc/passwd" if kind != tarfile.REGTYPE else ""
            made.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def guide(*resources, **manifest) -> bytes:
    files = [("package/package.json", {**MANIFEST, **manifest})]
    files += [(f"package/{n}.json", each) for n, each in enumerate(resources)]
    return archive(files)


def test_a_package_tells_its_manifest_and_lists_its_resources():
    package = read(guide(code_system()))
    assert (package.name, package.version, package.title) == ("example.guide", "1.2.0", "A guide")
    assert package.canonical == "http://example.org/guide"
    assert package.dependencies == (("hl7.fhir.r4.core", "4.0.1"),)
    assert package.fhir_versions == ("4.0.1",)
    (listed,) = package.listed
    assert listed[:5] == ("CodeSystem", code_system()["url"], "1.2.0", "colors", 0)
    assert (listed.kind, listed.status) == ("complete", "active")


def test_a_package_in_our_own_form_is_the_same_package():
    first = read(guide(code_system(), code_system(version="2.0.0")))
    again = unpack(pack(first))
    again.verify()
    assert again.listed == first.listed
    assert again.digest == first.digest
    assert [again.resource(each) for each in again.listed] == [
        code_system(),
        code_system(version="2.0.0"),
    ]


def test_only_files_right_below_package_that_are_resources_count():
    package = read(
        archive(
            [
                ("package/package.json", MANIFEST),
                ("package/.index.json", {"files": []}),
                ("package/CodeSystem-colors.json", code_system()),
                ("package/example/Patient-1.json", {"resourceType": "Patient"}),
                ("package/other/spec.json", {"resourceType": "CodeSystem"}),
                ("package/xml/a.xml", b"<a/>"),
            ]
        )
    )
    assert [each.id for each in package.listed] == ["colors"]


def test_narratives_mappings_and_contacts_are_dropped_from_definitions_only():
    profile = {
        "resourceType": "StructureDefinition",
        "url": "http://example.org/P",
        "text": {"status": "generated", "div": "<div/>"},
        "contact": [{"name": "x"}],
        "mapping": [{"identity": "m"}],
        "snapshot": {"element": [{"id": "Patient", "mapping": [{"identity": "m"}]}]},
    }
    example = {"resourceType": "Patient", "id": "p", "contact": [{"gender": "male"}]}
    package = read(guide(profile, example))
    assert [package.resource(each) for each in package.listed] == [
        {
            "resourceType": "StructureDefinition",
            "url": "http://example.org/P",
            "snapshot": {"element": [{"id": "Patient"}]},
        },
        example,
    ]
    assert package.listed[1].url == ""


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (b"PK\x03\x04", "This is no package: it is not a gzip file (.tgz)"),
        (gzip.compress(b"no tar at all" * 100), "This is no package: it is not a tar archive"),
        (guide()[:-40], "The package is damaged: it cannot be unpacked"),
        (archive([("package/a.json", {})]), "This is no package: it holds no package.json"),
        (
            archive([("package/package.json", b"{")]),
            "package.json is no JSON: This is not JSON: it ends too early",
        ),
        (
            guide(name="../../etc/passwd"),
            "package.json has no name that a package may have",
        ),
        (guide(version="1#2"), "package.json has no version that a package may have"),
        (
            archive([("package/package.json", MANIFEST), ("package/../../x.json", {})]),
            "The package is refused: a file's path leads outside of it",
        ),
        (
            archive([("/package/package.json", MANIFEST)]),
            "The package is refused: a file's path leads outside of it",
        ),
        (
            archive([("package/package.json", b"")], tarfile.SYMTYPE),
            "The package is refused: it holds links",
        ),
        (
            archive([("package/package.json", b"")], tarfile.LNKTYPE),
            "The package is refused: it holds links",
        ),
        (
            archive([("package/package.json", MANIFEST)] * 2),
            "The package is refused: it holds a file twice",
        ),
        (
            guide(b'{"resourceType": "ValueSet", "url": [' + b"[" * 99 + b"]" * 99 + b"]}"),
            "0.json is no JSON: The JSON is nested deeper than 64 levels",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",  # of which some hold the time
)
def test_what_is_no_package_is_refused(file, text):
    with pytest.raises(PackageError) as refused:
        read(file)
    assert str(refused.value) == text


def test_a_package_is_read_up_to_its_bounds_and_no_further():
    large = guide(code_system(description="x" * 10_000))
    assert read(large, bounds=Bounds(plain=40_000, file=11_000, files=2)).name == "example.guide"
    for bounds, text in (
        (Bounds(packed=100), "A package has at most 100 bytes"),
        (Bounds(plain=5_000), "The package is refused: unpacked, it is too large"),
        (Bounds(file=9_000), "A file of a package has at most 9000 bytes"),
        (Bounds(files=1), "A package has at most 1 files"),
    ):
        with pytest.raises(PackageError) as refused:
            read(large, bounds=bounds)
        assert str(refused.value) == text


def test_a_bomb_is_not_unpacked():
    bomb = archive([("package/package.json", MANIFEST), ("package/other/zeros", bytes(20_000_000))])
    assert len(bomb) < 30_000
    with pytest.raises(PackageError, match="unpacked, it is too large"):
        read(bomb, bounds=Bounds(plain=1_000_000))


def test_a_folder_is_read_as_a_package(tmp_path: Path):
    inside = tmp_path / "package"
    inside.mkdir()
    (inside / "package.json").write_text(json.dumps(MANIFEST))
    (inside / "CodeSystem-colors.json").write_text(json.dumps(code_system()))
    assert read_folder(tmp_path).listed == read_folder(inside).listed
    assert read_folder(tmp_path).label == "example.guide#1.2.0"
    with pytest.raises(PackageError, match=r"it holds no package\.json"):
        read_folder(tmp_path.parent)


@pytest.mark.parametrize("at", [0, 9, 40, -1])
def test_a_damaged_package_in_our_own_form_is_refused(at):
    data = bytearray(read(guide(code_system())).data)
    data[at] ^= 0xFF
    with pytest.raises(PackageError):
        Package(bytes(data)).verify()


def test_versions_are_ordered_as_numbers_above_dates_above_text():
    ages = ["draft", "2018-08-12", "2019", "0.9", "1.0.0-ballot", "1.0.0-rc.2", "1.0.0-rc.10"]
    ages += ["1.0", "1.0.1", "2.9", "2.10.0", "10"]
    assert sorted(set(ages), key=order) == ages


def test_a_canonical_finds_the_newest_complete_version_or_the_one_that_it_names():
    url = code_system()["url"]
    first = read(guide(code_system("1.2.0"), code_system("1.2.7"), code_system("1.10.0")))
    second = read(guide(code_system("2.0.0", "fragment"), version="2.0.0"))
    packages = Packages([first]).including(second)
    assert [each.version for each in packages.versions("CodeSystem", url)] == [
        "1.10.0",
        "1.2.7",
        "1.2.0",
        "2.0.0",
    ]
    asked = {"": "1.10.0", "|1.2.0": "1.2.0", "|1.2": "1.2.7", "|1": "1.10.0", "|2.0": "2.0.0"}
    for suffix, version in asked.items():
        found = packages.find("CodeSystem", url + suffix)
        assert found is not None
        assert found["version"] == version
    assert packages.find("CodeSystem", url + "|3") is None
    assert packages.find("ValueSet", url) is None
    assert packages.without("example.guide", "1.2.0").find("CodeSystem", url + "|1") is None


def test_a_set_of_packages_is_named_by_its_digest():
    first, second = read(guide(code_system())), read(guide(version="2.0.0"))
    one = Packages([first, second])
    assert one.digest == Packages([second, first, core()]).digest
    assert one.digest != Packages([first]).digest
    assert one.without("example.guide", "2.0.0").digest == Packages([first]).digest
    assert one.without("hl7.fhir.r4.core", "4.0.1").digest == one.digest


def test_packages_are_found_by_name_and_version_and_as_dependencies_name_them():
    packages = Packages([read(guide(version=each)) for each in ("1.2.0", "1.2.10", "2.0.0")])
    found = packages.package("example.guide")
    assert found is not None
    assert found.version == "2.0.0"
    assert packages.package("example.guide", "1.2.1") is None
    for version, expected in (("1.2.x", "1.2.10"), ("current", "2.0.0"), ("1.2.0", "1.2.0")):
        fitting = packages.fitting("example.guide", version)
        assert fitting is not None
        assert fitting.version == expected
    assert packages.fitting("example.guide", "3.0.0") is None


def test_core_holds_the_definitions_of_r4():
    counts = {type: len(listed) for type, listed in core().by_type.items()}
    assert counts == {
        "CapabilityStatement": 8,
        "CodeSystem": 1062,
        "CompartmentDefinition": 6,
        "ConceptMap": 80,
        "NamingSystem": 2,
        "OperationDefinition": 47,
        "SearchParameter": 1400,
        "StructureDefinition": 655,
        "ValueSet": 1316,
    }
    patient = Packages().find(
        "StructureDefinition", "http://hl7.org/fhir/StructureDefinition/Patient|4.0.1"
    )
    assert patient is not None
    assert patient["snapshot"]["element"][0]["id"] == "Patient"
    assert len(patient["differential"]["element"]) < len(patient["snapshot"]["element"])


@pytest.mark.slow
def test_the_committed_core_is_what_the_script_makes():
    file = shared("packages/hl7.fhir.r4.core-4.0.1.tgz").read_bytes()
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "build_package.py"))
    assert script["build"](file) == core().data


def test_the_committed_core_holds_what_the_official_package_holds():
    file = shared("packages/hl7.fhir.r4.core-4.0.1.tgz").read_bytes()
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "build_package.py"))
    made = read(file, level=1, wanted=script["_wanted"])
    assert made.listed == core().listed
    assert all(made.bytes_of(each) == core().bytes_of(each) for each in made.listed)


def test_746_code_systems_are_in_core_and_in_the_terminology_package():
    packages = Packages(
        [read(shared("packages/hl7.terminology.r4-7.0.1.tgz").read_bytes(), level=1)]
    )
    both = [
        url
        for package, listed in packages.each("CodeSystem")
        for url in [listed.url]
        if package.name == "hl7.fhir.r4.core" and len(packages.versions("CodeSystem", url)) > 1
    ]
    assert len(both) == 746


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"compose": "x"}, "ValueSet.compose"),
        ({"compose": {"include": "x"}}, "ValueSet.compose.include"),
        ({"compose": {"include": [5]}}, "ValueSet.compose.include[0]"),
        ({"compose": {"include": [{}, {"valueSet": [5]}]}}, "ValueSet.compose.include[1].valueSet[0]"),
        ({"url": ["x"]}, "ValueSet.url"),
        ({"experimental": "true"}, "ValueSet.experimental"),
        ({"_title": {"extension": 5}}, "ValueSet._title.extension"),
        ({"expansion": {"total": True}}, "ValueSet.expansion.total"),
        ({"contained": [{"id": "x"}]}, "ValueSet.contained[0]"),
        ({"contained": [{"resourceType": "CodeSystem", "concept": 5}]}, "ValueSet.contained[0].concept"),
        ({"resourceType": "CodeSystem", "concept": {"a": 1}}, "CodeSystem.concept"),
        ({"resourceType": "StructureDefinition", "snapshot": [1]}, "StructureDefinition.snapshot"),
        (
            {"resourceType": "StructureDefinition",
             "differential": {"element": [{"binding": {"valueSet": {}}}]}},
            "StructureDefinition.differential.element[0].binding.valueSet",
        ),
        ({"resourceType": "NamingSystem", "extension": 5}, "NamingSystem.extension"),
    ],
)  # fmt: skip
def test_a_definition_of_another_shape_refuses_the_package_by_its_file(changed, place):
    wrong = {"resourceType": "ValueSet", "url": "http://example.org/guide/ValueSet/x", **changed}
    with pytest.raises(PackageError) as refused:
        read(guide(code_system(), wrong))
    assert str(refused.value) == f"1.json is refused: {place} has not the shape that R4 gives it"


def test_what_r4_does_not_have_and_examples_are_no_reason_to_refuse_a_package():
    extended = code_system(newElement={"of": "R5"}, _title={"extension": [{"url": "http://x"}]})
    example = {"resourceType": "Patient", "name": "none"}
    other = {"resourceType": "ActorDefinition", "url": "http://example.org/x", "type": 5}
    assert len(read(guide(extended, example, other)).listed) == 3


def test_nobody_defines_anew_what_core_has_under_its_version():
    url = "http://hl7.org/fhir/ValueSet/administrative-gender"
    other = {"resourceType": "ValueSet", "id": "other", "url": url}
    evil = read(guide({**other, "version": "4.0.1"}, version="9.0.0"))
    packages = Packages([evil])
    for asked in (url, f"{url}|4.0.1", f"{url}|4.0", f"{url}|4"):
        assert packages.held("ValueSet", asked).package is core(), asked
    assert [each.id for each in packages.versions("ValueSet", url)][1:] == ["other"]
    newer = Packages([read(guide({**other, "version": "4.0.2"}))])
    assert newer.find("ValueSet", url)["id"] == "other"
    assert newer.held("ValueSet", f"{url}|4.0.1").package is core()


def test_core_s_fragment_is_not_replaced_under_its_version_by_what_says_it_is_complete():
    fragment = next(
        each
        for each in core().by_type["CodeSystem"]
        if each.kind in ("fragment", "not-present", "example") and each.url and each.version
    )
    whole = code_system(version=fragment.version, url=fragment.url)
    packages = Packages([read(guide(whole))])
    assert packages.held("CodeSystem", f"{fragment.url}|{fragment.version}").package is core()
    assert packages.find("CodeSystem", fragment.url)["content"] == "complete"
