"""What SECURITY.md promises is shown by tests that exist, and no threat is left without one."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:[\w-]+/)*test_\w+\.py(?:::test_\w+)?)`", TEXT)))
# Rows of a table that ends in "shown by", without its head.
ROWS = [
    row.strip("|").split("|")
    for table in re.findall(
        r"^\|[^\n]*\| shown by \|\n\|[-|]+\n((?:\|[^\n]*\n)+)", TEXT, re.MULTILINE
    )
    for row in table.splitlines()
]
TO_COME = "to be named"  # what is still being built


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_is_named_exists(name):
    file, _, function = name.partition("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    functions = {
        each.name
        for each in ast.walk(tree)
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert function in functions or (not function and any(map(is_test, functions)))


def is_test(name):
    return name.startswith("test_")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip()[:50])
def test_every_row_says_what_stops_it_and_names_a_test(row):
    attack, answer, shown = map(str.strip, row)

    assert attack and answer
    assert re.search(r"`[\w/]*test_\w+\.py", shown) or TO_COME in shown


@pytest.mark.parametrize("article", ["5(1)(c)", "5(1)(e)", "15", "17", "25", "30", "32", "33"])
def test_every_article_has_its_row(article):
    assert any(row[0].strip().startswith(article) for row in ROWS)


@pytest.mark.parametrize("standard", ["(a)(1)", "(a)(2)(i) ", "(b)", "(c)(1)", "(d)", "(e)(1)"])
def test_every_standard_has_its_row(standard):
    assert any(row[0].strip().startswith(standard) for row in ROWS)
