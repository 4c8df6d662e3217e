"""The options by which `dbq` chooses jobs, and what it does to many of them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from cli_app import Terminal, dbq, on_a_terminal, queue_of

from dbbasic_queue import Queue


def failing(app: Path, number: int) -> Queue:
    """A queue with jobs that have failed, each with another payload."""
    queue = queue_of(app)
    queue.enqueue_many(
        [{"job_type": "bad", "payload": {"n": n}, "job_id": f"b{n}"} for n in range(number)]
    )
    queue.process_jobs({"bad": lambda payload: 1 // 0}, max_attempts=1)
    return queue


def ids(out: str) -> list[str]:
    return [line.split()[0] for line in out.splitlines()[1:]]


def test_list_takes_every_filter(app: Path) -> None:
    """By id, type, error, time and payload, and as JSON."""
    failing(app, 3).enqueue("mail.send", {"to": "zoe@example.com", "n": 1}, job_id="mail-1")
    for options, found in (
        ("b0 mail", ["b0", "mail-1"]),
        ("--type mail.*", ["mail-1"]),
        ("--type mail.* --type bad --limit 2", ["b0", "b1"]),
        ("--error ZeroDivisionError:*", ["b0", "b1", "b2"]),
        ("--where n=1", ["b1", "mail-1"]),
        ("--where to=zoe@example.com --where n=1", ["mail-1"]),
        ("--status failed --since 1h", ["b0", "b1", "b2"]),
        ("--until 2020-01-01", []),
    ):
        assert ids(dbq("list", *options.split(), cwd=app).stdout) == found, options
    (line,) = dbq("list", "--where", "n=2", "--json", cwd=app).stdout.splitlines()
    assert json.loads(line)["id"] == "b2"
    done = dbq("list", "--type", "nome", cwd=app)
    assert (done.returncode, done.stdout) == (0, "")
    assert "no jobs of the type nome, of 4 jobs in " in done.stderr
    done = dbq("list", "b0", "gone", cwd=app)
    assert (done.returncode, ids(done.stdout)) == (1, ["b0"])
    assert "there is no job gone in " in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--where", "n"], "--where n: write it as KEY=VALUE"),
        (["--since", "soon"], "--since soon: neither a time such as"),
        (["--limit", "-1"], "'-1' is not a whole number"),
    ],
)
def test_what_cannot_be_a_filter_is_said(app: Path, options: list[str], said: str) -> None:
    """Exit code 2, and what to write instead."""
    failing(app, 1)
    done = dbq("list", *options, cwd=app)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_dry_run_lists_what_would_be_done(app: Path) -> None:
    """The same lines as `dbq list`; then the same jobs are put back, and how many is said."""
    queue = failing(app, 3)
    options = ("--type", "b*", "--where", "n=1")
    listed = dbq("list", *options, cwd=app).stdout
    done = dbq("retry", *options, "--dry-run", cwd=app)
    assert (done.returncode, done.stdout) == (0, listed)
    assert done.stderr == "dbq: 1 job to be put back\n"
    assert queue.count_jobs()["failed"] == 3
    done = dbq("retry", *options, cwd=app)
    assert (done.stdout, done.stderr) == ("pending b1\n", "dbq: 1 job put back\n")
    done = dbq("cancel", "--type", "bad", "--json", cwd=app)
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["cancelled"]
    assert done.stderr == "dbq: 1 job cancelled\n"


def test_a_verb_without_a_choice_does_nothing(app: Path) -> None:
    """Nor with states that it does not take: exit code 2."""
    queue = failing(app, 1)
    for command in ("retry", "cancel", "defer --in 2h"):
        done = dbq(*command.split(), cwd=app)
        assert done.returncode == 2
        assert "name jobs by their ids, or choose them, such as by --type" in done.stderr
    done = dbq("cancel", "--status", "failed", cwd=app)
    assert (done.returncode, "a job must be pending, not failed" in done.stderr) == (2, True)
    assert queue.count_jobs()["failed"] == 1


def test_what_is_named_must_be_chosen_by_the_other_options_too(app: Path) -> None:
    """And what it cannot be done to is said: exit code 1."""
    failing(app, 2)
    done = dbq("retry", "b0", "b1", "--where", "n=1", cwd=app)
    assert (done.returncode, done.stdout) == (1, "pending b1\n")
    assert "job b0 is not one that the other options choose" in done.stderr
    done = dbq("retry", "b1", cwd=app)
    assert done.returncode == 1
    assert "job b1 is pending, not failed, cancelled or waiting for its next" in done.stderr


def test_a_retry_of_what_failed_tells_what_waits(app: Path) -> None:
    """Jobs with this error that are tried again anyway: how many, when, and how to have it now."""
    queue = failing(app, 1)
    queue.enqueue_many([("bad", {}), ("bad", {}), ("good", {})])
    handlers = {"bad": lambda payload: 1 // 0, "good": lambda payload: {}["key"]}
    queue.process_jobs(handlers, max_attempts=2)
    queue.enqueue("bad", {})
    due = min(job["run_at"] for job in queue.list_jobs("pending", "bad") if job["attempts"])
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(due))
    told = f"dbq: 2 wait for the next attempt, from {when} on; to retry these: --status pending"
    for options, said in (
        (["--dry-run"], "1 job to be put back"),
        ([], "1 job put back"),
        ([], "no failed jobs that the options choose, of 5 jobs in "),
    ):
        done = dbq("retry", "--error", "Zero*", *options, cwd=app)
        assert done.returncode == 0
        first, second = done.stderr.splitlines()
        assert first.startswith(f"dbq: {said}")
        assert second == told
    assert "wait" not in dbq("retry", "--failed", cwd=app).stderr


def test_a_retry_that_another_job_of_the_key_forbids_is_explained(app: Path) -> None:
    """Which one it is; also where jobs are chosen, instead of that there are none."""
    queue = queue_of(app)
    first = queue.enqueue("bad", {}, unique="sync")
    queue.process_jobs({"bad": lambda payload: 1 // 0}, max_attempts=1)
    second = queue.enqueue("bad", {}, unique="sync")
    why = f"job {first} is left failed: another one of its key, {second}, does the same work"
    for options, code in (([first], 1), (["--type", "bad"], 0), (["--failed"], 0)):
        done = dbq("retry", *options, cwd=app)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr == f"dbq: {why}\n"
    assert dbq("cancel", second, cwd=app).returncode == 0
    assert dbq("retry", first, cwd=app).stdout == f"pending {first}\n"


def test_what_waits_for_its_next_attempt_is_retried_now(app: Path) -> None:
    """With its attempts kept."""
    queue = queue_of(app)
    queue.enqueue("bad", {}, job_id="b0")
    queue.process_jobs({"bad": lambda payload: 1 // 0})
    assert dbq("retry", "b0", cwd=app).stdout == "pending b0\n"
    job = queue.get_job("b0")
    assert job is not None
    assert (job["attempts"], job["run_at"] <= time.time()) == (1, True)


def test_jobs_are_deferred(app: Path) -> None:
    """By how long or until when; what is not pending is refused."""
    queue = failing(app, 1)
    queue.enqueue("ok", {}, job_id="a1")
    assert dbq("defer", "a1", "--run-at", "1900000000", cwd=app).stdout == "deferred a1\n"
    job = queue.get_job("a1")
    assert job is not None
    assert job["run_at"] == 1900000000
    before = int(time.time())
    assert dbq("defer", "--type", "o*", "--in", "2h", cwd=app).stdout == "deferred a1\n"
    job = queue.get_job("a1")
    assert job is not None
    assert before + 7200 <= job["run_at"] <= time.time() + 7200
    done = dbq("defer", "b0", "--in", "2h", cwd=app)
    assert (done.returncode, "job b0 is failed, not pending" in done.stderr) == (1, True)
    done = dbq("defer", "a1", cwd=app)
    assert (done.returncode, "by --in or --run-at" in done.stderr) == (2, True)


def test_prune_removes_what_is_chosen(app: Path) -> None:
    """By payload, type and id; a dry run lists them."""
    queue = failing(app, 4)
    done = dbq("prune", "--older-than", "0", "--status", "failed", "--where", "n=1", cwd=app)
    assert done.stdout == "removed 1 job\n"
    done = dbq("prune", "b0", "--dry-run", cwd=app)
    assert (ids(done.stdout), done.stdout.splitlines()[-1]) == (
        ["b0", "would"],
        "would remove 1 job",
    )
    assert dbq("prune", "b0", "--status", "completed", cwd=app).stdout == "removed 0 jobs\n"
    assert dbq("prune", "b0", cwd=app).stdout == "removed 1 job\n"
    (line,) = dbq("prune", "--until", "2100-01-01", "--limit", "1", "--json", cwd=app).stdout.split(
        "\n"
    )[:-1]
    assert json.loads(line)["id"] == "b2"
    assert [job["id"] for job in queue.list_jobs()] == ["b3"]


def test_a_person_is_asked_about_very_many(app: Path) -> None:
    """Above a hundred, on a terminal only, and not with --yes."""
    queue = failing(app, 102)
    terminal = Terminal("retry", "--failed", cwd=app)
    terminal.wait_for("dbq: retry 102 jobs? [y/N] ")
    terminal.type("n\n")
    assert "nothing was put back" in terminal.read()
    assert terminal.process.wait() == 1
    assert queue.count_jobs()["failed"] == 102
    assert dbq("retry", "--failed", "--limit", "2", cwd=app).stdout.count("pending") == 2
    every = ("--status", "failed", "--older-than", "0")
    assert "would remove 100 jobs" in dbq("prune", *every, "--dry-run", cwd=app).stdout
    queue.enqueue_many([("ok", {})] * 101)
    code, shown = on_a_terminal("cancel", "--type", "ok", "--yes", cwd=app)
    assert (code, shown.count("cancelled ")) == (0, 101)
    assert dbq("retry", "--failed", cwd=app).stderr == "dbq: 100 jobs put back\n"
