"""Installed packages are kept whole or not at all, and a server goes by them at once."""

import asyncio
from functools import partial

import pytest

from conformance.packages import PackageError, read
from fhir_server.packages import Guides, installed
from fhir_server.packages.acceptance import lacking, require_installable
from fhir_server.packages.claims import claims
from fhir_server.storage.memory import MemoryStore
from tests.packages import NAME, PROFILE, profile, tgz

FIRST = read(tgz(profile()))
SECOND = read(tgz(profile("2.0.0"), version="2.0.0"))


async def _install(store, package, pieces=3, commit=True) -> str:
    upload = installed.new_upload()
    size = -(-len(package.data) // pieces)
    for number in range(pieces):
        data = package.data[number * size : (number + 1) * size]
        write = partial(installed.write_piece, upload=upload, number=number, data=data)
        await store.transaction(write, write=True)
    if commit:
        end = partial(installed.commit, package=package, upload=upload, pieces=pieces)
        await store.transaction(end, write=True)
    return upload


async def _labels(store) -> list[str]:
    return [each.label for each in await store.transaction(installed.entries)]


async def _pieces(store) -> int:
    async def count(tx):
        return len(await tx.range("package-piece", "", "\x7f"))

    return await store.transaction(count)


def test_a_package_is_there_once_its_record_is_written_and_not_before():
    async def work():
        store, guides = MemoryStore(), Guides()
        await _install(store, FIRST, commit=False)
        await guides.load(store)
        assert guides.current.packages.package(NAME) is None
        assert await _labels(store) == []

        await _install(store, FIRST)
        await _install(store, SECOND)
        await guides.load(store)
        assert await _labels(store) == [f"{NAME}#1.0.0", f"{NAME}#2.0.0"]
        found = guides.current.packages.versions("StructureDefinition", PROFILE)
        assert [each.version for each in found] == ["2.0.0", "1.0.0"]

    asyncio.run(work())


def test_what_is_left_of_an_installation_that_was_killed_is_swept():
    async def work():
        store = MemoryStore()
        await _install(store, FIRST)
        await _install(store, SECOND, commit=False)
        assert await _pieces(store) == 6
        assert await store.transaction(installed.sweep, write=True) == 1
        assert await _pieces(store) == 3
        assert await _labels(store) == [f"{NAME}#1.0.0"]

    asyncio.run(work())


def test_a_package_that_is_installed_again_replaces_itself():
    async def work():
        store, guides = MemoryStore(), Guides()
        await _install(store, FIRST)
        other = read(tgz(profile(), profile("1.0.1")))
        await _install(store, other, pieces=2)
        await guides.load(store)
        package = guides.current.packages.package(NAME)
        assert package is not None
        assert package.digest == other.digest
        assert await _pieces(store) == 2

    asyncio.run(work())


def test_removing_a_package_removes_its_pieces():
    async def work():
        store, guides = MemoryStore(), Guides()
        await _install(store, FIRST)
        await guides.load(store)
        before = guides.current
        remove = partial(installed.remove, label=FIRST.label)
        assert await store.transaction(remove, write=True)
        assert not await store.transaction(remove, write=True)
        await guides.load(store)
        assert guides.current.packages.package(NAME) is None
        assert before.packages.package(NAME) is not None  # a snapshot stays what it was
        assert await _pieces(store) == 0

    asyncio.run(work())


def test_who_asked_to_be_told_hears_of_every_change_and_of_no_other():
    async def work():
        store, guides, heard = MemoryStore(), Guides(), []
        guides.tell(lambda current: heard.append(len(current.packages.packages)))
        await guides.load(store)
        await _install(store, FIRST)
        await guides.load(store)
        await guides.load(store)
        assert heard == [1, 2]

    asyncio.run(work())


def test_a_server_goes_without_a_package_whose_pieces_are_gone_and_says_so():
    async def work():
        store, guides = MemoryStore(), Guides()
        await _install(store, FIRST)
        await guides.load(store)
        upload = await _install(store, SECOND)

        async def damage(tx):
            await tx.take("package-piece", f"{upload}/{1:08}")

        await store.transaction(damage, write=True)
        await guides.load(store)
        assert guides.damaged == (f"{NAME}#2.0.0",)
        found = guides.current.packages.versions("StructureDefinition", PROFILE)
        assert [each.version for each in found] == ["1.0.0"]

    asyncio.run(work())


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"fhirVersions": ["5.0.0"]},
            "example.guide#1.0.0 is for FHIR 5.0.0; this server speaks R4 (4.0.1): many packages "
            "are published for R4 too, as example.guide.r4",
        ),
        ({"fhirVersions": []}, "example.guide#1.0.0 does not say which FHIR version it is for"),
        (
            {"name": "hl7.fhir.r4.core", "version": "4.0.1"},
            "hl7.fhir.r4.core#4.0.1 is always here: it is a part of Salus",
        ),
    ],
)
def test_a_package_that_is_not_for_this_server_is_refused(changed, text):
    require_installable(FIRST)
    with pytest.raises(PackageError) as refused:
        require_installable(read(tgz(profile(), **changed)))
    assert str(refused.value) == text


def test_what_a_package_lacks_is_named_with_what_is_not_checked_for_it():
    bound = profile()
    bound["differential"]["element"][0] = {
        "id": "Patient.maritalStatus",
        "path": "Patient.maritalStatus",
        "type": [{"code": "CodeableConcept", "profile": ["http://else.org/SD/a|1"]}],
        "binding": {"strength": "required", "valueSet": "http://else.org/VS/b"},
    }
    package = read(tgz(bound, dependencies={"else": "1.x", "example.guide": "3.0.0"}))
    lacks = lacking(package, Guides().current.packages.including(SECOND))
    assert lacks.dependencies == (("else", "1.x", ""), ("example.guide", "3.0.0", "2.0.0"))
    assert lacks.value_sets == (("http://else.org/VS", 1),)
    assert lacks.profiles == (("http://else.org/SD", 1),)
    assert lacking(FIRST, Guides().current.packages) == ((), (), ())


def test_a_server_claims_what_is_installed():
    packages = Guides().current.packages.including(FIRST)
    one = claims(packages, frozenset())
    assert one.guides == ("http://example.org/guide/ImplementationGuide/example.guide|1.0.0",)
    assert one.profiles == {"Patient": (PROFILE,)}
    assert one.instantiates == ()
    two = claims(packages.including(SECOND), frozenset({"export"}))
    assert two.profiles == {"Patient": (PROFILE, f"{PROFILE}|1.0.0", f"{PROFILE}|2.0.0")}
    assert two.instantiates == ("http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data",)
    us = read(tgz(name="hl7.fhir.us.core", version="6.1.0"))
    assert claims(packages.including(us), frozenset()).instantiates == (
        "http://hl7.org/fhir/us/core/CapabilityStatement/us-core-server|6.1.0",
    )
