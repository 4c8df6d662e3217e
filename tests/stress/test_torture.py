"""A quick form of each part of the torture, and that each part notices what it is there for.

The whole is `make torture`; what needs strace and a file system of its own is only there.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from torture import cuts, faults, kills, play, soak, steps
from torture.play import Failure
from torture.scenarios import SCENARIOS

from dbbasic_queue.support.opening import Folder
from dbbasic_queue.table import opened
from dbbasic_queue.table.opened import OpenTable
from dbbasic_queue.table.table import Table

SEED = int(os.environ.get("TORTURE_SEED", "1"))
CUT = (
    *("create", "torn-line", "empty-file", "tombstone", "table-restore", "mark", "install"),
    *("history", "pause", "rate", "restart", "notified", "back-up", "restore"),
)
SOME = (
    *("create", "enqueue", "enqueue-many", "relocate", "tombstone", "rescue", "rewrite-twins"),
    *("edit", "torn-line", "half-batch", "prune", "mark", "install", "retry-later", "history"),
    *("pause", "rate", "restart", "notified", "back-up", "restore"),
)


def explain(failures: list[Failure]) -> str:
    return "\n".join(
        f"python -m tests.torture {failure.part} --seed {SEED} --case {failure.case}"
        f" ({failure.where}): {failure.problems}"[:2000]
        for failure in failures
    )


@pytest.mark.parametrize("name", SCENARIOS)
def test_same_steps_in_each_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs make the same steps: made anew or laid out, wherever, after whatever else."""
    case = play.Case(name, "full")
    play._prepared.clear()
    first = play.record(case, SEED).steps
    held = [opened.DirectoryWatch(str(tmp_path)) for _ in range(9)]
    monkeypatch.chdir(tmp_path)
    assert play.record(case, SEED).steps == first
    del held


@pytest.mark.parametrize("name", SOME)
def test_killed_at_any_step(name: str) -> None:
    """A process that is killed at a system call leaves every job in a state it may be in."""
    count, failures = steps.run(f"{name}/full", SEED, stride=17)
    assert count > 3
    assert not failures, explain(failures)


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("durability", ["full", "normal"])
def test_power_cut(name: str, durability: str) -> None:
    """Whatever sectors and names a power cut leaves, what was acknowledged or synced is there."""
    count, failures = cuts.run(f"{name}/{durability}", SEED, stride=3)
    assert count > 3
    assert not failures, explain(failures)


@pytest.mark.parametrize("name", SOME)
def test_refused_by_the_disk(name: str) -> None:
    """A refused write or sync is told, harms nothing, and the next call works."""
    count, failures = faults.run(f"{name}/full", SEED, stride=9)
    assert count > 3
    assert not failures, explain(failures)


def test_kills_under_load() -> None:
    """Of producers and workers killed again and again no job is lost or repeated without reason."""
    report = kills.run(SEED, 20)
    assert report.jobs > 20
    assert not report.problems, report


def test_everything_at_once() -> None:
    """Work, failures, kills, pruning, edits and log rotation together leave nothing unexplained."""
    report = soak.run(SEED, 4)
    assert not report.problems, report


def test_cut_notices_a_missing_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The power cuts would find it if `full` did not sync."""
    monkeypatch.setattr(Table, "sync", lambda self: None)
    assert cuts.run("enqueue/full", SEED, stride=5)[1]


def test_cut_notices_a_wrong_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The power cuts would find it if a moved row's old line died before the new one is on disk."""
    monkeypatch.setattr(OpenTable, "sync", lambda self: None)
    assert cuts.run("tombstone/normal", SEED, stride=7)[1]


def test_kill_notices_what_was_not_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kills would find it if a torn line were cut off before it is set aside."""
    monkeypatch.setattr(Table, "_write_aside", lambda self, lines: None)
    assert steps.run("torn-line/full", SEED, stride=3)[1]


@pytest.mark.parametrize("name", ["mark", "install"])
def test_cut_notices_a_file_without_a_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The power cuts would find it if the folder of a new file were not synced."""
    monkeypatch.setattr(Folder, "sync", lambda self: None)
    assert cuts.run(f"{name}/normal", SEED, stride=1)[1]


def test_kill_notices_half_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kills would find it if a batch were a plain append."""
    monkeypatch.setattr(Table, "append_batch", Table.append)
    assert steps.run("enqueue-many/full", SEED, stride=5)[1]


def test_kill_notices_another_step() -> None:
    """A run whose steps are not the recorded ones is told, rather than taken for the case meant."""
    case = play.Case("create", "full", 3, "before")
    history = play.record(case, SEED)
    history.steps[1] = history.steps[1]._replace(length=1)
    with pytest.raises(RuntimeError, match="Strayed"):
        steps.run_case(case, SEED, history)


def test_fault_notices_a_swallowed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusals would find it if a failed sync were reported as done."""
    real = OpenTable.sync

    def swallow(self: OpenTable) -> None:
        try:
            real(self)
        except OSError:
            return

    monkeypatch.setattr(OpenTable, "sync", swallow)
    assert faults.run("enqueue/full", SEED, stride=4)[1]
