"""The command `dbq errors`."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

from cli_app import dbq, on_a_terminal, queue_of

from dbbasic_queue import Queue


def failing(app: Path, number: int = 3) -> Queue:
    """Jobs that have failed in two ways, and one that is tried again."""
    queue = queue_of(app)
    queue.enqueue("again", {}, job_id="again-1")
    queue.process_jobs({"again": lambda payload: [][3]})
    for n in range(number):
        queue.enqueue("mail", {"n": n}, job_id=f"m{n}")
    queue.enqueue("again", {"n": 5}, job_id="again-2")

    def mail(payload: dict[str, int]) -> None:
        raise ValueError(f"no user {payload['n']} in 'it's'")

    queue.process_jobs({"mail": mail, "again": lambda payload: [][3]}, max_attempts=1)
    return queue


def test_the_commands_that_are_shown_retry_what_is_shown(app: Path) -> None:
    """Each as it stands there, in a shell; then nothing has failed any more."""
    queue = failing(app)
    out = dbq("errors", cwd=app).stdout
    assert out.splitlines()[0] == "     3  mail  ValueError: no user … in 'it's'"
    assert "     2  again  IndexError: list index out of range\n" in out
    assert "        1 waits for the next attempt, from " in out
    commands = [line.strip() for line in out.splitlines() if "dbq retry" in line]
    done = [dbq(*shlex.split(command)[1:], cwd=app).stdout for command in commands]
    assert sorted("".join(done).split()[1::2]) == ["again-1", "again-2", "m0", "m1", "m2"]
    assert queue.count_jobs()["failed"] == 0


def test_what_chooses_jobs_is_part_of_the_command(app: Path) -> None:
    """So that it retries no more than was shown."""
    failing(app)
    for options in (["--where", "n=1"], ["m1"], ["--where", "n=1", "--file", "data/queue.tsv"]):
        (line,) = dbq("errors", *options, "--since", "1h", "--json", cwd=app).stdout.splitlines()
        found = json.loads(line)
        assert (found["number"], found["example"], found["type"]) == (1, "m1", "mail")
        done = dbq(*shlex.split(found["retry"])[1:], "--dry-run", "--json", cwd=app)
        assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["m1"], options


def test_errors_read_well_on_a_terminal(app: Path) -> None:
    """In 80 columns, but for the command; without errors, that is said."""
    failing(app)
    code, shown = on_a_terminal("errors", "--limit", "1", "--file", "data/queue.tsv", cwd=app)
    assert code == 0
    lines = shown.splitlines()
    assert all(len(line) <= 80 for line in lines if "dbq retry" not in line)
    assert lines[-1] == "dbq: and 1 other error"
    done = dbq("errors", "--type", "none", cwd=app)
    assert (done.returncode, done.stdout) == (0, "")
    assert "no job has failed" in done.stderr


def test_a_reader_that_goes_away_is_no_mistake(app: Path) -> None:
    """`dbq errors | head -1`: exit code 0, and nothing on standard error."""
    queue = queue_of(app)
    queue.enqueue_many([(f"t{n}-{'x' * 40}", {}) for n in range(2000)])
    queue.process_jobs({}, max_attempts=1)
    command = (
        f"{shlex.quote(sys.executable)} -m dbbasic_queue errors | head -1; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], cwd=app, capture_output=True, text=True)
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0", "")
