"""The pager, by git's rules."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_app import Terminal, on_a_terminal, queue_of

PAGER = """#!/bin/sh
echo "LESS=$LESS" > {folder}/seen
cat >> {folder}/seen
echo paged
exit 3
"""


@pytest.fixture
def pager(app: Path) -> str:
    """A pager that writes what it is given to the file `seen`."""
    path = app / "pager"
    path.write_text(PAGER.format(folder=app))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def jobs(app: Path) -> Path:
    """A folder with more jobs than a terminal of 24 lines shows."""
    queue_of(app).enqueue_many([("ok", {"n": n}) for n in range(40)])
    return app


def test_what_does_not_fit_goes_to_the_pager(jobs: Path, pager: str) -> None:
    """All lines, with their colours; and LESS as git sets it, unless the user has."""
    queue_of(jobs).cancel_jobs(limit=1)
    code, shown = on_a_terminal("list", cwd=jobs, env={"PAGER": pager})
    assert code == 0
    assert shown.endswith("paged\n")
    seen = (jobs / "seen").read_text().splitlines()
    assert (seen[0], len(seen)) == ("LESS=FRX", 42)
    assert "\x1b[2mcancelled" in seen[2]
    on_a_terminal("list", cwd=jobs, env={"PAGER": pager, "LESS": "S"})
    assert (jobs / "seen").read_text().startswith("LESS=S\n")


def test_what_fits_needs_no_pager(app: Path, pager: str) -> None:
    """Fewer lines than the terminal has are printed, whatever the pager is."""
    queue_of(app).enqueue_many([("ok", {"n": n}) for n in range(21)])
    assert "paged" not in on_a_terminal("list", cwd=app, env={"PAGER": pager})[1]
    queue_of(app).enqueue_many([("ok", {"n": n}) for n in range(3)])
    assert "paged" in on_a_terminal("list", cwd=app, env={"PAGER": pager})[1]


@pytest.mark.parametrize("pager", ["", "cat"])
def test_a_user_can_do_without(jobs: Path, pager: str) -> None:
    """An empty $PAGER and `cat` mean none."""
    code, shown = on_a_terminal("list", cwd=jobs, env={"PAGER": pager})
    assert code == 0
    assert shown.count("pending") == 40


def test_a_pager_that_is_not_there_is_told(jobs: Path) -> None:
    """Its name is said, and the lines are printed all the same."""
    code, shown = on_a_terminal("list", cwd=jobs, env={"PAGER": "nopager"})
    assert code == 0
    assert "there is no pager nopager ($PAGER)" in shown
    assert shown.count("pending") == 40


def test_a_pipe_has_no_pager(jobs: Path, pager: str) -> None:
    """A program that reads the list gets all of it."""
    done = subprocess.run(
        [sys.executable, "-m", "dbbasic_queue", "list"],
        cwd=jobs,
        env={"PAGER": pager, "TERM": "xterm"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.count("pending") == 40
    assert not (jobs / "seen").exists()


@pytest.mark.skipif(shutil.which("less") is None, reason="less is not installed")
def test_less_is_left_by_q(app: Path) -> None:
    """A list that is longer than what `less` has read ends with it, and without a word."""
    queue_of(app).enqueue_many([("ok", {"pad": "x" * 900}) for _ in range(5000)])
    terminal = Terminal("list", cwd=app, columns=1000)
    terminal.wait_for("\n:")
    terminal.type("q")
    shown = terminal.read()
    assert terminal.process.wait() == 0
    assert "Traceback" not in shown
    assert "Broken" not in shown
