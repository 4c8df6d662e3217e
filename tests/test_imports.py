"""Imports go one way, the engine stands on its own, and importing it costs little."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import dbbasic_queue

PACKAGE = Path(dbbasic_queue.__file__).parent
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))

# The engine, from the bottom up: each imports only from those before it.
ENGINE = (
    "errors",
    "job",
    "tsv",
    "intake",
    "backoff",
    "files",
    "directory_watch",
    "handle",
    "claims",
    "scan",
    "rewrite",
    "store",
    "table",
    "agenda",
    "ledger",
    "log",
    "interrupts",
    "worker",
    "queue",
)


def tree_of(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text())


def arrows(tree: ast.AST) -> set[str]:
    """The modules of this package that a module imports, at its top or anywhere inside."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= _from(node)
        elif isinstance(node, ast.Import):
            names = (alias.name.split(".") for alias in node.names)
            found |= {[*name, "__init__"][1] for name in names if name[0] == "dbbasic_queue"}
    return found


def _from(node: ast.ImportFrom) -> set[str]:
    path = (node.module or "").split(".")
    if node.level == 0 and path[0] != "dbbasic_queue":
        return set()
    module = path[0] if node.level else ".".join(path[1:])
    if module:
        return {module}
    return {alias.name if alias.name in MODULES else "__init__" for alias in node.names}


def test_the_walk_sees_imports() -> None:
    """The walk below finds every way to write an import, wherever it stands."""
    code = """
from .store import Store
from . import intake, Queue
from dbbasic_queue.table.line import Row
from dbbasic_queue import __version__, job
import dbbasic_queue.engines.tsv.engine
import os.path, dbbasic.tsv
from dbbasic.tsv import TSV
def function():
    from .worker import work
"""
    wanted = {"store", "intake", "__init__", "tsv", "job", "ledger", "worker"}
    assert arrows(ast.parse(code)) == wanted


@pytest.mark.parametrize("module", ENGINE)
def test_no_arrow_points_upward(module: str) -> None:
    """A module of the engine imports only from those below it, never from the rest."""
    allowed = set(ENGINE[: ENGINE.index(module)])
    assert arrows(tree_of(module)) <= allowed


def test_imports_go_one_way() -> None:
    """No module of the package imports, by whatever way round, one that imports it."""
    graph = {module: arrows(tree_of(module)) for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_nothing_imports_the_command_line() -> None:
    """The cli modules are on top: only they import one another."""
    for module in MODULES:
        if not module.startswith("cli"):
            assert not [name for name in arrows(tree_of(module)) if name.startswith("cli")]


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("cli")])
def test_only_the_command_line_talks(module: str) -> None:
    """Nobody else prints, reads the arguments or ends the program by sys.exit."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"print", "input", "exit", "quit", "breakpoint"}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("sys", "argv"), ("sys", "exit")}


def test_init_is_names_only() -> None:
    """The package's front door re-exports, and does nothing else."""
    kinds = (ast.Expr, ast.ImportFrom, ast.Assign)
    tree = tree_of("__init__")
    assert all(isinstance(node, kinds) for node in tree.body)
    assert arrows(tree) <= set(ENGINE)
    assert list(dbbasic_queue.__all__) == sorted(dbbasic_queue.__all__)
    assert all(hasattr(dbbasic_queue, name) for name in dbbasic_queue.__all__)


def test_importing_the_library_is_cheap() -> None:
    """`import dbbasic_queue` brings in the engine, and none of the slow or the optional modules."""
    code = "import dbbasic_queue, sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    slow = {"jinja2", "crontab", "asyncio", "inspect", "dataclasses", "argparse", "tomllib"}
    slow |= {"multiprocessing", "concurrent", "subprocess", "unittest", "socket", "ssl"}
    assert not loaded & slow
    ours = {name.partition(".")[2] for name in loaded if name.startswith("dbbasic_queue.")}
    assert ours == set(ENGINE)
