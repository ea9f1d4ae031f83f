"""`salus doctor` says which packages are installed, and which cannot be opened."""

import asyncio
from functools import partial
from io import StringIO

from rich.console import Console

from conformance.packages import read
from fhir_server.packages import installed
from salus.app import open_server
from salus.doctor import examine
from salus.settings import Settings
from tests.packages import NAME, profile, tgz


def _examined(settings) -> tuple[bool, str]:
    said = StringIO()
    return examine(settings, False, Console(file=said, width=200)), said.getvalue()


async def _installed(settings, whole: bool) -> None:
    package = read(tgz(profile()))
    async with open_server(settings) as server:
        upload = installed.new_upload()
        for number, data in enumerate(installed.in_pieces(package.data)):
            data = data if whole else data[:-8]
            write = partial(installed.write_piece, upload=upload, number=number, data=data)
            await server.store.transaction(write, write=True)
        end = partial(installed.commit, package=package, upload=upload, pieces=1)
        await server.store.transaction(end, write=True)


def test_the_doctor_names_packages_and_finds_the_damaged_one(tmp_path):
    settings = Settings(data=tmp_path / "data", keys=tmp_path / "keys", open=True)
    asyncio.run(_installed(settings, whole=True))
    _, said = _examined(settings)
    assert f"Packages: {NAME}#1.0.0, hl7.fhir.r4.core#4.0.1" in said
    assert "is damaged" not in said

    asyncio.run(_installed(settings, whole=False))
    well, said = _examined(settings)
    assert not well
    assert f"Wrong: The package {NAME}#1.0.0 is damaged" in said
    assert "package install FILE.tgz`" in said
