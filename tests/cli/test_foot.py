"""`dbq work` on a terminal: a line that stays, and a terminal that is as it was after it."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_app import Terminal, queue_of
from screens import Screen, needs_tmux

from dbbasic_queue.cli import foot
from dbbasic_queue.cli.foot import ColourFormatter, Numbers

DBQ = f"{sys.executable} -m dbbasic_queue"
LINE = r"^[0-9,]+ done"
HANDLERS = """
import os, time

def wait(payload):
    open(f"running-{payload['n']}", "w").close()
    print(payload["says"], end=payload.get("end", "\\n"), flush=True)
    while not os.path.exists(f"enough-{payload['n']}"):
        time.sleep(0.01)
    print(" and goes on", flush=True)

HANDLERS = {"wait": wait}
"""


@pytest.fixture
def waiting(app: Path) -> Path:
    """A folder with three jobs, each of which runs until a file is there."""
    (app / "jobs.py").write_text(HANDLERS)
    for n in range(3):
        queue_of(app).enqueue("wait", {"n": n, "says": f"handler {n} says"}, job_id=f"w{n}")
    return app


@pytest.fixture
def screen(waiting: Path) -> Iterator[Screen]:
    """A terminal in which a worker has a line at the foot."""
    with Screen(waiting) as screen:
        screen.run(f"{DBQ} work jobs:HANDLERS")
        screen.wait_for(LINE, row=-1)
        yield screen


def as_it_was(screen: Screen) -> None:
    """Assert that all rows of the terminal scroll, and no line is left of those at the foot."""
    rows = len(screen.lines())
    screen.run("seq 100")
    screen.wait_for(r"^\$", row=rows - 1)
    assert screen.region() == (0, rows - 1)
    assert [line.strip() for line in screen.lines()[:-1]] == [
        str(n) for n in range(102 - rows, 101)
    ]


def enough(folder: Path, *numbers: int) -> None:
    for n in numbers:
        (folder / f"enough-{n}").touch()


@needs_tmux
def test_a_line_stays_below_the_log(screen: Screen, waiting: Path) -> None:
    """It tells what is done, to do and in hand; log and handlers scroll above it."""
    lines = screen.wait_for(r"^0 done, 2 to do; running wait \d+s$", row=-1)
    assert "handler 0 says" in lines
    enough(waiting, 0)
    screen.wait_for(r"^1 done, 1 to do.* running wait", row=-1)
    lines = screen.lines()
    assert " and goes on" in lines
    assert sum(bool(re.search(LINE, line)) for line in lines) == 1
    enough(waiting, 1, 2)
    lines = screen.wait_for("done: 3 completed")
    assert not any(re.search(LINE, line) for line in lines)
    as_it_was(screen)


@needs_tmux
def test_half_a_line_of_a_handler_is_not_broken(waiting: Path) -> None:
    """What a handler prints without a newline goes on where it was, also after a resize."""
    queue_of(waiting).cancel_jobs(ids=["w0", "w1", "w2"])
    payload = {"n": 7, "says": "half a line", "end": ""}
    queue_of(waiting).enqueue("wait", payload, job_id="half")
    with Screen(waiting) as screen:
        screen.run(f"{DBQ} work jobs:HANDLERS")
        screen.wait_for(LINE, row=-1)
        screen.resize(70, 12)
        screen.wait_for(LINE, row=11)
        enough(waiting, 7)
        screen.wait_for("^half a line and goes on$")
        screen.wait_for(r"^done|done: 1 completed")


@needs_tmux
def test_the_line_follows_the_size(screen: Screen, waiting: Path) -> None:
    """Smaller, larger, smaller again: one line, on the last row, no longer than it."""
    for columns, rows in ((60, 15), (120, 40), (30, 5), (80, 24)):
        screen.resize(columns, rows)
        screen.until(lambda: screen.region() == (0, rows - 2))  # noqa: B023 - called at once
        lines = screen.wait_for(LINE, row=rows - 1)
        assert sum(bool(re.search(LINE, line)) for line in lines) == 1, (columns, lines)
    enough(waiting, 0, 1, 2)
    screen.wait_for("done: 3 completed")
    as_it_was(screen)


@needs_tmux
def test_a_worker_that_is_stopped_leaves_the_terminal(screen: Screen, waiting: Path) -> None:
    """Ctrl-Z takes the line down, also in the background; in the foreground it comes again."""
    screen.press("C-z")
    screen.wait_for("Stopped")
    screen.wait_for(LINE, gone=True)
    as_it_was(screen)
    screen.run("bg")
    screen.run("echo in the back")
    screen.wait_for("^in the back")
    assert screen.region() == (0, 23)
    screen.run("fg")
    screen.wait_for(LINE, row=-1)
    enough(waiting, 0, 1, 2)
    screen.wait_for("done: 3 completed")
    as_it_was(screen)


@needs_tmux
def test_ctrl_c_leaves_the_terminal_as_it_was(screen: Screen, waiting: Path) -> None:
    """The first answers above the line, the second breaks the job off."""
    screen.press("C-c")
    screen.wait_for("^dbq: finishing w0; once more to break it off")
    screen.wait_for(LINE, row=-1)
    screen.press("C-c")
    screen.wait_for("put back wait w0")
    screen.wait_for(LINE, gone=True)
    as_it_was(screen)


@needs_tmux
@pytest.mark.parametrize("options", ["", " --concurrency 2"], ids=["alone", "crew"])
def test_a_killed_worker_leaves_the_terminal_as_it_was(waiting: Path, options: str) -> None:
    """kill -9: what draws the line puts the terminal back."""
    with Screen(waiting) as screen:
        screen.run(f"sh -c 'echo $$ > pid; exec {DBQ} work jobs:HANDLERS{options}'")
        screen.wait_for(LINE, row=-1)
        os.kill(int((waiting / "pid").read_text()), signal.SIGKILL)
        enough(waiting, 0, 1, 2)
        screen.wait_for("Killed")
        screen.wait_for(LINE, gone=True)
        if not options:
            as_it_was(screen)
        assert screen.region() == (0, 23)


@needs_tmux
def test_a_killed_group_leaves_the_terminal_as_it_was(waiting: Path) -> None:
    """kill -9 of the worker and of what draws its line, at once: all rows can be used again."""
    with Screen(waiting) as screen:
        screen.run(f"sh -c 'echo $$ > pid; exec {DBQ} work jobs:HANDLERS'")
        screen.wait_for(LINE, row=-1)
        assert screen.region() == (0, 22)
        os.killpg(int((waiting / "pid").read_text()), signal.SIGKILL)
        screen.wait_for("Killed")
        screen.until(lambda: screen.region() == (0, 23))
        screen.wait_for(LINE, gone=True)
        as_it_was(screen)


@needs_tmux
def test_a_line_that_is_killed_leaves_the_terminal_as_it_was(waiting: Path) -> None:
    """Where what draws it is killed, the worker goes on, and puts the terminal back at its end."""
    with Screen(waiting) as screen:
        screen.run(f"sh -c 'echo $$ > pid; exec {DBQ} work jobs:HANDLERS'")
        screen.wait_for(LINE, row=-1)
        worker = (waiting / "pid").read_text().strip()
        group = [
            int(path.name)
            for path in Path("/proc").iterdir()
            if path.name.isdigit() and group_of(path) == int(worker)
        ]
        keepers = [process for process in group if process != int(worker)]
        assert len(keepers) == 1
        os.kill(keepers[0], signal.SIGKILL)
        enough(waiting, 0, 1, 2)
        screen.wait_for("done: 3 completed")
        as_it_was(screen)


def group_of(process: Path) -> int | None:
    """The group of a process in /proc; None if it has ended meanwhile."""
    try:
        return int((process / "stat").read_text().rpartition(") ")[2].split()[2])
    except OSError:
        return None


@needs_tmux
@pytest.mark.parametrize(
    "how", ["2>&1 | cat", "--quiet", "--log-format json", "2>log; cat log"], ids=str
)
def test_there_is_no_line_where_no_person_reads_it(waiting: Path, how: str) -> None:
    """In a pipe, in a file, as JSON and with --quiet there is neither a line nor a colour."""
    enough(waiting, 0, 1, 2)
    with Screen(waiting) as screen:
        screen.run(f"clear; {DBQ} work jobs:HANDLERS {how}; echo ended here")
        screen.wait_for("^ended here")
        assert screen.region() == (0, 23)
        assert not any("\x1b[3" in line for line in screen.lines(colours=True))


def test_a_worker_without_a_terminal_of_its_own_has_no_line(waiting: Path) -> None:
    """A terminal that is not the one that controls it belongs to another program."""
    enough(waiting, 0, 1, 2)
    terminal = Terminal("work", "jobs:HANDLERS", cwd=waiting, env={"NO_COLOR": "1"})
    shown = terminal.read()
    assert terminal.process.wait() == 0
    assert "done: 3 completed" in shown
    assert "\x1b" not in shown


def test_the_log_has_colours_on_a_terminal(app: Path) -> None:
    """What went well is green, what is to be retried yellow; what is in the types is escaped."""
    queue = queue_of(app)
    queue.enqueue("ok", {}, job_id="good")
    queue.enqueue("bad", {}, job_id="worse")
    terminal = Terminal("work", "jobs:HANDLERS", cwd=app)
    shown = terminal.read()
    assert re.search("\x1b\\[32m[^\n]* completed ok good [^\n]*\x1b\\[0m\n", shown)
    assert re.search("\x1b\\[33m[^\n]* retried bad worse: [^\n]*\x1b\\[0m\n", shown)
    record = logging.LogRecord("x", logging.ERROR, "", 0, "a\x1b[2Jb", (), None)
    assert "a\\x1b[2Jb\x1b[0m" in ColourFormatter().format(record)


def test_a_worker_of_cron_imports_nothing_of_it(app: Path) -> None:
    """Neither the line nor the colours are imported where standard error is not a terminal."""
    code = "import sys; from dbbasic_queue.cli.main import main\n"
    code += "main(['work', 'jobs:HANDLERS']); print(*sys.modules)"
    queue_of(app).enqueue("ok", {})
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=app, capture_output=True, text=True, check=True)
    names = set(loaded.stdout.split())
    assert "dbbasic_queue.cli.work" in names
    assert not names & {
        "dbbasic_queue.cli.foot",
        "dbbasic_queue.cli.terminal",
        "dbbasic_queue.support.columns",
        "unicodedata",
        "curses",
    }


def test_numbers_are_those_of_all_processes(app: Path) -> None:
    """Each process tells its own sum; a word that is cut in two, or is lost, does no harm."""
    queue = queue_of(app)
    for n in range(10):
        queue.enqueue("ok", {}, job_id=f"j{n}")
    now = 100.0
    numbers = Numbers(queue.engine, None, lambda: now)
    assert numbers.line() == "0 done"
    numbers.look()
    assert numbers.line() == "0 done, 10 to do"
    numbers.hear(b"7\t0\t0\tok\n8\t0\t0\tok\n7\t1\t")
    now = 102.0
    assert numbers.line() == "0 done, 10 to do; running 2 ok 2s"
    numbers.hear(b"0\t\n8\t3\t1\t\n9\t0\t0\tmail\n")
    assert numbers.line() == "4 done (1 failed), 6 to do, 2 a second, 3s left; running mail 0s"
    for n in range(4):
        queue.cancel_job(f"j{n}")
    now = 104.0
    numbers.look()
    assert numbers.line() == "4 done (1 failed), 6 to do, 1 a second, 6s left; running mail 2s"


def test_numbers_count_the_types_that_are_worked(app: Path) -> None:
    """What other workers are to do is not to do, and neither is what is not due."""
    queue = queue_of(app)
    queue.enqueue("ok", {})
    queue.enqueue("mail", {})
    queue.enqueue("ok", {}, queue.now() + 1000)
    numbers = Numbers(queue.engine, ["ok"], lambda: 5.0)
    numbers.look()
    assert numbers.line() == "0 done, 1 to do"


def test_a_queue_that_cannot_be_read_costs_only_the_number(app: Path) -> None:
    """The line is shown without what is to do; it is the worker that tells the error."""
    numbers = Numbers(queue_of(app).engine, ["ok"], lambda: 5.0)
    (app / "data").write_text("not a folder")
    numbers.look()
    numbers.hear(b"7\t2\t0\t\n")
    assert numbers.line() == "2 done"


def test_jobs_do_not_depend_on_the_line(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what draws it cannot be started, there is none, and nothing is left open."""

    def refuse(process: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(foot, "_in_foreground", lambda terminal: True)
    monkeypatch.setattr(os, "pidfd_open", refuse)
    before = os.listdir("/proc/self/fd")
    with foot.line_at_the_foot(queue_of(app).engine, None, coloured=False):
        assert os.listdir("/proc/self/fd") == before


@needs_tmux
def test_a_handler_may_wait_for_all_its_children(app: Path) -> None:
    """What draws the line is not a child of the worker, for which a handler would wait for ever."""
    (app / "jobs.py").write_text(
        "import os\n"
        "def ok(payload):\n"
        "    try:\n"
        "        os.waitpid(-1, 0)\n"
        "    except ChildProcessError:\n"
        "        return 'none'\n"
        "HANDLERS = {'ok': ok}\n"
    )
    queue_of(app).enqueue("ok", {}, job_id="a1")
    with Screen(app) as screen:
        screen.run(f"{DBQ} work jobs:HANDLERS")
        screen.wait_for("done: 1 completed")
    assert queue_of(app).get_job("a1")["result"] == "none"
