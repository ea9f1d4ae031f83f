"""`python -m salus.healthy`: exit code 0 while the server is ready, for a container to ask.

https://docs.docker.com/reference/dockerfile/#healthcheck
"""

from __future__ import annotations

import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from salus.settings import Settings, read_settings

_SECONDS = 2.0


def ready(settings: Settings) -> bool:
    """Whether the server answers that it serves."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    connection = (
        # The certificate is another name's; only whether something serves is asked.
        HTTPSConnection(
            host, settings.port, timeout=_SECONDS, context=ssl._create_unverified_context()
        )
        if settings.tls
        else HTTPConnection(host, settings.port, timeout=_SECONDS)
    )
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if ready(read_settings()) else 1)
