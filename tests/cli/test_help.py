"""The help, and what is said about mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_app import dbq

from dbbasic_queue import Queue


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["enqueue", "ok", "{"], "not JSON"),
        (["enqueue", "ok", "[1]"], "must be a dict"),
        (["enqueue", "ok", '{"n": NaN}'], "not a JSON number"),
        (["enqueue", "two words", "{}"], "job type"),
        (["enqueue", "ok", "{}", "--id", "ü"], "job id"),
        (["enqueue", "ok", "{}", "--run-at", "soon"], "soon"),
        (["enqueue", "ok", "{}", "--in", "7 parsecs"], "duration"),
        (["enqueue", "ok", "{}", "--in", "5s", "--run-at", "5"], "not allowed with"),
        (["enqueue"], "TYPE"),
        (["frobnicate"], "there is no command frobnicate; see dbq --help"),
        (["lst"], "there is no command lst; did you mean list?"),
        (["list", "--statsu", "failed"], "there is no option --statsu; did you mean --status?"),
        (["list", "--zzz"], "there is no option --zzz\n"),
        (["stats", "extra"], "one argument too many: extra\n"),
        (["enqueue", "ok", "{name:", "Zoe}"], "too many: Zoe}; put the JSON in single quotes"),
        (["work", "./app/jobs.py:HANDLERS"], "name the module, not its file: app.jobs:HANDLERS"),
        (["list", "--limit", "-1"], "not a whole number of 0 or more"),
        (["enqueue", "ok", '{"a":' + "[" * 9999 + "]" * 9999 + "}"], "nested too deeply"),
        (["list", "--status", "lost"], "invalid choice"),
        (["prune", "--older-than", "old", "--file", "jobs.py"], "not a queue table"),
        (["work", "jobs"], "MODULE:ATTRIBUTE"),
        (["work", "jobs:NOTHING"], "no attribute"),
        (["work", "jobs:NOT_A_DICT"], "not a dict"),
        (["work", "nojobs:H"], "No module named"),
        (["work", "jobs:HANDLERS", "--concurrency", "0"], "1 or more"),
        (["work", "jobs:HANDLERS", "--max-seconds", "-1"], "max_seconds"),
        (["work", "jobs:HANDLERS", "--timeout", "0"], "timeout"),
        (["retry"], "name jobs by their ids, or choose them"),
        (["retry", "x", "--failed"], "--failed"),
    ],
)
def test_mistakes_are_told_in_one_line(app: Path, args: list[str], says: str) -> None:
    """A user's mistake: exit 2, what is wrong on standard error, no traceback, nothing written."""
    if args[0] == "prune":
        args[2] = "7d"
    done = dbq(*args, cwd=app)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "Errno" not in done.stderr
    assert done.stdout == ""
    if args[0] == "enqueue":
        assert not (app / "data").exists()


@pytest.mark.parametrize(
    "command", ["list", "stats", "show x", "cancel x", "retry x", "fsck", "edit"]
)
def test_a_missing_queue_is_said_and_not_made(app: Path, command: str) -> None:
    """Looking at a queue that is not there is exit 2 and makes nothing."""
    done = dbq(*command.split(), cwd=app)
    assert done.returncode == 2
    assert "there is no queue" in done.stderr
    assert not (app / "data").exists()


@pytest.mark.parametrize("words", ["enqueue x", "list", "show x", "prune --older-than 1"])
def test_a_link_that_leads_nowhere_is_told_as_one(app: Path, words: str) -> None:
    """As any link in the place of a queue, and not as a queue that the first job makes."""
    (app / "queue.tsv").symlink_to("elsewhere.tsv")
    done = dbq(*words.split(), "--file", "queue.tsv", cwd=app)
    assert (done.returncode, done.stdout) == (2, "")
    said = "it is a symbolic link; remove it, or name the file that it leads to"
    assert f"{said}, {app}/elsewhere.tsv" in done.stderr


@pytest.mark.parametrize("words", ["enqueue x", "list", "stats", "fsck", "edit", "work m:H"])
def test_a_device_is_refused_and_gets_no_company(app: Path, words: str) -> None:
    """DBQ_FILE=/dev/null: exit 2, the device as it was, and no lock beside it."""
    before = os.stat("/dev/null")
    done = dbq(*words.split(), cwd=app, env={"DBQ_FILE": "/dev/null"})
    assert done.returncode == 2
    assert "/dev/null: it is a device, not a regular file; name another file" in done.stderr
    assert not [name for name in os.listdir("/dev") if name.startswith("null.")]
    assert os.path.samestat(os.stat("/dev/null"), before)


@pytest.mark.parametrize(
    "content", [b"\x00\xff\x7fELF" * 9, b"name\tage\nzoe\t5\n", b"\xef\xbb\xbfid\t"]
)
def test_a_file_that_is_no_queue_is_refused(app: Path, content: bytes) -> None:
    """A binary file, another table: exit 2, the file as it was."""
    other = app / "other.tsv"
    other.write_bytes(content)
    for command in (
        ["list"],
        ["stats"],
        ["enqueue", "ok"],
        ["work", "jobs:HANDLERS"],
        ["fsck"],
        ["edit"],
    ):
        done = dbq(*command, "--file", "other.tsv", cwd=app)
        assert (done.returncode, "not a queue table" in done.stderr) == (2, True), command
        assert other.read_bytes() == content


def test_every_help_has_examples_and_exit_codes(app: Path) -> None:
    """--help of dbq and of each command shows examples and the exit codes."""
    top = dbq("--help", cwd=app).stdout
    commands = ["enqueue", "list", "show", "cancel", "retry", "prune", "stats", "work", "fsck"]
    commands.append("edit")
    for text in [top, *(dbq(command, "--help", cwd=app).stdout for command in commands)]:
        assert "examples:" in text
        assert "exit codes:" in text
    assert all(f"    {command} " in top for command in commands)


def test_version(app: Path) -> None:
    """--version names the version of the package."""
    assert dbq("--version", cwd=app).stdout == "dbq 2.0.0\n"


def test_without_a_command_the_help_is_printed(app: Path) -> None:
    """Bare `dbq` prints what --help prints; the exit code says that nothing was done."""
    done = dbq(cwd=app)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == dbq("--help", cwd=app).stdout


def test_help_may_be_asked_for_by_a_word(app: Path) -> None:
    """`dbq help` and `dbq help COMMAND` are what --help is."""
    assert dbq("help", cwd=app).stdout == dbq("--help", cwd=app).stdout
    assert dbq("help", "list", cwd=app).stdout == dbq("list", "--help", cwd=app).stdout


@pytest.mark.parametrize("redirect", ["1>&- 2>&-", "<&- >&- 2>&-", "2>&-", "<&-"])
def test_closed_standard_streams_are_not_the_queue(app: Path, redirect: str) -> None:
    """With descriptors 0 to 2 closed at the start, nothing printed there gets into the table."""
    (app / "native.py").write_text(
        "import ctypes\n"
        "def native(payload):\n"
        "    for fd in (0, 1, 2): ctypes.CDLL(None).dprintf(fd, b'libfoo: warning\\n')\n"
        "HANDLERS = {'native': native}\n"
    )
    command = f"{sys.executable} -m dbbasic_queue"
    script = f"{command} enqueue native {{}} --id a1 && {command} work native:HANDLERS {redirect}"
    assert subprocess.run(["sh", "-c", script], cwd=app, capture_output=True).returncode == 0
    assert b"libfoo" not in (app / "data" / "queue.tsv").read_bytes()
    assert Queue(app / "data" / "queue.tsv").get_job("a1")["status"] == "completed"
