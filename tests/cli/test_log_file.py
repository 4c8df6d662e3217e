"""The worker's log: kept, whatever the application does to its logging, and the disk."""

from __future__ import annotations

import logging
import os
import tempfile
import textwrap
from pathlib import Path

import pytest
from cli_app import dbq, on_a_terminal, queue_of, start, wait_for

from dbbasic_queue.cli.log_file import LogFile
from dbbasic_queue.support.opening import Folder

DICT_CONFIG = """
import logging, logging.config
SETTINGS = {
    "version": 1,
    "handlers": {"null": {"class": "logging.NullHandler"}},
    "root": {"handlers": ["null"], "level": "CRITICAL"},
}
def bad(payload):
    raise ValueError("boom")
HANDLERS = {"bad": bad}
"""


@pytest.mark.parametrize(
    "habit",
    [
        "logging.config.dictConfig(SETTINGS)",
        "logging.config.dictConfig(SETTINGS | {'loggers': {'dbbasic_queue': {'level': 'CRITICAL',"
        " 'handlers': []}}})",
        "logging.disable(logging.CRITICAL)",
        "logging.getLogger('dbbasic_queue').setLevel('CRITICAL')",
        "logging.getLogger('dbbasic_queue').disabled = True",
        "logging.getLogger('dbbasic_queue').handlers[0].close()",
        "[logging.root.manager.loggerDict[n].removeHandler(h) for n in ('dbbasic_queue',)"
        " for h in list(logging.root.manager.loggerDict[n].handlers)]",
        "logging.shutdown()",
        "logging.setLogRecordFactory(lambda *args, **options: 1 / 0)",
    ],
)
@pytest.mark.parametrize("when", ["import", "handler"])
def test_the_application_does_not_silence_the_worker(app: Path, habit: str, when: str) -> None:
    """Whatever it does to logging, when it is imported or later: each failure is in the log."""
    body = DICT_CONFIG
    if when == "import":
        body += habit + "\n"
    else:
        body = body.replace("    raise", f"    {habit}\n    raise")
    (app / "app.py").write_text(body)
    for job_id in ("a1", "a2"):
        queue_of(app).enqueue("bad", {}, job_id=job_id)
    args = ("work", "app:HANDLERS", "--max-attempts", "1")
    done = dbq(*args, "--log-file", "work.log", cwd=app)
    assert (done.returncode, done.stderr) == (0, "")
    log = (app / "work.log").read_text()
    assert log.count("started bad") == log.count("ValueError: boom\n    Traceback") == 2
    queue_of(app).retry_failed()
    assert dbq(*args, cwd=app).stderr.count("ValueError: boom\n    Traceback") == 2


@pytest.mark.parametrize(
    ("make", "why"),
    [
        ("mkdir work.log", "it is a directory, not a regular file"),
        ("ln -s elsewhere work.log", "it is a symbolic link"),
        ("touch other && ln other work.log", "it has 2 names (hard links)"),
        ("mkfifo work.log", "it is a pipe, not a regular file"),
    ],
)
def test_a_log_that_cannot_be_opened_keeps_no_job_from_running(
    app: Path, make: str, why: str
) -> None:
    """The worker says why and logs on standard error; nothing is written elsewhere."""
    assert os.system(f"cd {app} && {make}") == 0
    queue_of(app).enqueue("ok", {}, job_id="a1")
    done = dbq("work", "jobs:HANDLERS", "--log-file", "work.log", cwd=app)
    assert done.returncode == 0
    assert queue_of(app).get_job("a1")["status"] == "completed"
    first, *events = done.stderr.splitlines()
    assert first.startswith(f"dbq: cannot write the log {app}/work.log: {why}")
    assert first.endswith("; it goes here instead")
    assert [line.split("] ")[1].split()[0] for line in events] == ["started", "completed", "done:"]
    assert not (app / "elsewhere").exists()
    assert not (app / "other").exists() or (app / "other").stat().st_size == 0


def test_a_folder_that_is_missing_or_a_device(app: Path) -> None:
    """A missing folder is made, as the queue's is; /dev/stderr is taken as it is."""
    queue_of(app).enqueue("ok", {})
    done = dbq("work", "jobs:HANDLERS", "--log-file", "new/logs/work.log", cwd=app)
    assert (done.returncode, done.stderr) == (0, "")
    assert "completed ok" in (app / "new/logs/work.log").read_text()
    queue_of(app).enqueue("ok", {})
    done = dbq("work", "jobs:HANDLERS", "--log-file", "jobs.py/work.log", cwd=app)
    assert (done.returncode, "jobs.py/work.log: Not a directory" in done.stderr) == (0, True)
    queue_of(app).enqueue("ok", {})
    done = dbq("work", "jobs:HANDLERS", "--log-file", "/dev/stderr", cwd=app)
    words = [line.split("] ")[1].split()[0] for line in done.stderr.splitlines()]
    assert words == ["started", "completed", "done:"]


def test_a_link_where_every_user_makes_files_is_not_followed(app: Path) -> None:
    """/dev has folders for all: a log there is opened like any other, not as a device is."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        Path(folder, "work.log").symlink_to(app / "jobs.py")
        before = (app / "jobs.py").read_text()
        queue_of(app).enqueue("ok", {})
        done = dbq("work", "jobs:HANDLERS", "--log-file", f"{folder}/work.log", cwd=app)
        assert "it is a symbolic link" in done.stderr
        assert "completed ok" in done.stderr
        assert (app / "jobs.py").read_text() == before
        queue_of(app).enqueue("ok", {})
        dbq("work", "jobs:HANDLERS", "--log-file", f"{folder}/new.log", cwd=app)
        assert Path(folder, "new.log").exists()


def test_a_log_that_was_moved_is_opened_anew(app: Path) -> None:
    """As logrotate does it: the next event is in a new file of the old name."""
    (app / "moving.py").write_text(
        textwrap.dedent("""
        import os
        def move(payload):
            os.rename("work.log", "work.log.1")
            return "moved"
        HANDLERS = {"move": move}
        """)
    )
    queue_of(app).enqueue("move", {})
    done = dbq("work", "moving:HANDLERS", "--log-file", "work.log", cwd=app)
    assert done.stderr == ""
    assert "started move" in (app / "work.log.1").read_text()
    assert "completed move" in (app / "work.log").read_text()


def test_a_log_made_between_look_and_making_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Logrotate, or another worker, makes it just then: the line goes there, not elsewhere."""
    path = tmp_path / "work.log"
    made = Folder.make

    def make(folder: Folder, name: str, flags: int) -> int:
        if not path.exists():
            path.write_text("of the other\n")
        return made(folder, name, flags)

    monkeypatch.setattr(Folder, "make", make)
    log = LogFile(path, logging.Formatter("%(message)s"))
    log.emit(logging.LogRecord("dbbasic_queue", logging.INFO, "", 0, "started", None, None))
    log.close()
    assert path.read_text() == "of the other\nstarted\n"
    assert capfd.readouterr().err == ""


def test_a_terminal_of_another_encoding_gets_no_bytes_of_utf_8(app: Path) -> None:
    """Some of them would be control characters there: what it cannot show is escaped."""
    (app / "jobs.py").write_text(
        "def bad(payload): raise ValueError('\\u011b \\u03c0')\nHANDLERS = {'bad': bad}\n"
    )
    queue_of(app).enqueue("bad", {})
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    _, shown = on_a_terminal("work", "jobs:HANDLERS", cwd=app, columns=200, env=ascii_only)
    assert "ValueError: \\u011b \\u03c0" in shown
    assert shown.isascii()


def test_a_terminal_sees_the_log_too(app: Path) -> None:
    """With a log file, a person at a terminal sees what is done, and what is waited for."""
    queue_of(app).enqueue("ok", {}, job_id="a1")
    args = ("work", "jobs:HANDLERS", "--log-file", "work.log")
    _, shown = on_a_terminal(*args, "--linger", "1h", "--limit", "1", cwd=app, columns=200)
    assert "dbq: run what is due, then wait 1h for more; Ctrl-C ends it\n" in shown
    assert "completed ok a1" in shown
    assert "completed ok a1" in (app / "work.log").read_text()
    assert "dbq: there was nothing to do\n" in on_a_terminal(*args, cwd=app)[1]
    assert dbq(*args, cwd=app).stderr == ""
    worker = start(*args, "--linger", "1h", cwd=app)
    wait_for(lambda: queue_of(app).engine.claims.last_run() is not None)
    worker.terminate()
    assert worker.communicate()[1] == ""
