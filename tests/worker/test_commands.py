"""Commands as jobs: real programs, hostile values, and their end with the job's."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_app import wait_for
from working import run_one

from dbbasic_queue import Command, CommandFailed, Discard, JobTimeout, Queue
from dbbasic_queue.job import error_lines

WRITE = "import os, sys; open(sys.argv[1], 'wb').write(b'\\0'.join(map(os.fsencode, sys.argv[2:])))"
# A program with a child of its own, both deaf to SIGTERM if asked; they tell their process ids.
FAMILY = """
import os, signal, sys, time
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    with open(sys.argv[1] + ".new", "w") as file:
        file.write("%d %d" % (os.getpid(), child))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
print("here", flush=True)
while True:
    time.sleep(1)
"""
HOSTILE = {
    "quotes": """'"`\\'""",
    "semicolon": "; touch pwned; #",
    "newlines": "a\nb\r\n\n",
    "dollar": "$(touch pwned) ${HOME} `touch pwned`",
    "dashes": "--checkpoint-action=exec=sh",
    "empty": "",
    "glob": "* ? [a-z] ~ {a,b} {path}",
    "blanks": "  a \t b  ",
    "unicode": "Zoë ☃ \U0001f600 \u202e",
    "control": "".join(map(chr, range(1, 32))),
    "bytes": "caf\udce9",
    "long": "x" * 100_000,
    "percent": "%s %n \\0 \\x41",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_value_arrives_as_one_argument(queue: Queue, tmp_path: Path, name: str) -> None:
    """Byte for byte, and nothing of it is run."""
    out = tmp_path / "out"
    command = Command(
        [sys.executable, "-c", WRITE, str(out), "--to={value}", "--", "{value}", "end"],
        directory=tmp_path,
    )
    job_id = queue.enqueue("write", {"value": HOSTILE[name]})
    queue.process_jobs({"write": command})
    assert queue.get_job(job_id)["result"] == {"exit": 0, "output": ""}
    value = os.fsencode(HOSTILE[name])
    assert out.read_bytes().split(b"\0") == [b"--to=" + value, b"--", value, b"end"]
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"path": "-rf"}, "path: begins with '-'"),
        ({"path": "a\0b"}, "path: holds the character NUL"),
        ({"path": "x" * 140_000}, "path: makes a word of 140000 bytes"),
        ({}, "path: is missing"),
        ({"path": "x", "pth": 1}, "'pth': is not known; there are: path"),
        ({"path": None}, "path: must be a string, a number, true or false, not null"),
        ({"path": ["a"]}, "path: must be a string, a number, true or false, not an array"),
        ({"path": {"a": 1}}, "path: must be a string, a number, true or false, not an object"),
    ],
    ids=["dash", "nul", "long", "missing", "unknown", "null", "array", "object"],
)
def test_a_payload_that_does_not_fit(queue: Queue, payload: Any, said: str) -> None:
    """Fails the job at once, by the name of the key; no program is started."""
    job_id = queue.enqueue("rm", payload)
    queue.process_jobs({"rm": Command(["/no/such/program", "{path}"])})
    job = queue.get_job(job_id)
    assert (job["status"], job["attempts"]) == ("failed", 1)
    assert said in job["error"]


def test_numbers_and_booleans() -> None:
    """Are written as JSON writes them."""
    command = Command(["echo", "{a}", "{b}", "{c}"])
    assert command.arguments_for({"a": 5, "b": 0.5, "c": True})[1:] == [b"5", b"0.5", b"true"]


def test_the_result_has_the_end_of_the_output() -> None:
    """Exit status and the last 2,000 characters of both streams, in their order."""
    script = "i=0; while [ $i -lt 3000 ]; do echo é$i; i=$((i+1)); done; echo last >&2"
    found = Command(["sh", "-c", script])({})
    assert found["exit"] == 0
    assert len(found["output"]) == 2000
    assert found["output"].endswith("é2998\né2999\nlast\n")


def test_output_that_is_not_text() -> None:
    """Does not fail the job."""
    assert Command(["printf", r"\377\376a"])({})["output"] == "��a"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no space left; exit 3", "CommandFailed: sh: exit status 3: no space left"),
        ("exit 1", "CommandFailed: sh: exit status 1"),
        ("kill -9 $$", "CommandFailed: sh: ended by signal 9 (SIGKILL)"),
    ],
)
def test_another_end_is_a_failure(queue: Queue, script: str, said: str) -> None:
    """The job is tried again; its error says how the program ended and what it said."""
    job_id = queue.enqueue("x", {})
    queue.process_jobs({"x": Command(["sh", "-c", script])})
    job = queue.get_job(job_id)
    assert (job["status"], job["attempts"], job["error"]) == ("pending", 1, said)


def test_statuses_that_are_a_success() -> None:
    """rsync's 24, say."""
    assert Command(["sh", "-c", "exit 24"], success=(0, 24))({})["exit"] == 24
    with pytest.raises(CommandFailed, match="exit status 0"):
        Command(["true"], success=(24,))({})


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    """Is named, and so is a folder that is not there."""
    with pytest.raises(CommandFailed, match="cannot start /no/such: No such file"):
        Command(["/no/such"])({})
    with pytest.raises(CommandFailed, match=f"cannot start true in {tmp_path}/gone: No such"):
        Command(["true"], directory=tmp_path / "gone")({})


def test_where_and_with_what_it_runs(queue: Queue, tmp_path: Path) -> None:
    """In its folder, with an empty standard input, and it is told which job it runs for."""
    script = "pwd; cat; echo $DBQ_JOB_ID $DBQ_JOB_TYPE $DBQ_ATTEMPT"
    job_id = queue.enqueue("x", {}, job_id="j1")
    queue.process_jobs({"x": Command(["sh", "-c", script], directory=tmp_path)})
    assert queue.get_job(job_id)["result"]["output"] == f"{tmp_path}\nj1 x 1\n"


def test_what_is_left_in_the_background_is_not_waited_for() -> None:
    """Though it holds the standard output of the program."""
    found = Command(["sh", "-c", "sleep 60 & echo $!"])({})
    os.kill(int(found["output"]), signal.SIGKILL)


def test_a_program_that_closes_its_output_is_waited_for() -> None:
    """Its end is what counts."""
    with pytest.raises(CommandFailed, match="exit status 7"):
        Command(["sh", "-c", "exec >&- 2>&-; sleep 0.3; exit 7"])({})


def test_sigchld_that_is_ignored_does_not_hide_a_failure() -> None:
    """As a supervisor hands it down: the kernel would forget the exit status."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(CommandFailed, match="exit status 3"):
            Command(["sh", "-c", "exit 3"])({})
    finally:
        signal.signal(signal.SIGCHLD, before)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie counts as that."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def ends_all(pids: Path, run: Callable[[], Any]) -> None:
    """Run it, and see that both processes of a family are gone afterwards."""
    run()
    for pid in map(int, pids.read_text().split()):
        wait_for(lambda pid=pid: is_gone(pid))


@pytest.mark.parametrize("kind", ["usual", "deaf"])
def test_a_timeout_ends_the_whole_group(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command's own, also outside of a worker and of the main thread; SIGKILL where needed."""
    monkeypatch.setattr("dbbasic_queue.worker.commands.GRACE", 0.3)
    pids = tmp_path / "pids"
    command = Command([sys.executable, "-c", FAMILY, str(pids), kind], timeout=1)
    errors: list[Any] = []

    def run() -> None:
        try:
            command({})
        except JobTimeout as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    ends_all(pids, lambda: (thread.start(), thread.join()))
    assert errors == ["ran for longer than 1 s"]


def test_the_worker_s_timeout_ends_the_whole_group(queue: Queue, tmp_path: Path) -> None:
    """It is the worker's alarm that breaks a command off which has no timeout of its own."""
    pids = tmp_path / "pids"
    command = Command([sys.executable, "-c", FAMILY, str(pids), "usual"])
    queue.enqueue("x", {}, job_id="j")
    ends_all(pids, lambda: queue.process_jobs({"x": command}, timeout=1))
    assert error_lines(queue.get_job("j")["error"])[0] == "JobTimeout: ran for longer than 1 s"


def test_a_command_s_own_timeout_counts(queue: Queue) -> None:
    """In place of the worker's, which is shorter here."""
    job = run_one(queue, Command(["sleep", "0.4"], timeout=60), timeout=0.1)
    assert job["status"] == "completed"


def test_the_second_signal_ends_the_whole_group(
    queue: Queue, tmp_path: Path, own_handler: list[int]
) -> None:
    """And puts the job back."""
    pids = tmp_path / "pids"
    command = Command([sys.executable, "-c", FAMILY, str(pids), "usual"])
    queue.enqueue("x", {}, job_id="j")

    def stop() -> None:
        wait_for(pids.exists)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)

    thread = threading.Thread(target=stop)
    thread.start()
    ends_all(pids, lambda: queue.process_jobs({"x": command}))
    thread.join()
    job = queue.get_job("j")
    assert (job["status"], job["attempts"]) == ("pending", 0)


def test_a_break_at_the_start_leaves_nothing_behind(queue: Queue, tmp_path: Path) -> None:
    """An alarm that comes while the program is being started is put off until it is known."""
    for number in range(20):
        pids = tmp_path / f"pids{number}"
        command = Command([sys.executable, "-c", FAMILY, str(pids), "usual"])
        queue.enqueue("x", {})
        queue.process_jobs({"x": command}, 1, timeout=0.0005 * (number + 1))
    mark = os.fsencode(str(tmp_path / "pids"))

    def left() -> list[str]:
        found = []
        for each in Path("/proc").glob("[0-9]*"):
            try:
                words = (each / "cmdline").read_bytes()
            except OSError:
                continue
            if mark in words and not is_gone(int(each.name)):
                found.append(each.name)
        return found

    wait_for(lambda: not left())


BROKEN_OFF = """
import signal, subprocess, sys
from dbbasic_queue import Command, Queue

def poll(process, polls=subprocess.Popen.poll):
    process._waitpid_lock.acquire()  # as Popen.poll does, before its `try`
    signal.raise_signal(signal.SIGALRM)
    process._waitpid_lock.release()
    return polls(process)

subprocess.Popen.poll = poll
queue = Queue(sys.argv[1], "normal")
queue.enqueue("x", {}, job_id="j")
queue.process_jobs({"x": Command(["sleep", "60"])}, 1, timeout=30)
print(queue.get_job("j")["error"])
"""


def test_a_break_while_the_program_is_asked_for_ends_it(tmp_path: Path) -> None:
    """An alarm that comes while `subprocess` holds its lock does not keep the worker for ever."""
    import subprocess

    command = [sys.executable, "-c", BROKEN_OFF, str(tmp_path / "q.tsv")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ran.stdout.startswith("JobTimeout: "), ran.stderr


WORKER = """
import sys
from dbbasic_queue import Command, Queue
command = Command([sys.executable, "-c", {family!r}, sys.argv[2], "deaf"])
Queue(sys.argv[1], "normal").process_jobs({{"x": command}})
"""


def test_a_program_dies_with_its_worker(tmp_path: Path) -> None:
    """Else a killed worker's job would run a second time beside the first."""
    import subprocess

    queue = Queue(tmp_path / "q.tsv", "normal")
    queue.enqueue("x", {})
    pids = tmp_path / "pids"
    code = WORKER.format(family=FAMILY)
    worker = subprocess.Popen([sys.executable, "-c", code, str(queue.path), str(pids)])
    wait_for(pids.exists)
    worker.kill()
    worker.wait()
    program, child = map(int, pids.read_text().split())
    wait_for(lambda: is_gone(program))
    os.kill(child, signal.SIGKILL)  # what the program itself has started is the program's


@pytest.mark.parametrize(
    ("words", "options"), [("tar x", {}), (["a"], {"timeout": 0}), (["a"], {"options": ["b"]})]
)
def test_what_cannot_be_a_command(words: Any, options: dict[str, Any]) -> None:
    """Is refused when it is made, not when a job comes."""
    with pytest.raises(ValueError, match=r"run|timeout|placeholder"):
        Command(words, **options)


def test_run_by_hand_it_raises() -> None:
    """A command is a function like other handlers."""
    with pytest.raises(Discard, match="path: is missing"):
        Command(["cat", "--", "{path}"])({})
    with pytest.raises(Discard, match="the payload must be an object"):
        Command(["cat", "--", "{path}"])(["x"])
