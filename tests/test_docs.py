"""What can be set, run or extended is documented: nobody need read the code to use it."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from salus.cli import app
from salus.settings import Settings, read_settings, variables

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = get_command(app).commands


def test_every_setting_is_listed_with_its_meaning_by_salus_settings():
    told = {each.name: each.meaning for each in variables(read_settings())}

    for name in Settings.model_fields:
        if name != "limits":
            assert told[f"SALUS_{name.upper()}"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme_and_says_what_it_does(name):
    assert f"salus {name}" in README
    assert COMMANDS[name].help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name):
    for parameter in COMMANDS[name].params:
        if parameter.name not in ("help", "paths"):
            assert parameter.help, f"{name} --{parameter.name}"


def test_every_option_of_serve_names_its_variable():
    for parameter in COMMANDS["serve"].params:
        if parameter.name != "help":
            assert f"SALUS_{parameter.name.upper()}" in parameter.help


def test_every_make_target_is_in_the_readme():
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert {"install", "serve", "demo", "test", "check", "bench", "soak", "settings"} <= {*targets}
    for target in targets:
        assert f"make {target}" in README or target in ("help", "format", "clean")


def test_every_package_is_on_the_map():
    for package in ("salus", "fhir_server", "conformance", "terminology", "smart_auth"):
        assert f"`{package}/" in README


def test_every_decision_has_its_four_headings():
    decisions = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))

    assert decisions
    for path in decisions:
        text = path.read_text(encoding="utf-8")
        for heading in ("## Context", "## Decision", "## Status", "## Consequences"):
            assert heading in text, f"{path.name} lacks {heading}"


def test_links_between_documents_lead_somewhere():
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
