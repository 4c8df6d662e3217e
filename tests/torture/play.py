"""Plays a scenario once: undisturbed, recorded, or with a plan that cuts it short."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from . import child
from .history import History
from .scenarios import SCENARIOS, Stage, scratch
from .shim import Plan, Record, Shim


class Case(NamedTuple):
    """What names one run, so that it can be made again."""

    scenario: str
    durability: str
    step: int = 0
    how: str = ""

    def __str__(self) -> str:
        parts = [self.scenario, self.durability]
        return "/".join(parts + ([str(self.step), self.how] if self.how else []))

    @classmethod
    def parse(cls, text: str) -> Case:
        """The case that `str` wrote."""
        scenario, durability, *rest = text.split("/")
        if scenario not in SCENARIOS or durability not in ("full", "normal"):
            raise ValueError(f"no such case: {text}")
        return cls(scenario, durability, int(rest[0]) if rest else 0, rest[1] if rest[1:] else "")


class Failure(NamedTuple):
    """A case in which something was wrong."""

    part: str  # of the torture
    case: str
    problems: list[str]
    where: str = ""


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for one case, in memory where there is one, as thousands are needed."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="dbq-torture-", dir=memory)).resolve()
    try:
        yield path
    finally:
        shutil.rmtree(path)
        shutil.rmtree(scratch(path), ignore_errors=True)


# Scenario and seed -> files: what is in each, and its mode, which is mended where it is another.
_prepared: dict[tuple[str, int], dict[str, tuple[bytes, int]]] = {}


def prepare(root: Path, case: Case, seed: int) -> None:
    """Make the table that a scenario begins with, in a process that ends thereafter.

    The second time, its files are laid out again, which is faster.
    """
    key = case.scenario, seed
    if key in _prepared:
        for name, (data, mode) in _prepared[key].items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(mode)
        return
    _prepare(root, case, seed)
    files = {
        str(path.relative_to(root)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in root.rglob("*")
        if path.is_file()
    }
    # A hint names the inode of the table, and so does a note in the lock file.
    if not any(name.endswith((".lock", ".hint")) and data for name, (data, _) in files.items()):
        _prepared[key] = files


def _prepare(root: Path, case: Case, seed: int) -> None:
    def make(tell: Callable[[Any], None]) -> None:
        stage = Stage(root, seed, "normal", lambda names: None)
        SCENARIOS[case.scenario].prepare(stage)

    end = child.run(make)
    if end.signal:
        raise RuntimeError(f"{case}: preparing died of signal {end.signal}")


def act(root: Path, case: Case, seed: int, plan: Plan) -> child.End:
    """Do what is done in a scenario, under a plan; tells each promise."""

    def play(tell: Callable[[Any], None]) -> None:
        def say(names: dict[str, str]) -> None:
            plan.acknowledged(names)
            tell(names)

        stage = Stage(root, seed + 1, case.durability, say)
        Shim(str(root), plan).install()
        SCENARIOS[case.scenario].act(stage)
        if isinstance(plan, Record):
            tell((plan.changes, plan.steps, stage.groups))

    return child.run(play)


def record(case: Case, seed: int) -> History:
    """The undisturbed run of a scenario."""
    with folder() as root:
        prepare(root, case, seed)
        files, inodes, folders = {}, {}, []
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            if path.is_dir():
                folders.append(name)
            else:
                files[name], inodes[name] = path.read_bytes(), path.stat().st_ino
        end = act(root, case, seed, Record().below(str(root)))
        if end.signal:
            raise RuntimeError(f"{case}: the undisturbed run died of signal {end.signal}")
        changes, steps, groups = end.told[-1]
        return History(files, inodes, folders, changes, steps, groups)
