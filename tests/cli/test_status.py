"""`dbq work` tells the service manager what it is at, as sd_notify(3) has it."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_app import dbq, queue_of

from dbbasic_queue.job import Job
from dbbasic_queue.worker.status import IDLE, LONGEST, line, of_several, service_manager


@pytest.fixture
def manager() -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens as a service manager does, and its path, which has to be short."""
    with tempfile.TemporaryDirectory(prefix="dbq") as folder:
        path = f"{folder}/notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
            heard.bind(path)
            heard.settimeout(60)
            yield heard, path


def working(app: Path, path: str, *args: str) -> subprocess.Popen[bytes]:
    """A worker as systemd starts one."""
    command = [sys.executable, "-m", "dbbasic_queue.cli", "work", "jobs:HANDLERS", *args]
    env = {"NOTIFY_SOCKET": path, "PATH": "/usr/bin:/bin"}
    return subprocess.Popen(command, cwd=app, env=env, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("args", [(), ("--concurrency", "2")], ids=["one", "of two"])
def test_the_job_that_runs_is_told(
    app: Path, manager: tuple[socket.socket, str], args: tuple[str, ...]
) -> None:
    """Once it has run for a second, by the main process; and that it is over."""
    heard, path = manager
    queue_of(app).enqueue("slow", {"seconds": 600}, job_id="a1")
    worker = working(app, path, *args)
    told = heard.recv(4096).decode()
    assert told.startswith("STATUS=slow a1, attempt 1, since "), told
    (app / "enough").touch()
    assert heard.recv(4096).decode() == f"STATUS={IDLE}"
    assert worker.wait(60) == 0
    assert queue_of(app).get_job("a1")["result"] == "slept"


def test_a_handler_does_not_speak_for_the_worker(
    app: Path, manager: tuple[socket.socket, str]
) -> None:
    """The socket's name is taken out of the environment, which programs of a handler inherit."""
    code = "import os\nHANDLERS = {'see': lambda payload: 'NOTIFY_SOCKET' in os.environ}\n"
    (app / "seeing.py").write_text(code)
    queue_of(app).enqueue("see", {}, job_id="s1")
    dbq("work", "seeing:HANDLERS", cwd=app, env={"NOTIFY_SOCKET": manager[1]})
    assert queue_of(app).get_job("s1")["result"] is False


def test_a_manager_that_is_gone_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it would have been told is not worth an error, nor a wait."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    tell = service_manager()
    assert tell is not None
    tell("one")
    tell("two")
    monkeypatch.setenv("NOTIFY_SOCKET", "vsock:2:1234")  # which another kind of machine has
    assert service_manager() is None


def test_only_what_is_new_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also to a socket without a file; a long line is cut."""
    name = f"dbq-test-{id(monkeypatch)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0{name}")
        heard.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        tell = service_manager()
        assert tell is not None
        for text in (IDLE, "one", "one", "x" * 9000, IDLE):
            tell(text)
        said = [heard.recv(9999).decode() for _ in range(3)]
    assert said == ["STATUS=one", f"STATUS={'x' * LONGEST}", f"STATUS={IDLE}"]


def test_a_status_is_one_line() -> None:
    """Whatever a line of the table says that another program has written."""
    job = Job("a1", "ma\nil\x1b", {}, "processing", 5, 1767225600, 1)
    assert "\n" not in line(job)
    assert "\x1b" not in of_several([line(job), IDLE])
