"""The shape of the code: imports point downward, files and functions stay small, modules say what
they are. A package may import what its row names, and itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "conformance": set(),
    "smart_auth": set(),
    "terminology": {"conformance"},
    "fhir_server": {"conformance", "terminology", "smart_auth"},
    "adapters": {"fhir_server", "conformance", "terminology", "smart_auth"},
    "telehealth_ext": {"fhir_server", "conformance", "terminology", "smart_auth"},
    "salus": {
        "adapters",
        "telehealth_ext",
        "fhir_server",
        "conformance",
        "terminology",
        "smart_auth",
    },
}
# Of smart_auth the server knows only what a token was granted.
ONLY_MODULE = {("fhir_server", "smart_auth"): "smart_auth.grant"}
FILE_LINES = 500
FUNCTION_LINES = 60

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in MAY_IMPORT
    for path in sorted((ROOT / package).rglob("*.py"))
}
FILES = [*MODULES.values(), *sorted((ROOT / "tests").rglob("*.py"))]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def imported(name: str, everywhere: bool = True) -> Iterator[str]:
    """The modules of ours that a module imports: everywhere in it, or only when it is loaded."""
    tree = TREES[MODULES[name]]
    for node in ast.walk(tree) if everywhere else at_load(tree):
        if isinstance(node, ast.Import):
            yield from (
                alias.name for alias in node.names if alias.name.split(".")[0] in MAY_IMPORT
            )
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively; write the whole name"
            source = node.module or ""
            if source.split(".")[0] in MAY_IMPORT:
                whole = {f"{source}.{alias.name}" for alias in node.names}
                submodules = whole & MODULES.keys()
                yield from submodules
                if len(submodules) < len(node.names):
                    yield source


def at_load(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported: not inside functions or type checks."""
    for node in ast.iter_child_nodes(tree):
        skipped = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        types_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not skipped and not types_only:
            yield node
            yield from at_load(node)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_downward(name):
    package = name.split(".")[0]
    for other in imported(name):
        target = other.split(".")[0]
        assert target == package or target in MAY_IMPORT[package], f"{name} imports {other}"
        only = ONLY_MODULE.get((package, target))
        assert only is None or other == only, f"{name} imports {other}; only {only} is allowed"


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: set(imported(name, everywhere=False)) & MODULES.keys() for name in MODULES}
    settled: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"import circle: {' -> '.join([*path, name])}"
        if name not in settled:
            for other in graph[name] - {name}:
                visit(other, (*path, name))
            settled.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_and_its_functions_are_small(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= FILE_LINES, f"{lines} lines"
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert length(node) <= FUNCTION_LINES, f"{node.name} has {length(node)} lines"


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the def to the end, without the docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is(name):
    tree = TREES[MODULES[name]]
    if tree.body:  # an empty __init__.py only marks a package
        assert ast.get_docstring(tree), "no docstring"


def test_no_file_names_a_registry_or_a_path_of_one_workplace():
    hosts = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"))]
    hosts.append(".".join(("registry", "npmjs", "org")))
    suffixes = {".py", ".md", ".toml", ".lock", ".yml", ".json", ""}
    folders = [ROOT, ROOT / "docs", ROOT / ".ci", ROOT / "scripts", *(ROOT / p for p in MAY_IMPORT)]
    for folder in folders:
        found = folder.glob("*") if folder == ROOT else folder.rglob("*")
        for path in found:
            if path.is_file() and path.suffix in suffixes and "venv" not in str(path):
                text = path.read_text(encoding="utf-8", errors="replace")
                for name in (*hosts, str(ROOT) + "/"):
                    assert name not in text, f"{path.relative_to(ROOT)} names {name}"
