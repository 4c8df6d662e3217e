"""The command that moves a queue."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from cli_app import dbq, on_a_terminal, queue_of, start, wait_for

from dbbasic_queue import Queue

OLD = "data/queue.tsv"
NEW = "new/queue.tsv"


def test_all_jobs_are_moved_and_counted(app: Path) -> None:
    """What would be moved, what was, and nothing the second time; no bar in a pipe."""
    queue = queue_of(app)
    queue.enqueue_many([("ok", {"n": n}) for n in range(3)])
    queue.cancel_job(queue.enqueue("ok", {"n": 3}))
    there = queue.path.read_bytes()
    done = dbq("migrate", OLD, NEW, "--dry-run", cwd=app)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"would move from {queue.path} to {app / NEW}: 3 pending, 1 cancelled\n"
    assert queue.path.read_bytes() == there
    assert not (app / "new").exists()
    done = dbq("migrate", OLD, NEW, cwd=app)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"4 jobs moved to {app / NEW}\n",
        "",
    )
    assert Queue(app / NEW).count_jobs()["pending"] == 3
    done = dbq("migrate", OLD, NEW, "--dry-run", cwd=app)
    assert done.returncode == 0
    assert done.stdout.endswith(": nothing; moved before: 4\n")


def test_finish_is_refused_while_jobs_come(app: Path) -> None:
    """Exit code 1 and the reason; then the queue is closed, and says where the jobs belong."""
    queue = queue_of(app)
    queue.enqueue("ok", {"n": 1})
    done = dbq("migrate", OLD, NEW, "--finish", cwd=app)
    assert (done.returncode, done.stdout) == (1, "")
    assert "so a producer still adds there" in done.stderr
    done = dbq("migrate", OLD, NEW, "--finish", "--idle", "0s", cwd=app)
    assert done.returncode == 0
    assert done.stdout.endswith(f"{queue.path} is closed: it takes no new jobs\n")
    done = dbq("enqueue", "ok", "{}", cwd=app)
    assert done.returncode == 2
    assert f"it was moved to {app / NEW}" in done.stderr
    assert dbq("migrate", NEW, OLD, cwd=app).returncode == 0
    assert dbq("enqueue", "ok", "{}", cwd=app).returncode == 0


def test_what_is_being_processed_is_left_and_named(app: Path) -> None:
    """Exit code 1, so that a script knows that it has to ask again."""
    queue = queue_of(app)
    queue.enqueue("ok", {"n": 1})
    seat = queue.engine.seat()
    assert seat is not None
    assert seat.turn() is not None
    done = dbq("migrate", OLD, NEW, cwd=app)
    assert done.returncode == 1
    assert done.stderr == f"dbq: 1 job left at {queue.path}, being processed; run this again\n"
    seat.leave()


def test_pauses_that_move_are_named(app: Path) -> None:
    """Before and when they do, and not again when they have."""
    queue = queue_of(app)
    queue.enqueue("ok", {"n": 1})
    queue.pause("mail.*", "report")
    said = dbq("migrate", OLD, NEW, "--dry-run", cwd=app).stdout
    assert said.endswith(": 1 pending; would pause there, too: mail.*, report\n")
    assert Queue(app / NEW).paused() == []
    said = dbq("migrate", OLD, NEW, cwd=app).stdout
    assert said.endswith("\npaused there, too: mail.*, report\n")
    assert [pause.type for pause in Queue(app / NEW).paused()] == ["mail.*", "report"]
    assert "paused" not in dbq("migrate", OLD, NEW, cwd=app).stdout


def test_follow_moves_what_comes_until_it_is_interrupted(app: Path) -> None:
    """Ctrl-C ends it, with the exit code of an interruption."""
    queue = queue_of(app)
    queue.enqueue("ok", {"n": 1})
    new = Queue(app / NEW)
    follow = start("migrate", OLD, NEW, "--follow", cwd=app)
    wait_for(lambda: new.count_jobs()["pending"] == 1)
    queue.enqueue("ok", {"n": 2})
    wait_for(lambda: new.count_jobs()["pending"] == 2)
    follow.send_signal(signal.SIGINT)
    assert follow.wait(30) == 130


def test_an_address_may_stand_in_a_file(app: Path) -> None:
    """So that no password is seen in the list of processes."""
    queue_of(app).enqueue("ok", {"n": 1})
    (app / "address").write_text(f"\ufeff# as in a url_file\n\nfile:{app / NEW}\n", "utf-8")
    assert dbq("migrate", OLD, "@address", cwd=app).returncode == 0
    assert Queue(app / NEW).count_jobs()["pending"] == 1
    done = dbq("migrate", OLD, "@missing", cwd=app)
    assert (done.returncode, done.stderr.count("missing: cannot be read")) == (2, 1)
    (app / "address").write_text("redis://:secret@h/0\nredis://:secret@h/1\n")
    done = dbq("migrate", OLD, "@address", cwd=app)
    assert (done.returncode, done.stderr.count("must hold one line")) == (2, 1)
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("missing.tsv", NEW), "there is no queue"),
        ((OLD, OLD), "the two queues are one"),
        ((OLD, "mysql://h/d"), "there is no engine for mysql"),
        ((OLD, NEW, "--finish", "--idle", "soon"), "'soon' is not a duration"),
    ],
)
def test_what_cannot_be_moved_is_said(app: Path, words: tuple[str, ...], said: str) -> None:
    """Nothing is changed then, and no file is made."""
    queue_of(app).enqueue("ok", {"n": 1})
    done = dbq("migrate", *words, cwd=app)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert not (app / "missing.tsv").exists()


def test_on_a_terminal_a_bar_shows_how_far_it_is(app: Path) -> None:
    """And is gone when the answer is there."""
    queue_of(app).enqueue_many([("ok", {"n": n}) for n in range(7)])
    code, shown = on_a_terminal("migrate", OLD, NEW, cwd=app)
    assert code == 0
    assert "[##############################] 7 of 7 jobs" in shown
    assert "7 jobs moved to" in shown.rpartition("\x1b[K")[2]


def test_a_file_is_synced_whatever_a_server_need_not_do(app: Path) -> None:
    """--durability is about servers: with `none`, a file moves as ever."""
    queue_of(app).enqueue("ok", {"n": 1})
    assert dbq("migrate", OLD, NEW, "--durability", "none", cwd=app).returncode == 0
    assert Queue(app / NEW).count_jobs()["pending"] == 1
