"""Reading a package as it is published, a .tgz or a folder, without trusting it.

https://hl7.org/fhir/packages.html
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from conformance.json import parse
from conformance.outcome import FhirError
from conformance.packages.package import LEVEL, RESOURCE, Manifest, Package, PackageError, Packing
from conformance.packages.shape import misshapen


class Bounds(NamedTuple):
    """What a package may cost. Bytes packed, unpacked, of one file; number of files."""

    packed: int = 256 * 1024 * 1024
    plain: int = 2 * 1024 * 1024 * 1024
    file: int = RESOURCE
    files: int = 200_000


BOUNDS = Bounds()
MANIFEST = "package.json"

Item = dict[str, Any]
File = tuple[str, bytes]

_NAME = re.compile(r"[a-z0-9@][a-z0-9._/-]{0,127}", re.IGNORECASE)
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}")


def read(
    file: bytes,
    *,
    bounds: Bounds = BOUNDS,
    level: int = LEVEL,
    wanted: Callable[[Item], bool] = lambda resource: True,
    watch: Callable[[int], None] = lambda done: None,
) -> Package:
    """The package that a .tgz holds: of its files those of the folder `package` itself that are
    JSON with a resourceType. `watch` is told how many bytes of the file were read. Raises
    PackageError for what is no package, is hostile or exceeds the bounds."""
    if len(file) > bounds.packed:
        raise PackageError(f"A package has at most {bounds.packed} bytes")
    if not file.startswith(b"\x1f\x8b"):
        raise PackageError("This is no package: it is not a gzip file (.tgz)")
    try:
        return _packed(_members(file, bounds, watch), level, wanted)
    except tarfile.TarError as error:
        raise PackageError("This is no package: it is not a tar archive") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise PackageError("The package is damaged: it cannot be unpacked") from error


def read_folder(
    folder: Path,
    *,
    bounds: Bounds = BOUNDS,
    level: int = LEVEL,
    watch: Callable[[int], None] = lambda done: None,
) -> Package:
    """The package of a folder that holds package.json, or has it in a folder `package`."""
    inside = folder / "package"
    root = inside if (inside / MANIFEST).is_file() else folder
    if not (root / MANIFEST).is_file():
        raise PackageError(f"{folder} is no package: it holds no {MANIFEST}")
    return _packed(_in_folder(root, bounds, watch), level, lambda resource: True)


class _Counted(io.RawIOBase):
    """The unpacked bytes of a file, which end in a refusal where there are too many."""

    def __init__(self, file: bytes, most: int) -> None:
        self._packed = io.BytesIO(file)
        self._gzip = gzip.GzipFile(fileobj=self._packed)
        self._left = most

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes."""
        asked = self._left + 1 if size is None or size < 0 else min(size, self._left + 1)
        data = self._gzip.read(asked)
        self._left -= len(data)
        if self._left < 0:
            raise PackageError("The package is refused: unpacked, it is too large")
        return data

    def position(self) -> int:
        """How many bytes of the file were read."""
        return self._packed.tell()


def _members(file: bytes, bounds: Bounds, watch: Callable[[int], None]) -> Iterator[File]:
    """Names and contents of the files right below `package`."""
    unpacked = _Counted(file, bounds.plain)
    with tarfile.open(fileobj=unpacked, mode="r|") as archive:
        for number, member in enumerate(archive):
            if number >= bounds.files:
                raise PackageError(f"A package has at most {bounds.files} files")
            folder, _, name = member.name.removeprefix("./").partition("/")
            if member.name.startswith("/") or ".." in member.name.split("/"):
                raise PackageError("The package is refused: a file's path leads outside of it")
            if folder != "package" or not _is_wanted(name):
                continue
            if not member.isreg():
                raise PackageError("The package is refused: it holds links")
            if member.size > bounds.file:
                raise PackageError(f"A file of a package has at most {bounds.file} bytes")
            content = archive.extractfile(member)
            yield name, content.read() if content else b""
            watch(unpacked.position())


def _is_wanted(name: str) -> bool:
    """JSON right below the folder; not what file systems hide beside it, such as `._x.json`."""
    return "/" not in name and name.endswith(".json") and not name.startswith(".")


def _in_folder(root: Path, bounds: Bounds, watch: Callable[[int], None]) -> Iterator[File]:
    files = sorted(each for each in root.iterdir() if each.is_file() and _is_wanted(each.name))
    if len(files) > bounds.files:
        raise PackageError(f"A package has at most {bounds.files} files")
    done = 0
    for file in files:
        size = file.stat().st_size
        done += size
        if size > bounds.file or done > bounds.plain:
            raise PackageError(f"{file.name} is too large for a package")
        yield file.name, file.read_bytes()
        watch(done)


def _packed(files: Iterable[File], level: int, wanted: Callable[[Item], bool]) -> Package:
    packing = Packing(level)
    manifest: Manifest | None = None
    seen: set[str] = set()
    for name, data in files:
        if name in seen:
            raise PackageError("The package is refused: it holds a file twice")
        seen.add(name)
        try:
            item = parse(data)
        except FhirError as error:
            raise PackageError(f"{name[:100]} is no JSON: {error}") from error
        if name == MANIFEST:
            manifest = _manifest(item)
        elif isinstance(item.get("resourceType"), str) and wanted(item):
            place = misshapen(item)
            if place is not None:
                text = f"{name[:100]} is refused: {place[:200]} has not the shape that R4 gives it"
                raise PackageError(text)
            packing.add(item)
    if manifest is None:
        raise PackageError(f"This is no package: it holds no {MANIFEST}")
    return Package(packing.finish(manifest))


def _manifest(item: Item) -> Manifest:
    name, version = item.get("name"), item.get("version")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PackageError(f"{MANIFEST} has no name that a package may have")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise PackageError(f"{MANIFEST} has no version that a package may have")
    told = {each: _text(item.get(each)) for each in ("canonical", "title", "description")}
    return Manifest(
        name,
        version,
        **told,
        kind=_text(item.get("type")),
        dependencies=_dependencies(item.get("dependencies")),
        fhir_versions=_strings(item.get("fhirVersions") or item.get("fhir-version-list")),
    )


def _dependencies(value: Any) -> tuple[tuple[str, str], ...]:
    given = value.items() if isinstance(value, dict) else ()
    return tuple((name, version) for name, version in given if isinstance(version, str))


def _strings(value: Any) -> tuple[str, ...]:
    given = value if isinstance(value, list) else ()
    return tuple(each for each in given if isinstance(each, str))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
