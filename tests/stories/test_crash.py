"""kill -9 in the middle of a load: after a restart and the same load again, nothing is missing,
nothing is doubled, and no transaction is half there."""

import random
import subprocess
import sys
import threading
import time

import pytest

from tests.living import Living
from tests.shared import shared
from tests.stories.test_oracle import SETS, expected_totals, load, resources, totals


def _interrupted(server: Living, path, moments: list[float]) -> None:
    """Load, and kill the server at each of these moments (seconds after it is ready)."""
    for moment in moments:
        server.start()
        killer = threading.Timer(moment, server.kill)
        killer.start()
        done = load(server, path)
        killer.join()
        assert done.returncode != 0 or moment > 5, "the load ended before the server was killed"


@pytest.mark.parametrize(
    "kills", [2, pytest.param(20, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_a_load_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(tmp_path, kills):
    file, count = SETS["bench60"]
    path = shared(f"data/synthea/{file}")
    chance = random.Random(time.time_ns())
    server = Living(tmp_path)
    _interrupted(server, path, [chance.uniform(0.3, 3.0) for _ in range(kills)])
    server.start()
    done = load(server, path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert resources(server) == count
    wanted = expected_totals("bench60")
    assert totals(server, wanted) == wanted
    assert server.stop() == 0
    _doctor_finds_nothing(server)


def _doctor_finds_nothing(server: Living) -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "salus",
            "doctor",
            "--deep",
            "--data",
            str(server.data),
            "--keys",
            str(server.keys),
        ],
        capture_output=True,
        text=True,
        env=server.environment,
    )
    assert found.returncode == 0, found.stdout + found.stderr
