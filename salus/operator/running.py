"""Which process has a data folder, and where the server in it listens: told by the folder itself.

https://man7.org/linux/man-pages/man2/flock.2.html
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from fhir_server.storage.keys import write_durably
from fhir_server.storage.sqlite.folder import LOCK
from salus.problem import Problem
from salus.program import called
from salus.settings import Settings, is_loopback

ADDRESS = "server.address"  # in the data folder: where the server that has it listens


def needs_data(settings: Settings) -> None:
    """Problem where the data folder holds nothing: a folder that was misspelt is not made."""
    if (settings.data / LOCK).is_file():
        return
    running = sorted(map(str, served()))
    told = "".join(f"\n  a server runs on {each}" for each in running)
    raise Problem(
        f"There is no data in {settings.data}: name another folder with --data or SALUS_DATA, or "
        f"start a server with `{called()} serve`{told}"
    )


def holder(folder: Path) -> str | None:
    """The process that has a data folder, as it named itself; None when nobody has it."""
    if not (folder / LOCK).is_file():
        return None
    with (folder / LOCK).open(errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read(200).strip() or "another process"
    return None


def served() -> set[Path]:
    """The data folders that servers of this user have open, as far as /proc tells."""
    return {each for each in _locks() if holder(each) and (each / ADDRESS).is_file()}


def _locks() -> Iterator[Path]:
    for files in Path("/proc").glob("[0-9]*/fd"):
        try:
            opened = [str(each.readlink()) for each in files.iterdir()]
        except OSError:  # another user's, or it ended meanwhile
            continue
        yield from (Path(each).parent for each in opened if each.endswith(f"/{LOCK}"))


def announce(folder: Path, url: str) -> None:
    """Say in the data folder where its server listens, for its owner's commands."""
    write_durably(folder / ADDRESS, url.encode())


def withdraw(folder: Path) -> None:
    (folder / ADDRESS).unlink(missing_ok=True)


def address(folder: Path) -> str | None:
    """Where the server listens that has a data folder; None where none has it, or does not say."""
    if holder(folder) is None:
        return None
    try:
        return (folder / ADDRESS).read_text()
    except OSError:
        return None


def serves(settings: Settings, url: str) -> bool:
    """Whether what answers at a URL is the server of the data folder."""
    announced = address(settings.data)
    if announced is None:
        return False
    one, other = urlsplit(announced), urlsplit(url)
    return (one.scheme, one.port) == (other.scheme, other.port) and (
        one.hostname == other.hostname or is_loopback(other.hostname or "")
    )
