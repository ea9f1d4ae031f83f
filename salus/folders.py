"""What can be wrong with the folders of data and keys, seen from outside.

https://man7.org/linux/man-pages/man7/inode.7.html
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from salus.settings import Settings, default_data, default_keys


class Finding(NamedTuple):
    """Something that is wrong, and what to do."""

    wrong: str
    remedy: str


_NOT_A_FOLDER = "is a file, where a folder is needed: name another with --data or --keys"
_REFUSED = "is not ours to use: change its owner or mode, or name another with --data or --keys"
_CANNOT_BE_MADE = "cannot be made there: name another place"
_UNKNOWN = "cannot be used ({0}): check it, or name another"

# Why the operating system refuses a path, and what to do.
_REASONS = {
    errno.EEXIST: _NOT_A_FOLDER,
    errno.ENOTDIR: _NOT_A_FOLDER,
    errno.EISDIR: "is a folder, where a file is needed: name another",
    errno.EACCES: _REFUSED,
    errno.EPERM: _REFUSED,
    errno.ENOENT: _CANNOT_BE_MADE,
    errno.EROFS: "is on a file system that cannot be written: name another place",
    errno.ENOSPC: "has no space left: free some, then run the same command again",
    errno.ENAMETOOLONG: "has too long a name: name another",
}


def sentence(error: OSError) -> str:
    """What the operating system refused, by name, and what to do."""
    named = error.filename2 or error.filename or "A file or connection"
    said = _REASONS.get(error.errno or 0, _UNKNOWN).format(error.strerror or type(error).__name__)
    return f"{named} {said}"


def named(settings: Settings) -> tuple[tuple[str, Path], ...]:
    """The folders by what they hold, which is also the name of their option."""
    return ("data", settings.data), ("keys", settings.keys)


def options(settings: Settings, always: bool = False) -> str:
    """What other commands need, to find the same folders: nothing where they are the usual ones,
    unless `always`."""
    usual = (default_data().resolve(), default_keys().resolve())
    if (settings.data, settings.keys) == usual and not always:
        return ""
    return "".join(f" --{name} {quote(str(folder))}" for name, folder in named(settings))


def exposed(settings: Settings) -> Iterator[Finding]:
    """Folders that are none, that others can look into, or that belong to somebody else."""
    for name, folder in named(settings):
        if folder.is_dir():
            yield from _exposed(name, folder)
        elif folder.exists():
            yield Finding(
                f"{folder} is a file, where the {name} folder is needed",
                f"name a folder with --{name} or SALUS_{name.upper()}",
            )


def _exposed(name: str, folder: Path) -> Iterator[Finding]:
    found = folder.stat()
    if found.st_uid != os.geteuid():
        yield Finding(
            f"The {name} folder {folder} belongs to another user (number {found.st_uid})",
            f"chown -R {os.geteuid()} {folder}, or run Salus as that user",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        yield Finding(
            f"Other users of this machine can look into the {name} folder {folder}",
            f"chmod 700 {folder}",
        )
