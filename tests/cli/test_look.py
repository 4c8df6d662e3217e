"""The commands that look at jobs: list, show."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_app import dbq, on_a_terminal, queue_of, start, wait_for

from dbbasic_queue.cli.look import COLUMNS
from dbbasic_queue.support.columns import width_of


def test_list_filters_and_limits(app: Path) -> None:
    """--status, --type and --limit narrow the list; --json gives an object a line."""
    queue = queue_of(app)
    for n in range(3):
        queue.enqueue("ok", {"n": n}, job_id=f"o{n}")
    queue.enqueue("bad", {}, job_id="b")
    queue.cancel_job("o1")
    shown = [json.loads(line) for line in dbq("list", "--json", cwd=app).stdout.splitlines()]
    assert [job["id"] for job in shown] == ["o0", "o1", "o2", "b"]
    assert shown[0] == queue.get_job("o0")
    assert "o1" in dbq("list", "--status", "cancelled", cwd=app).stdout
    lines = dbq("list", "--type", "ok", "--status", "pending", cwd=app).stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["o0", "o2"]
    assert len(dbq("list", "--limit", "2", cwd=app).stdout.splitlines()) == 3
    several = ("--status", "cancelled", "--status", "pending", "--type", "ok", "--limit", "2")
    lines = dbq("list", *several, cwd=app).stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["o0", "o1"]


def test_show_tells_all_of_a_job(app: Path) -> None:
    """show prints all of a job, times named by what they are; an unknown id is exit 1."""
    queue = queue_of(app)
    queue.enqueue("ok", {"n": 1}, job_id="a1")
    text = dbq("show", "a1", cwd=app).stdout
    names = ["id", "type", "status", "attempts", "created", "due", "payload", "error", "result"]
    assert [line.split()[0] for line in text.splitlines()] == names
    assert json.loads(dbq("show", "a1", "--json", cwd=app).stdout) == queue.get_job("a1")
    done = dbq("show", "nope", cwd=app)
    assert (done.returncode, done.stdout) == (1, "")
    queue.cancel_job("a1")
    assert dbq("show", "a1", cwd=app).stdout.splitlines()[5].startswith("ended  ")


def test_show_tells_who_runs_a_job(app: Path) -> None:
    """A running job is shown with its process and for how long; one of a dead worker as such."""
    queue = queue_of(app)
    queue.enqueue("slow", {"seconds": 60}, job_id="s")
    worker = start("work", "jobs:HANDLERS", cwd=app)
    wait_for((app / "running").exists)
    status = dbq("show", "s", cwd=app).stdout.splitlines()[2]
    assert re.fullmatch(rf"status    processing for \w+, by process {worker.pid}", status)
    assert dbq("show", "s", cwd=app).stdout.splitlines()[5].startswith("began  ")
    worker.kill()
    worker.communicate()
    status = dbq("show", "s", cwd=app).stdout.splitlines()[2]
    assert "its worker is dead; the next worker run takes it back" in status


def test_show_takes_the_beginning_of_an_id(app: Path) -> None:
    """Of any id, as long as no other begins so; what is ambiguous is said."""
    queue = queue_of(app)
    for job_id in ("order-1", "order-10", "order-2"):
        queue.enqueue("ok", {"id": job_id}, job_id=job_id)
    for text, job_id in (("order-1", "order-1"), ("order-10", "order-10"), ("order-2", "order-2")):
        assert json.loads(dbq("show", text, "--json", cwd=app).stdout)["id"] == job_id
    done = dbq("show", "ord", cwd=app)
    assert (done.returncode, done.stdout) == (1, "")
    assert "3 ids begin with ord: order-1, order-10, order-2; give more of it" in done.stderr
    assert dbq("show", "", cwd=app).returncode == 1


def test_job_data_cannot_command_the_terminal(app: Path) -> None:
    """Control characters in payload, error and type never reach the terminal."""
    queue = queue_of(app)
    queue.enqueue("ok", {"x": "\x1b[2J\x9b31m\x07\u2028"}, job_id="evil")
    table = queue.path
    raw = b"evil2\tok\t{}\tfailed\t5\t5\t3\tE: \x1b]0;title\x07 \xc2\x9b31m\t\n"
    table.write_bytes(table.read_bytes() + raw)
    for command in ("list", "list --json", "show evil", "show evil2", "show evil2 --json", "fsck"):
        out = dbq(*command.split(), cwd=app).stdout
        assert "evil" in out or command == "fsck"
        assert not any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 for c in out), command


def test_colours_only_on_a_terminal(app: Path) -> None:
    """A pipe gets no escape sequence; a terminal does, unless NO_COLOR is set."""
    queue_of(app).enqueue("ok", {}, job_id="a1")
    queue_of(app).cancel_job("a1")
    assert "\x1b" not in dbq("list", cwd=app).stdout
    assert "\x1b[2mcancelled\x1b[0m" in on_a_terminal("list", cwd=app)[1]
    assert "\x1b[" not in on_a_terminal("list", cwd=app, env={"NO_COLOR": "1"})[1]
    assert "\x1b[" not in on_a_terminal("list", cwd=app, env={"TERM": "dumb"})[1]
    assert "\x1b[2mcancelled\x1b[0m" in on_a_terminal("show", "a1", cwd=app)[1]
    assert "\x1b[" not in on_a_terminal("show", "a1", cwd=app, env={"NO_COLOR": "1"})[1]


def test_list_fits_the_terminal_and_its_content(app: Path) -> None:
    """Columns are as wide as what is in them; a terminal cuts the last one, a pipe nothing."""
    queue = queue_of(app)
    queue.enqueue("a-type-with-a-long-name", {"text": "x" * 300}, job_id="a1")
    queue.enqueue("数据", {"text": "数" * 300}, job_id="an-id-that-is-longer")
    _, shown = on_a_terminal("list", cwd=app, columns=120)
    header, *rows = shown.splitlines()[-3:]
    assert header.startswith("ID                    TYPE                     STATUS   TRY  WHEN ")
    first, second = (re.sub("[0-9]+s ago *", "_  ", row) for row in rows)
    assert first.startswith("a1                    a-type-with-a-long-name  pending    0  _  {")
    assert second.startswith("an-id-that-is-longer  数据                     pending    0  _  {")
    assert {width_of(row.rstrip("\x1b[0m")) for row in rows} <= {119, 120}
    assert all(row.endswith("…") for row in rows)
    piped = dbq("list", cwd=app).stdout
    assert "x" * 300 in piped
    assert "数" * 300 in piped
    assert "…" not in piped


def test_no_line_is_longer_than_the_terminal(app: Path) -> None:
    """Long types and ids are cut where the terminal is narrow, and in the end the line."""
    queue = queue_of(app)
    queue.enqueue("数" * 30, {"text": "x" * 300}, job_id="an-id-" + "y" * 40)
    queue.enqueue("e\u0301" * 20, {}, job_id="b2")
    for columns in (200, 80, 60, 30, 10):
        lines = on_a_terminal("list", cwd=app, columns=columns, env={"TERM": "dumb"})[
            1
        ].splitlines()
        assert max(map(width_of, lines[-3:])) <= columns, columns
    _, shown = on_a_terminal("list", cwd=app, columns=80)
    where = [width_of(line[: line.index("pending")]) for line in shown.splitlines()[-2:]]
    assert where[0] == where[1]


def test_times_are_told_beside_now_on_a_terminal(app: Path) -> None:
    """A terminal is told how long ago or in what time; a pipe has the whole time, as ever."""
    queue = queue_of(app)
    now = int(time.time())
    queue.enqueue("ok", {}, now + 2 * 3600 + 600, job_id="later")
    queue.enqueue("ok", {}, now - 3 * 86_400 - 600, job_id="ago")
    _, shown = on_a_terminal("list", cwd=app)
    assert [re.findall(r"in \w+|\w+ ago", line)[0] for line in shown.splitlines()[-2:]] == [
        "in 2h",
        "3d ago",
    ]
    assert "(in 2h)" in on_a_terminal("show", "later", cwd=app)[1]
    assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", dbq("list", cwd=app).stdout)) == 2
    assert f"({now + 7800})" in dbq("show", "later", cwd=app).stdout


def test_the_last_are_the_newest_and_the_newest_is_at_the_end(app: Path) -> None:
    """--last N shows the jobs that were added last, in the order in which they were added."""
    queue = queue_of(app)
    for n in range(5):
        queue.enqueue("ok" if n % 2 else "bad", {}, job_id=f"j{n}")

    def ids(*options: str) -> list[str]:
        done = dbq("list", *options, cwd=app)
        return [line.split()[0] for line in done.stdout.splitlines()[1:]]

    assert ids("--last", "2") == ["j3", "j4"]
    assert ids("--last", "9") == ["j0", "j1", "j2", "j3", "j4"]
    assert ids("--last", "2", "--type", "bad") == ["j2", "j4"]
    assert ids("--last", "0") == []
    assert dbq("list", "--last", "2", "--limit", "2", cwd=app).returncode == 2


def test_an_empty_list_says_so(app: Path) -> None:
    """Without a job to show, standard error says what there is; JSON stays empty."""
    queue_of(app).enqueue("ok", {}, job_id="a1")
    done = dbq("list", "--status", "failed", "--status", "cancelled", "--type", "mail", cwd=app)
    assert (done.returncode, done.stdout) == (0, "")
    assert "no failed or cancelled jobs of the type mail, of 1 job in " in done.stderr
    done = dbq("list", "--status", "failed", "--json", cwd=app)
    assert (done.stdout, done.stderr) == ("", "")
    queue_of(app).cancel_job("a1")
    dbq("prune", "--older-than", "0s", cwd=app)
    assert "there are no jobs in" in dbq("list", cwd=app).stderr


def test_a_column_is_one_row_of_the_table(app: Path) -> None:
    """The header and each row have exactly the columns of COLUMNS."""
    queue_of(app).enqueue("ok", {}, job_id="a1")
    header, row = dbq("list", cwd=app).stdout.splitlines()
    assert re.split("  +", header) == [column.title for column in COLUMNS]
    assert len(re.split("  +", row)) == len(COLUMNS)


@pytest.mark.parametrize("locale", ["C", "de_DE.ISO-8859-1", "POSIX"])
def test_any_locale_will_do(
    app: Path, tmp_path_factory: pytest.TempPathFactory, locale: str
) -> None:
    """What the locale cannot write is escaped; JSON is UTF-8 in every locale."""
    folder = tmp_path_factory.mktemp("locales")
    if locale.startswith("de"):
        command = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(folder / locale)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no localedef, or no sources of locales")
    # Without PYTHONCOERCECLOCALE and PYTHONUTF8, Python would not use the locale C as it is.
    env = {"LC_ALL": locale, "LOCPATH": str(folder), "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    payload = {"name": "Zoë ✓"}
    queue_of(app).enqueue("ok", payload, job_id="a1")
    encoding = "ascii" if len(locale) < 6 else "latin-1"
    for command in ("list", "show a1", "list --json", "show a1 --json"):
        done = subprocess.run(
            [sys.executable, "-m", "dbbasic_queue", *command.split()],
            cwd=app,
            env={**os.environ, **env},
            capture_output=True,
        )
        assert (done.returncode, done.stderr) == (0, b""), command
        if command.endswith("json"):
            assert json.loads(done.stdout.decode("utf-8"))["payload"] == payload
        else:
            assert "\\u2713" in done.stdout.decode(encoding)


def test_a_closed_pipe_is_no_error(app: Path) -> None:
    """`dbq list | head -1` ends quietly."""
    queue_of(app).enqueue_many([("ok", {"n": n, "pad": "x" * 50}) for n in range(5000)])
    command = f"{sys.executable} -m dbbasic_queue.cli list | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=app, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.endswith("\n0\n")
