"""A small invented clinic: a seeded generator of Bundles, and the command that serves them."""

from salus.demo.clinic import clinic

__all__ = ["clinic"]
