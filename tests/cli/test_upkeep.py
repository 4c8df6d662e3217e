"""The commands that need the file itself: edit, fsck."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from cli_app import Terminal, dbq, queue_of

from dbbasic_queue.cli import upkeep
from dbbasic_queue.cli.main import main
from dbbasic_queue.engines.tsv.engine import TsvEngine


def test_edit_does_what_the_editor_did(app: Path) -> None:
    """edit counts what was changed, removed and added; without a change it says so."""
    queue = queue_of(app)
    for n in range(3):
        queue.enqueue("ok", {"n": n}, job_id=f"o{n}")
    sed = """sed -i -e 's/"n": 1/"n": 11/' -e '/^o2/d' -e '1a o9\\tok\\t{}\\tpending\\t5\\t5\\t0'"""
    there = sorted(os.listdir(app / "data"))
    done = dbq("edit", cwd=app, env={"VISUAL": sed, "EDITOR": "false"})
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "1 job changed, 1 removed, 1 added\n",
        "",
    )
    assert [job["id"] for job in queue.list_jobs()] == ["o0", "o1", "o9"]
    assert queue.get_job("o1")["payload"] == {"n": 11}
    done = dbq("edit", cwd=app, env={"VISUAL": "", "EDITOR": "true"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing changed\n", "")
    assert sorted(os.listdir(app / "data")) == there


def test_edit_says_why_not_and_where_the_text_is(app: Path) -> None:
    """A refused edit is exit 1: each reason in a line, FILE:LINE first, and the text in FILE."""
    queue = queue_of(app)
    for n in range(2):
        queue.enqueue("ok", {"n": n}, job_id=f"o{n}")
    content = queue.path.read_bytes()
    done = dbq("edit", cwd=app, env={"VISUAL": "sed -i s/pending/\x1b[2Jdone/"})
    assert (done.returncode, done.stdout) == (1, "")
    *reasons, nothing, kept = done.stderr.splitlines()
    file = kept.removeprefix("dbq: the edited text is kept for a week in ")
    assert [reason.partition(" status ")[0] for reason in reasons] == [
        f"dbq: {file}:2:",
        f"dbq: {file}:3:",
    ]
    assert nothing == "dbq: nothing was changed"
    assert "\x1b" not in done.stderr
    assert Path(file).stat().st_mode & 0o777 == 0o600
    assert Path(file).read_bytes().count(b"[2Jdone") == 2
    assert queue.path.read_bytes() == content


def test_edit_of_a_long_queue_says_that_others_wait(
    app: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beforehand, and for how long; of a short queue nothing."""
    queue_of(app).enqueue("ok", {}, job_id="o1")
    monkeypatch.chdir(app)
    monkeypatch.setenv("VISUAL", "true")
    assert main(["edit"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(upkeep, "LONG", 100)
    assert main(["edit"]) == 0
    said = capsys.readouterr().err
    assert (
        said == "dbq: the queue has 0 MiB: while a change is written, others wait for about 1 s\n"
    )


def test_edit_refuses_what_a_worker_took(app: Path) -> None:
    """A job that was run while the editor was open: exit 1, and the worker's word stands."""
    queue = queue_of(app)
    queue.enqueue("ok", {"n": 1}, job_id="o1")
    command = f"{sys.executable} -m dbbasic_queue.cli work jobs:HANDLERS"
    sed = "sed -i s/pending/cancelled/"
    done = dbq("edit", cwd=app, env={"VISUAL": f"""sh -c '{command} && {sed} "$1"' sh"""})
    assert done.returncode == 1
    assert "dbq: job o1 changed meanwhile: it is completed now\n" in done.stderr
    assert queue.get_job("o1")["status"] == "completed"


@pytest.mark.parametrize(
    ("env", "code", "says"),
    [
        ({"VISUAL": "no-such-editor"}, 2, "$VISUAL: there is no program no-such-editor"),
        ({"VISUAL": "sed '"}, 2, "No closing quotation"),
        ({"VISUAL": "", "EDITOR": "", "PATH": ""}, 2, "set $VISUAL or $EDITOR"),
        ({"VISUAL": "false"}, 1, "false ended with exit code 1"),
        ({"VISUAL": "sed -i 1d"}, 1, "it has to be the header"),
    ],
)
def test_edit_without_a_good_editor(app: Path, env: dict[str, str], code: int, says: str) -> None:
    """No editor is wrong usage; one that fails is a refusal. No traceback, nothing is changed."""
    queue = queue_of(app)
    queue.enqueue("ok", {}, job_id="o1")
    content = queue.path.read_bytes()
    done = dbq("edit", cwd=app, env=env)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert queue.path.read_bytes() == content


def test_keys_are_the_editors(app: Path) -> None:
    """Ctrl-C in the editor ends neither `dbq edit` nor the edit; the editor itself gets it."""
    queue = queue_of(app)
    queue.enqueue("ok", {"n": 1}, job_id="o1")
    editor = "sh -c 'kill -INT $PPID; sed -i s/pending/cancelled/ $1' sh"
    done = dbq("edit", cwd=app, env={"VISUAL": editor})
    assert (done.returncode, done.stderr) == (0, "")
    assert queue.get_job("o1")["status"] == "cancelled"
    done = dbq("edit", cwd=app, env={"VISUAL": "sh -c 'kill -INT $$' sh"})
    assert (done.returncode, "was killed by signal 2" in done.stderr) == (1, True)


def test_edit_takes_the_ids_of_jobs(app: Path) -> None:
    """Only these jobs are in the editor; an id that is not there opens none."""
    queue = queue_of(app)
    for job_id in ("order-1", "order-2", "4f59aaaaaaaaaaaa"):
        queue.enqueue("ok", {}, job_id=job_id)
    env = {"VISUAL": "sed -i s/pending/cancelled/"}
    done = dbq("edit", "order-2", "4f59", cwd=app, env=env)
    assert (done.returncode, done.stdout) == (0, "2 jobs changed, 0 removed, 0 added\n")
    assert queue.get_job("order-1")["status"] == "pending"
    done = dbq("edit", "nope", cwd=app, env={"VISUAL": "touch opened"})
    assert (done.returncode, "there is no job nope in" in done.stderr) == (1, True)
    assert not (app / "opened").exists()


def test_a_typo_asks_whether_to_edit_again(app: Path) -> None:
    """On a terminal, as visudo does; no leaves the queue alone and keeps the text."""
    queue = queue_of(app)
    queue.enqueue("ok", {}, job_id="a1")
    (app / "mend").write_text("grep -q pnding $1 && exec sed -i s/pnding/cancelled/ $1\n")
    with (app / "mend").open("a") as script:
        script.write("sed -i s/pending/pnding/ $1\n")
    env = {"VISUAL": f"sh {app}/mend"}
    terminal = Terminal("edit", cwd=app, env=env, columns=200)
    terminal.wait_for("edit it again, at that line? [Y/n] ")
    assert ":2: status 'pnding'" in terminal.shown
    terminal.type("n\n")
    assert "the edited text is kept for a week in " in terminal.read()
    assert terminal.process.wait() == 1
    terminal = Terminal("edit", cwd=app, env=env)
    terminal.wait_for("[Y/n] ")
    terminal.type("\n")
    assert "1 job changed, 0 removed, 0 added\n" in terminal.read()
    assert terminal.process.wait() == 0
    assert queue.get_job("a1")["status"] == "cancelled"


@pytest.mark.parametrize("verb", ["edit", "fsck"])
def test_a_queue_that_is_not_a_file_has_no_such_command(
    app: Path, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What only a file can do is asked of an engine by its name, and refused without it."""
    queue = queue_of(app)
    queue.enqueue("ok", {})
    monkeypatch.setattr(TsvEngine, "can", frozenset())
    monkeypatch.setenv("VISUAL", "true")
    assert main([verb, "--file", str(queue.path)]) == 2
    assert "is not a file: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ending", "good"),
    [
        ("recurring", "1700000000\tshop\tnightly\t0 2 * * *\n"),
        ("notified", "1700000000\t2023-11-14 22:13:20\tCRITICAL\tcommand\n"),
        ("history", ""),
        ("rates", "1700000000.000000\tmail\n"),
        ("paused", ""),
        ("hint", ""),
    ],
)
def test_fsck_of_the_files_beside_a_queue(app: Path, ending: str, good: str) -> None:
    """A line that says nothing is told with its file, and set aside; the others stay."""
    queue = queue_of(app)
    queue.enqueue("ok", {})
    file = queue.path.with_suffix(f".{ending}")
    file.write_text(f"# note\n{good}spoiled\n")
    place = f"{file}:{3 if good else 2}: {ending}: "
    found = dbq("fsck", cwd=app)
    assert (found.returncode, found.stdout[: len(place)]) == (1, place)
    mended = dbq("fsck", "--repair", cwd=app)
    assert (mended.returncode, mended.stdout) == (0, found.stdout)
    assert dbq("fsck", cwd=app).stdout == "nothing found\n"
    assert "spoiled\n" in queue.path.with_suffix(".torn").read_text()
    assert "spoiled" not in (file.read_text() if file.exists() else "")
    assert good in (file.read_text() if file.exists() else "")
