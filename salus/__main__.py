"""`python -m salus` is the same as `salus`."""

from salus.cli import app

app()
