"""Which test holds which requirement: read off the tests' markers, and written into docs/smart.md.

    python -m tests.requirements

rewrites the last column of every table of requirements there. https://docs.pytest.org/en/stable/how-to/mark.html
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "smart.md"
ROW = re.compile(r"^\| (?P<number>[A-Z]{1,2}\d+|\d+) \| (?P<text>.*?) \| (?P<tests>.*?) ?\|$", re.M)
SHOWN = 3  # tests of a requirement that the page names; the others bear their marker
NONE = "no test: "  # how a row begins whose requirement is about what is not offered


def marked() -> dict[str, list[str]]:
    """The tests of each requirement, as file::function."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for test, numbers in _marks(ast.parse(path.read_text(encoding="utf-8"))):
            for number in numbers:
                found[number].append(f"{path.relative_to(TESTS)}::{test}")
    return found


def _marks(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    everywhere = [
        number
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
        for number in _numbers(node.value)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[:5] == "test_":
            yield node.name, [*everywhere, *(n for d in node.decorator_list for n in _numbers(d))]


def _numbers(node: ast.AST) -> Iterator[str]:
    """The arguments of every `pytest.mark.requirement(...)` in an expression."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.requirement":
            yield from (str(ast.literal_eval(each)) for each in call.args)


def rows() -> dict[str, tuple[str, str]]:
    """What the page says: the text and the tests of each number."""
    text = PAGE.read_text(encoding="utf-8")
    return {each["number"]: (each["text"], each["tests"]) for each in ROW.finditer(text)}


def written() -> str:
    """The page as the markers have it. What a row says of a requirement that has no test stays."""
    found = marked()

    def row(match: re.Match[str]) -> str:
        tests = cell(found.get(match["number"], [])) or match["tests"]
        return f"| {match['number']} | {match['text']} | {tests} |"

    return ROW.sub(row, PAGE.read_text(encoding="utf-8"))


def cell(tests: list[str]) -> str:
    """The first of a requirement's tests."""
    return ", ".join(f"`{test}`" for test in tests[:SHOWN])


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
