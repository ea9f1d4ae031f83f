"""Load by wrk where it is installed: it costs the loader some 15 us a request, so that on a machine
whose cores share their units the server is slowed less by who measures it.

https://github.com/wg/wrk
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from salus.bench.wire import Address, Request

# Requests are read from a file, each behind its length; what was measured is written as JSON.
_SCRIPT = """
local requests, at = {}, 0
function init(args)
  local file = io.open(args[1], "rb")
  local line = file:read("*l")
  while line do
    requests[#requests + 1] = file:read(tonumber(line))
    line = file:read("*l")
  end
  file:close()
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\\n{"requests":%d,"microseconds":%d,"refused":%d,"broken":%d,"p50":%d,"p95":%d,"p99":%d}\\n',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
"""


class Blown(NamedTuple):
    """What wrk measured. Times in seconds, percentiles in milliseconds; `errors`: answers of 400
    and more, and connections that broke."""

    requests: int
    seconds: float
    errors: int
    p50: float
    p95: float
    p99: float
    loader_seconds: float


def installed() -> str | None:
    """Where wrk is."""
    return shutil.which("wrk")


async def blow(
    address: Address,
    requests: Sequence[Request],
    connections: int,
    seconds: float,
    warm: float,
    begin: Callable[[], None],
    end: Callable[[], None],
) -> Blown:
    """Send prepared requests in turn, closed loop, in whole seconds; `begin` and `end` are called
    around what is counted. OSError when wrk cannot be run, ConnectionError when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        script, prepared = Path(folder, "wrk.lua"), Path(folder, "requests")
        script.write_text(_SCRIPT)
        prepared.write_bytes(b"".join(b"%d\n%s" % (len(r.data), r.data) for r in requests))
        made = ("-t1", f"-c{connections}", "-s", str(script))
        url = f"http://{address.host}:{address.port}"
        if warm:
            await _run(*made, f"-d{math.ceil(warm)}", url, str(prepared))
        begin()
        before = os.times()
        said = await _run(*made, f"-d{math.ceil(seconds)}", url, str(prepared))
        after = os.times()
        end()
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    return _read(said, spent)


async def _run(*arguments: str) -> str:
    child = await asyncio.create_subprocess_exec(
        installed() or "wrk", *arguments, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await child.communicate()
    if child.returncode:
        raise ConnectionError(f"wrk ended with {child.returncode}: {said.decode()[-500:]}")
    return said.decode()


def _read(said: str, spent: float) -> Blown:
    found = json.loads(said.strip().splitlines()[-1])
    seconds = found["microseconds"] / 1e6
    errors = found["refused"] + found["broken"]
    p50, p95, p99 = (found[each] / 1000 for each in ("p50", "p95", "p99"))
    return Blown(found["requests"], seconds, errors, p50, p95, p99, spent)
