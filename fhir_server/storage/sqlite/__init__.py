"""The SQLite engine of the storage waist (https://www.sqlite.org/)."""

from fhir_server.storage.sqlite.engine import SqliteStore

__all__ = ["SqliteStore"]
