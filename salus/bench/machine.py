"""The machine and the process under test: processor, disk, memory, and time really spent.

https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
SYNC_SECONDS = 1.0


def pin(core: int) -> bool:
    """Keep this process (or, before an exec, its child) on one core; False where that cannot be."""
    try:
        os.sched_setaffinity(0, {core})
    except (AttributeError, OSError):
        return False
    return True


def cores() -> list[int]:
    """The cores this process may use."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:
        return list(range(os.cpu_count() or 1))


def cpu_ms(pid: int) -> float:
    """Milliseconds of processor time that a process and its living children have used."""
    total = 0.0
    for each in family(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) * TICK_MS
    return total


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def memory_mib(pid: int) -> float:
    """Resident memory of a process and its descendants, in MiB."""
    total = 0
    for each in family(pid):
        for line in Path(f"/proc/{each}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total / 1024


def syncs_a_second(folder: Path) -> float:
    """How often a second 4 KiB can be made durable in a folder."""
    path = folder / "sync.probe"
    block = os.urandom(4096)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    sync = getattr(os, "fdatasync", os.fsync)
    try:
        began, n = time.perf_counter(), 0
        while time.perf_counter() - began < SYNC_SECONDS:
            os.pwrite(handle, block, (n % 256) * 4096)
            sync(handle)
            n += 1
        return n / (time.perf_counter() - began)
    finally:
        os.close(handle)
        path.unlink()


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def filesystem(folder: Path) -> str:
    """The type of the file system that holds a folder, as far as /proc tells."""
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return kind
    for line in mounts:
        _, at, named = line.split()[:3]
        if folder.resolve().is_relative_to(at) and len(at) >= len(best):
            best, kind = at, named
    return kind


class Ticks(NamedTuple):
    """Milliseconds of all processors since the machine started: in all, at work, and given by the
    hypervisor to others."""

    whole: float
    busy: float
    stolen: float


def ticks() -> Ticks:
    fields = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle, stolen = fields[3] + fields[4], fields[7]
    whole = sum(fields)
    return Ticks(whole * TICK_MS, (whole - idle - stolen) * TICK_MS, stolen * TICK_MS)


def others_share(before: Ticks, after: Ticks, ours_ms: float) -> float:
    """The share of all processors' time that neither the server nor the load generator had."""
    whole = after.whole - before.whole
    others = after.stolen - before.stolen + max(0.0, after.busy - before.busy - ours_ms)
    return others / whole if whole else 0.0


def describe(folder: Path) -> dict[str, Any]:
    """What a reader needs to judge the figures."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": len(cores()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "filesystem": filesystem(folder),
        "load": os.getloadavg()[0],
        "syncs_a_second": round(syncs_a_second(folder)),
    }
