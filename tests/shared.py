"""Where shared test data is: the folder named by SALUS_TEST_DATA."""

import os
from pathlib import Path

import pytest


def shared(path: str) -> Path:
    """The path below SALUS_TEST_DATA. Skips the test where there is none; fails under SALUS_CI=1
    when the folder is promised but the path is missing."""
    folder = os.environ.get("SALUS_TEST_DATA")
    found = Path(folder) / path if folder else None
    if found is not None and found.exists():
        return found
    reason = f"needs {path} below the folder that SALUS_TEST_DATA names"
    if os.environ.get("SALUS_CI") == "1":
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)
