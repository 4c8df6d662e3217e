"""What `dbq check` says of others that lay hands on a queue: git, web servers, other workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dbbasic_queue import Queue
from dbbasic_queue.check.check import check_config
from dbbasic_queue.check.neighbours import neighbour_problems
from dbbasic_queue.config.sections import parse


def said(folder: Path, file: str = "data/queue.tsv") -> list[str]:
    """What is said of the queue of a config in this folder."""
    text = f'name = "shop"\n[queue]\nfile = "{file}"\n[worker]\nhandlers = "jobs:HANDLERS"\n'
    problems = [*neighbour_problems(parse(text, folder / "dbq.toml"))]
    assert all((each.level, each.where) == ("warning", "[queue].file") for each in problems)
    return [each.what for each in problems]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_queue_in_a_git_work_tree(tmp_path: Path, kind: str) -> None:
    """Also in a linked work tree, whose .git is a file; outside of it there is nothing to say."""
    tree = tmp_path / "shop"
    tree.mkdir()
    assert said(tree) == []
    (tree / ".git").mkdir() if kind == "folder" else (tree / ".git").write_text("gitdir: x\n")
    (found,) = said(tree)
    assert found == (
        f"{tree}/data is in the git work tree {tree}: git clean, or a new checkout, takes the jobs"
        " away; put it into a folder of its own, such as /var/lib/shop"
    )
    assert said(tree, str(tmp_path / "queue.tsv")) == []


def test_a_queue_below_a_web_root() -> None:
    """Where a web server finds its files, jobs may be served; a name that only looks so is not."""
    (found,) = said(Path("/var/www/shop"))
    assert "/var/www/shop/data is below /var/www: a web server may serve the jobs" in found
    assert said(Path("/var/wwwshop")) == []


def test_a_worker_of_the_family_on_the_same_file(tmp_path: Path) -> None:
    """It fails the jobs of other types, so its process is named, and the way to have one worker."""
    program = "import sys, time; print(flush=True); time.sleep(600)"
    Queue(tmp_path / "data" / "queue.tsv").enqueue("send_email", {})
    assert said(tmp_path) == []
    with subprocess.Popen(
        [sys.executable, "-c", program, "email:worker"], cwd=tmp_path, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            (found,) = said(tmp_path)
            assert said(tmp_path, "other.tsv") == []
        finally:
            process.kill()
    assert found.startswith(f"process {process.pid} is an email:worker of this file")


def test_the_check_tells_it(tmp_path: Path) -> None:
    """`dbq check` has it among its findings."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "jobs.py").write_text("HANDLERS = {'mail': print}\n")
    config = tmp_path / "dbq.toml"
    config.write_text(
        'name = "shop"\nqueue.file = "data/queue.tsv"\nworker.handlers = "jobs:HANDLERS"\n'
    )
    assert any("git work tree" in str(each) for each in check_config(config).findings)
