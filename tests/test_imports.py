"""Imports go down only, one row a wing; importing the library costs little."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import dbbasic_queue
from dbbasic_queue.cli import main
from dbbasic_queue.cli.common import Command

PACKAGE = Path(dbbasic_queue.__file__).parent

# Wing -> the wings that it may import, from the bottom up. A wing may import itself, and what
# stands on the ground (below).
WINGS: dict[str, set[str]] = {
    "support": set(),
    "table": {"support"},
    "engines": {"support", "table"},
    "worker": {"support", "engines"},
    "schedule": {"support"},
    "config": {"support", "schedule"},
    "install": {"support", "schedule", "config", "engines"},
    "cron": {"support", "schedule", "config", "install"},
    "systemd": {"support", "schedule", "config", "install"},
    "check": {"support", "schedule", "config", "install", "engines"},
    "health": {"support", "schedule", "config", "engines"},
    "migrate": {"support", "schedule", "engines"},
    "views": {"support", "schedule", "config", "install", "engines", "health"},
    "integrations": {"support", "engines", "worker", "config", "schedule"},
    "cli": {
        *("support", "engines", "worker", "schedule", "config"),
        *("install", "cron", "systemd", "check", "health", "migrate", "views"),
    },
}
# The modules at the root of the package: what a job is and how errors are called is said once, for
# all wings; `support` knows nothing of jobs.
GROUND: dict[str, set[str]] = {
    "errors": set(),
    "version": set(),
    "job": {"errors", "support"},
    "backoff": {"errors"},
    "rate": {"support"},
    "log": {"errors", "support"},
    "queue": {"errors", "job", "backoff", "support", "engines", "worker", "config"},
    "tasks": {"errors", "job", "backoff", "queue", "support", "engines", "worker"},
    "__init__": {
        *("errors", "version", "job", "backoff", "rate", "log", "queue", "worker", "engines"),
    },
    "__main__": {"cli"},
    "celery": {"job", "backoff", "worker"},  # at an address that users of Celery import
}
# At addresses that others fix, or that are easily said: door -> the wing that it leads to.
DOORS = {
    "admin": "cli",
    "api": "cli",
    "cli_env": "cli",
    "cli_health": "cli",
    "web": "cli",
    "django": "integrations",
    "testing": "integrations",
}
# Which every wing above `support` may use.
WORDS = {"errors", "version", "job", "backoff", "rate", "log"}
FLOORS = 8
DOOR_LINES = 12


def modules() -> dict[str, Path]:
    """Dotted name below the package -> file; a wing's face bears the wing's name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] == "templates":
            continue
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found


MODULES = modules()


def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def place_of(module: str) -> str:
    """The wing of a module, or the name of one at the root."""
    return module.partition(".")[0]


def arrows(module: str, tree: ast.AST) -> set[str]:
    """The modules of this package that a module imports, at its top or anywhere inside."""
    package = module.split(".")
    if module == "__init__" or ("." not in module and module not in WINGS):
        package = []
    elif MODULES.get(module, Path()).name != "__init__.py":
        package = package[:-1]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= _from(package, node)
        elif isinstance(node, ast.Import):
            names = (alias.name.split(".") for alias in node.names)
            found |= {".".join(n[1:]) or "__init__" for n in names if n[0] == "dbbasic_queue"}
    return found


def _from(package: list[str], node: ast.ImportFrom) -> set[str]:
    path = (node.module or "").split(".") if node.module else []
    if node.level == 0:
        if path[:1] != ["dbbasic_queue"]:
            return set()
        base = path[1:]
    else:
        base = package[: len(package) - node.level + 1] + path
    found = {".".join([*base, alias.name]) for alias in node.names}
    return {name if name in MODULES else ".".join(base) or "__init__" for name in found}


def test_the_walk_sees_imports() -> None:
    """The walk finds every way to write an import, wherever it stands."""
    code = """
from .table import Table
from ..job import Job
from .. import queue, Queue
from dbbasic_queue.table.line import Row
from dbbasic_queue import __version__, errors
import dbbasic_queue.engines.interface
import os.path, dbbasic.tsv
from dbbasic.tsv import TSV
from . import line
def function():
    from ..worker.loop import work
"""
    wanted = {"table.table", "job", "queue", "__init__", "table.line", "errors"}
    wanted |= {"engines.interface", "worker.loop"}
    assert arrows("table.rewrite", ast.parse(code)) == wanted


def test_every_place_has_a_row() -> None:
    """There are the wings of the table and the modules of the ground, and no other place."""
    places = {place_of(module) for module in MODULES}
    assert places == WINGS.keys() | GROUND.keys() | DOORS.keys()
    assert len(GROUND) <= 11


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_arrow_points_upward(module: str) -> None:
    """A module imports only from its own wing and from those that its wing's row names."""
    place = place_of(module)
    if place in DOORS:
        assert {place_of(name) for name in arrows(module, tree_of(module))} <= {DOORS[place]}
        assert len(MODULES[module].read_text().splitlines()) <= DOOR_LINES
        return
    allowed = {place, *GROUND.get(place, ()), *WINGS.get(place, ())}
    if place == "support":
        allowed.add("errors")
    elif place in WINGS:
        allowed |= WORDS
    if place in {"cli", "views", "integrations"}:
        allowed |= {"queue"}
    assert {place_of(name) for name in arrows(module, tree_of(module))} <= allowed


def test_the_worker_knows_no_engine() -> None:
    """Of the engines, the worker imports what every engine keeps to, and nothing else."""
    for module in MODULES:
        if place_of(module) == "worker":
            engines = {a for a in arrows(module, tree_of(module)) if place_of(a) == "engines"}
            assert engines <= {"engines.interface"}, module


def test_no_engine_is_named_outside() -> None:
    """Only the engines, and the commands of one engine, name a module of an engine."""
    for module in MODULES:
        if place_of(module) not in {"engines", "cli"}:
            reached = arrows(module, tree_of(module))
            named = {a for a in reached if place_of(a) == "engines" and a.count(".") >= 2}
            assert not named, module


def test_imports_go_one_way() -> None:
    """No module of the package imports, by whatever way round, one that imports it."""
    graph = {module: arrows(module, tree_of(module)) - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_the_house_has_few_floors() -> None:
    """From the lowest wing to the commands there are at most eight floors."""
    floors: dict[str, int] = {}

    def floor(place: str) -> int:
        if place not in floors:
            rows = WINGS.get(place, set()) | GROUND.get(place, set())
            floors[place] = 1 + max((floor(below) for below in rows), default=0)
        return floors[place]

    assert max(map(floor, WINGS)) <= FLOORS


@pytest.mark.parametrize("wing", sorted(WINGS))
def test_a_wing_has_a_face(wing: str) -> None:
    """A wing's `__init__` is one sentence, so that to import one room does not light the wing."""
    body = tree_of(wing).body
    assert isinstance(body[0], ast.Expr)
    if wing == "cli":  # the released dbbasic-cli takes COMMANDS from it
        assert [type(part) for part in body[1:]] == [ast.ImportFrom, ast.FunctionDef]
    elif wing != "engines":
        assert len(body) == 1


def test_only_the_commands_talk() -> None:
    """No wing but the commands prints, reads the arguments or ends the program by sys.exit."""
    for module in MODULES:
        if place_of(module) in {"cli", "__main__", *DOORS}:
            continue
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                said = node.func.id
                assert said not in {"print", "input", "exit", "quit", "breakpoint"}, module
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used = node.value.id, node.attr
                assert used not in {("sys", "argv"), ("sys", "exit")}, module


def test_init_is_names_only() -> None:
    """The package's front door re-exports, and does nothing else."""
    kinds = (ast.Expr, ast.ImportFrom, ast.Assign)
    assert all(isinstance(node, kinds) for node in tree_of("__init__").body)
    assert list(dbbasic_queue.__all__) == sorted(dbbasic_queue.__all__)
    assert all(hasattr(dbbasic_queue, name) for name in dbbasic_queue.__all__)


def test_importing_the_library_is_cheap() -> None:
    """`import dbbasic_queue` brings in the file engine, and no slow or optional module."""
    code = "import dbbasic_queue, sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    slow = {"jinja2", "crontab", "asyncio", "inspect", "dataclasses", "argparse", "tomllib"}
    slow |= {"multiprocessing", "concurrent", "subprocess", "unittest", "socket", "ssl"}
    assert not loaded & slow
    ours = {name.split(".")[1] for name in loaded if name.startswith("dbbasic_queue.")}
    ground = {"errors", "version", "job", "backoff", "rate", "log", "queue"}
    assert ours <= ground | {"support", "table", "engines", "worker"}


def test_each_command_is_where_the_table_of_commands_says() -> None:
    """Each is found by its name, and no module describes one that the table lacks."""
    found = {name: main.command(name) for name in main.PLACES}
    assert all(each.name == name for name, each in found.items())
    described = {
        value.name
        for path in (PACKAGE / "cli").glob("*.py")
        if not path.stem.startswith("__")
        for value in vars(import_module(f"dbbasic_queue.cli.{path.stem}")).values()
        if isinstance(value, Command)
    }
    assert described == set(found)


def test_a_worker_imports_no_other_command(tmp_path: Path) -> None:
    """cron starts one each minute: neither what describes other commands, nor OpenSSL."""
    code = (
        "import sys; from dbbasic_queue.cli.main import main\n"
        "main(['work', 'app:HANDLERS']); print(*sys.modules)"
    )
    (tmp_path / "app.py").write_text("HANDLERS = {}\n")
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "dbbasic_queue.cli.work" in loaded
    ours = ("look", "jobs", "by_hand", "setup", "upkeep", "migrate", "run", "schedules")
    assert not loaded & {f"dbbasic_queue.cli.{name}" for name in ours}
    assert not loaded & {"hashlib", "shutil", "dataclasses", "jinja2", "asyncio"}
