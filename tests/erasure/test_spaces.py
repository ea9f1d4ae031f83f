"""Kept records: every space that the code keeps records in says how erasure handles it."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("fhir_server", "smart_auth", "salus")

# How erasure handles each space. What is a patient's own goes by its owner, or by who keeps it.
HANDLED = {
    "binary": "pieces of a Binary: by owner, and by name with the version that names them",
    "upload": "names of uploads, random; of nobody",
    "once": "by owner; of several patients: fhir_server/once.py forget",
    "erasing": "the erasure itself; taken when it is finished",
    "hold": "by owner; there is none on who is erased",
    "reindex": "how far indexing anew has come; of nobody",
    "search-parameter": "how far new search parameters are indexed; of nobody",
    "log": "signed checkpoints; of nobody",
    "bulk.job": "fhir_server/bulk/job.py forget",
    "bulk.list": "sequences of versions, of nobody; bodies to import: with their job, forget",
    "package": "what a package is called and of which pieces it is; of nobody",
    "package-piece": "published definitions; of nobody",
    "package-upload": "names of uploads; of nobody",
    "closure": "codes in tables of an app, which end after a day; of nobody",
    "break-glass": "digests of files that were merged; of nobody",
    "smart.client": "apps; of nobody",
    "smart.account": "smart_auth/forgetting.py",
    "smart.session": "ends with its account",
    "smart.launch": "smart_auth/forgetting.py",
    "smart.pending": "smart_auth/forgetting.py",
    "smart.grant": "smart_auth/forgetting.py",
    "smart.code": "ends with its grant",
    "smart.token": "ends with its grant",
    "smart.refresh": "ends with its grant",
    "smart.jti": "digests; of nobody",
    "smart.count": "smart_auth/forgetting.py",
    "smart.key": "sealed signing keys; of nobody",
    "smart.account-grant": "ends with its account or grant",
    "smart.client-grant": "ends with its grant",
    "smart.grant-token": "ends with its grant",
    "smart.account-session": "ends with its account",
    "smart.invitation": "smart_auth/forgetting.py",
    "smart.device": "smart_auth/forgetting.py",
    "smart.offer": "what apps may register; of nobody",
}


def spaces() -> dict[str, str]:
    """The spaces that the code names, and where."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            tree = ast.parse(file.read_text())
            for node in ast.walk(tree):
                for name in _named(node, _constants(tree)):
                    found.setdefault(name, str(file.relative_to(ROOT)))
    return found


def _constants(tree: ast.Module) -> dict[str, str]:
    """The texts of a module by their names; of a tuple, the first."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = node.value.elts[0] if isinstance(node.value, ast.Tuple) else node.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[node.targets[0].id] = value.value
    return found


def _named(node: ast.AST, constants: dict[str, str]):
    """The space of `Space("name", ...)`, or of a call of `keep` on a transaction."""
    if not isinstance(node, ast.Call) or not node.args:
        return
    called, first = node.func, node.args[0]
    if isinstance(called, ast.Name) and called.id == "Space" and isinstance(first, ast.Constant):
        yield first.value
    if isinstance(called, ast.Attribute) and called.attr == "keep":
        first = first.value if isinstance(first, ast.Starred) else first
        if isinstance(first, ast.Name) and first.id in constants:
            yield constants[first.id]
        elif isinstance(first, ast.Constant):
            yield first.value


def test_every_space_says_how_it_takes_part_in_erasure():
    missing = {name: where for name, where in spaces().items() if name not in HANDLED}
    assert missing == {}


def test_no_space_is_handled_that_nobody_has():
    assert set(HANDLED) - set(spaces()) == set()
