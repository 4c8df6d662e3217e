"""`dbq top` in a terminal: keys sent, the screen looked at."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_app import Terminal, dbq, queue_of
from screens import Screen, needs_tmux

DBQ = f"{sys.executable} -m dbbasic_queue"
KEYS = "^q quit .* p pause, resume"


@pytest.fixture
def jobs(app: Path) -> Path:
    """A folder with two jobs that failed, and two types that wait."""
    queue = queue_of(app)
    for n in range(2):
        queue.enqueue("bad", {}, job_id=f"bad-{n}")
    dbq("work", "jobs:HANDLERS", "--max-attempts", "1", "--quiet", cwd=app)
    queue.enqueue("ok", {}, queue.now() + 1000, job_id="later")
    queue.enqueue("slow", {"seconds": 60}, queue.now() + 2000, job_id="much-later")
    return app


@pytest.fixture
def screen(jobs: Path) -> Iterator[Screen]:
    """A terminal in which the screen has come."""
    with Screen(jobs) as screen:
        screen.run(f"clear; {DBQ} top")
        screen.wait_for(KEYS, row=-1)
        yield screen


def status(folder: Path, job_id: str) -> str:
    job = queue_of(folder).get_job(job_id)
    assert job is not None
    return str(job["status"])


def left(screen: Screen) -> None:
    """Assert that the terminal is as it was: the shell's screen, its echo, its cursor."""
    screen.wait_for(KEYS, gone=True)
    screen.run("echo here $((20 + 1))")
    screen.wait_for("^here 21$")
    screen.wait_for(r"echo here")
    assert screen.shows_cursor()


@needs_tmux
def test_the_screen_is_live(screen: Screen, jobs: Path) -> None:
    """What is added, and what runs, is on the screen without a key; q leaves it."""
    lines = screen.wait_for("2 pending  0 running  2 failed")
    shown = re.split("…|  ", lines[0])[0]  # a long path is cut to the screen
    assert len(shown) > 20
    assert f"{jobs}/data/queue.tsv".startswith(shown)
    screen.wait_for(r"bad +2 +.* ValueError: no such user")
    queue_of(jobs).enqueue("fresh", {}, job_id="new")
    screen.wait_for("3 pending")
    screen.wait_for("fresh +new +due")
    queue_of(jobs).cancel_job("new")
    queue_of(jobs).enqueue("slow", {"seconds": 60}, job_id="s")
    worker = Terminal("work", "jobs:HANDLERS", "--quiet", cwd=jobs)
    screen.wait_for(rf"slow +s  .*process {worker.process.pid}")
    (jobs / "enough").touch()
    screen.wait_for("1 completed")
    worker.read()
    worker.process.wait()
    screen.press("q")
    left(screen)


@needs_tmux
def test_keys_ask_first(screen: Screen, jobs: Path) -> None:
    """r, c and p name what they would do, and do it only after y."""
    screen.wait_for("bad +2 ")
    screen.press("r")
    screen.wait_for(r"^retry 2 jobs of bad with this error\? \[y/N\]", row=-1)
    screen.press("n")
    screen.wait_for("^nothing was done", row=-1)
    assert status(jobs, "bad-0") == "failed"
    screen.press("r", "y")
    screen.wait_for("^retried 2 jobs", row=-1)
    assert status(jobs, "bad-0") == "pending"
    screen.wait_for("4 pending .*0 failed")
    screen.type("/")
    screen.wait_for("^filter:", row=-1)
    screen.type("much-later")
    screen.press("Enter")
    screen.wait_for("slow +much-later")
    screen.wait_for("bad-0", gone=True)
    screen.press("c")
    screen.wait_for(r"^cancel much-later\?", row=-1)
    screen.press("Y")
    screen.wait_for("^cancelled much-later", row=-1)
    assert status(jobs, "much-later") == "cancelled"
    screen.wait_for("slow +much-later", gone=True)  # or its type is chosen still
    screen.press("Escape")
    screen.wait_for("bad-0")
    screen.press("p")
    screen.wait_for(r"^pause bad\?", row=-1)
    screen.press("y")
    screen.wait_for("^paused bad", row=-1)
    assert [pause.type for pause in queue_of(jobs).paused()] == ["bad"]
    screen.wait_for("paused: bad")
    screen.press("p", "y")
    screen.wait_for("^resumed bad", row=-1)
    screen.press("C-c")
    left(screen)


@needs_tmux
def test_arrows_choose(screen: Screen) -> None:
    """The chosen line is in reverse video, and stays so whatever comes."""

    def chosen() -> str:
        lines = [it for it in screen.lines(colours=True) if re.search(r"\x1b\[(0;)?7m", it)]
        return re.sub("\x1b\\[[0-9;]*m", "", lines[0]).strip() if len(lines) == 1 else ""

    screen.until(lambda: "no such user" in chosen())
    screen.press("Down", "Down")
    screen.until(lambda: chosen().startswith("ok ") and "1 pending" in chosen())
    screen.press("End")
    screen.until(lambda: chosen().startswith("slow ") and "much-later" in chosen())
    screen.press("Home")
    screen.until(lambda: "no such user" in chosen())


@needs_tmux
def test_it_follows_the_size(screen: Screen) -> None:
    """Smaller and larger: the keys are on the last row, and no row is left over."""
    for columns, rows in ((60, 10), (132, 43), (40, 6), (80, 24)):
        screen.resize(columns, rows)
        screen.wait_for("^q quit", row=rows - 1)
        screen.wait_for("WARNING|CRITICAL", row=0)
        assert sum(line.startswith("q quit") for line in screen.lines()) == 1


@needs_tmux
def test_a_hundred_thousand_jobs_are_shown(app: Path) -> None:
    """At 80 by 24, all that counts is there, and what comes to them is seen."""
    queue = queue_of(app)
    queue.enqueue_many([("mail.send", {}, queue.now() + 3600)] * 99_990)
    queue.enqueue_many([(f"type-{n}", {}, queue.now() + 1800) for n in range(10)])
    with Screen(app) as screen:
        screen.run(f"clear; {DBQ} top")
        screen.wait_for(KEYS, row=-1)
        lines = screen.wait_for("^100,000 pending  0 running  0 failed")
        assert all(len(line) <= 80 for line in lines)
        assert any(re.search("^  mail.send +99,990 pending", line) for line in lines)
        queue.enqueue("late", {}, queue.now() + 60)
        screen.wait_for("^100,001 pending")
        screen.run("/late")
        lines = screen.wait_for("mail.send", gone=True)
        assert any(re.search("^  late +1 pending", line) for line in lines)
        screen.press("q")
        left(screen)


@needs_tmux
@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "vt100"}], ids=["wish", "terminal"])
def test_it_does_without_colours(jobs: Path, env: dict[str, str]) -> None:
    """By the person's wish, and on a terminal that has none, all is there but the colours."""
    with Screen(jobs) as screen:
        words = " ".join(f"{name}={value}" for name, value in env.items())
        screen.run(f"clear; {words} {DBQ} top")
        screen.wait_for("^q quit", row=-1)
        screen.wait_for(r"bad +2 +.* ValueError: no such user")
        assert not any(re.search("\x1b\\[[0-9;]*3[1-7]m", it) for it in screen.lines(colours=True))
        screen.press("q")
        left(screen)


@needs_tmux
def test_ctrl_z_gives_the_terminal_back(screen: Screen) -> None:
    """The shell has its screen meanwhile, and the queue's comes again with fg."""
    screen.press("C-z")
    screen.wait_for("Stopped")
    left(screen)
    screen.run("fg")
    screen.wait_for(KEYS, row=-1)
    screen.press("q")
    left(screen)


@needs_tmux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_crash_leaves_the_terminal_as_it_was(jobs: Path, number: int) -> None:
    """Whatever ends it, the shell has its screen, its echo and its cursor."""
    with Screen(jobs) as screen:
        screen.run(f"clear; sh -c 'echo $$ > pid; exec {DBQ} top'")
        screen.wait_for(KEYS, row=-1)
        os.kill(int((jobs / "pid").read_text()), number)
        left(screen)


@needs_tmux
def test_a_queue_that_goes_away_is_told(screen: Screen, jobs: Path) -> None:
    """The screen says why it shows nothing new, and goes on when the queue is there again."""
    screen.wait_for("2 pending")
    os.rename(jobs / "data", jobs / "elsewhere")
    screen.wait_for("cannot|no such|not there|No such")
    os.rename(jobs / "elsewhere", jobs / "data")
    screen.wait_for("2 pending")


def test_it_takes_a_terminal(jobs: Path) -> None:
    """In a pipe, and on a terminal that cannot be drawn on, it says so: exit 2, no traceback."""
    done = dbq("top", cwd=jobs)
    assert done.returncode == 2
    assert "top needs a terminal; in a pipe there are dbq stats and dbq errors" in done.stderr
    for name in ("dumb", "nonsense"):
        terminal = Terminal("top", cwd=jobs, env={"TERM": name})
        shown = terminal.read()
        assert terminal.process.wait() == 2
        assert f"top needs a terminal whose cursor can be moved: $TERM is {name}" in shown
