"""What a container relies on: a server that writes to its two folders only, and says how it is."""

import os
import re
import subprocess
import sys
from pathlib import Path

from salus.healthy import ready
from tests.secured import Secured
from tests.test_tidy import MAY_IMPORT

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def test_every_package_is_in_the_image_and_nobody_is_root():
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    after_user = DOCKERFILE.partition("\nUSER salus\n")[2]

    assert copied == set(MAY_IMPORT)
    assert after_user
    assert "RUN" not in after_user
    assert "--open" not in DOCKERFILE


def test_the_composed_service_writes_to_volumes_only_and_has_a_health_check():
    for line in (
        "read_only: true",
        "cap_drop: [ALL]",
        "- data:/var/lib/salus/data",
        "- keys:/var/lib/salus/keys",
        "healthcheck:",
        "no-new-privileges:true",
        'ports: ["127.0.0.1:8080:8080"]',
    ):
        assert line in COMPOSE


def composed():
    """The variables that the image and the service set, but for the folders and the port."""
    found = dict(re.findall(r"^      (SALUS_\w+): \"?([^\"\s#]+)", COMPOSE, re.MULTILINE))
    return {**found, "HOME": "/nonexistent"}


def test_the_settings_of_the_composed_service_start_a_server(tmp_path):
    server = Secured(tmp_path, **composed())
    server.start()
    try:
        settings = server.settings
        healthy = ready(settings)
        with server.client() as fhir:
            answered = fhir.get("/Patient").status_code
    finally:
        code = server.stop()

    assert (healthy, answered, code) == (True, 401, 0)
    assert ready(settings) is False
    assert {each.name for each in tmp_path.iterdir()} == {"data", "keys", "server.log"}


def test_the_health_check_exits_as_it_should(tmp_path):
    told = subprocess.run(
        [sys.executable, "-m", "salus.healthy"],
        env={**os.environ, "SALUS_PORT": "1", "SALUS_DATA": str(tmp_path / "d")},
        timeout=30,
        check=False,
    )

    assert told.returncode == 1
