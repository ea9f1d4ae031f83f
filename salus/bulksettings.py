"""What the operator decides about bulk data: how much of it, for how long, and from where.

https://hl7.org/fhir/uv/bulkdata/
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from salus.logsettings import Listed


class BulkSettings(BaseSettings):
    """The part of the settings that is about bulk data."""

    bulk_jobs: int = Field(
        default=8, ge=1, description="exports and imports of one app that are kept at a time"
    )
    bulk_total: int = Field(
        default=100, ge=1, description="exports and imports of all apps that are kept at a time"
    )
    bulk_lines: int = Field(
        default=50_000, ge=1_000, description="resources in one file of an export"
    )
    bulk_hours: int = Field(
        default=24, ge=1, le=720, description="how long a finished export or import is kept"
    )
    import_lines: int = Field(
        default=5_000_000, ge=1_000, description="lines of one file, or body, that is imported"
    )
    import_hosts: Listed = Field(
        default=(),
        description="hosts that $import may fetch files from (https), as HOST or HOST:PORT, "
        "separated by commas; none unless named",
    )
