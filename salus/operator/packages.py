"""Packages, as the operator keeps them.

https://hl7.org/fhir/packages.html
"""

from __future__ import annotations

import asyncio
from functools import partial

from conformance.packages import Package, PackageError, Packages, core
from fhir_server.packages import installed
from fhir_server.packages.acceptance import lacking, require_installable
from salus.operator import requests
from salus.operator.clients import OPERATOR
from salus.problem import Problem
from salus.product import Product
from smart_auth.authority import Happening

PACKAGE = "package"


async def piece(product: Product, asked: requests.AddPiece) -> requests.Done:
    """Keep a piece of a package that is being installed."""
    if not installed.is_upload(asked.upload) or not 0 <= asked.number < installed.PIECES:
        raise Problem("This is no piece of a package")
    write = partial(
        installed.write_piece, upload=asked.upload, number=asked.number, data=asked.data
    )
    await product.server.store.transaction(write, write=True)
    return requests.Done()


async def install(product: Product, asked: requests.InstallPackage) -> requests.PackageInstalled:
    """Install what was sent in pieces. Problem for what cannot be."""
    store = product.server.store
    try:
        return await _install(product, asked)
    except BaseException:
        await store.transaction(partial(installed.forget, upload=asked.upload), write=True)
        raise


async def listed(product: Product, _: requests.ListPackages) -> requests.PackagesShown:
    """All packages, core first."""
    guides = product.server.core.guides
    entries = await product.server.store.transaction(installed.entries)
    known = guides.current.packages
    found = [_shown(core(), known, None)]
    for entry in entries:
        package = known.package(entry.name, entry.version)
        found.append(_damaged(entry) if package is None else _shown(package, known, entry.at))
    return requests.PackagesShown(tuple(found))


async def remove(product: Product, asked: requests.RemovePackage) -> requests.Done:
    """Problem for what is not there, and for core."""
    label = f"{asked.name}#{asked.version}"
    if label == core().label:
        raise Problem(f"{label} is a part of Salus and stays")
    store, guides = product.server.store, product.server.core.guides
    if label not in [each.label for each in await store.transaction(installed.entries)]:
        raise Problem(f"There is no package {label}: `salus package list` shows all of them")
    await product.authority.audit(_told(f"removed {label}"))
    await store.transaction(partial(installed.remove, label=label), write=True)
    await guides.load(store)
    return requests.Done()


async def _install(product: Product, asked: requests.InstallPackage) -> requests.PackageInstalled:
    store, guides = product.server.store, product.server.core.guides
    read = partial(installed.read_pieces, upload=asked.upload, pieces=asked.pieces)
    data = await store.transaction(read)
    if data is None:
        raise Problem("A piece of the package did not arrive: install it again")
    known = guides.current.packages
    try:
        package = await asyncio.to_thread(_checked, data)
        lacks = await asyncio.to_thread(lacking, package, known)
    except PackageError as error:
        raise Problem(str(error)) from None
    if asked.strict and lacks.dependencies:
        missing = ", ".join(f"{name}#{version}" for name, version, _ in lacks.dependencies)
        raise Problem(f"{package.label} depends on packages that are not here: {missing}")
    if len(known.packages) > installed.MOST:
        raise Problem(f"At most {installed.MOST} packages can be installed")
    replaced = known.package(package.name, package.version) is not None
    await product.authority.audit(_told(f"installed {package.label}"))
    commit = partial(installed.commit, package=package, upload=asked.upload, pieces=asked.pieces)
    await store.transaction(commit, write=True)
    await guides.load(store)
    return requests.PackageInstalled(
        name=package.name,
        version=package.version,
        title=package.title,
        counts=_counts(package),
        replaced=replaced,
        dependencies=lacks.dependencies,
        value_sets=lacks.value_sets,
        profiles=lacks.profiles,
    )


def _checked(data: bytes) -> Package:
    """PackageError for what is damaged or not for this server."""
    package = Package(data)
    require_installable(package)
    package.verify()
    return package


def _shown(package: Package, known: Packages, at: int | None) -> requests.PackageShown:
    missing = [
        f"{name}#{version}"
        for name, version in package.dependencies
        if known.fitting(name, version) is None
    ]
    return requests.PackageShown(
        name=package.name,
        version=package.version,
        title=package.title,
        counts=_counts(package),
        size=len(package.data),
        installed=at,
        missing=tuple(missing),
    )


def _damaged(entry: installed.Entry) -> requests.PackageShown:
    return requests.PackageShown(
        name=entry.name,
        version=entry.version,
        title="Damaged: install it again",
        counts=(),
        size=entry.size,
        installed=entry.at,
        missing=(),
    )


def _counts(package: Package) -> tuple[tuple[str, int], ...]:
    return tuple((type, len(found)) for type, found in sorted(package.by_type.items()))


def _told(detail: str) -> Happening:
    return Happening(PACKAGE, client=OPERATOR, account=OPERATOR, detail=detail)
