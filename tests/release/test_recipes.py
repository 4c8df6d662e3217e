"""What docs/recipes.md says of servers and containers, beside the blocks that test_pages runs."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from page_blocks import blocks, environment

from dbbasic_queue import Queue

PAGE = "docs/recipes.md"
LONG = 60  # seconds until a test gives up
CONFIG = '[queue]\nfile = "data/queue.tsv"\n[worker]\nhandlers = "jobs:HANDLERS"\n'


class Local(http.client.HTTPConnection):
    """A connection to a server at a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def asked(path: str, method: str, target: str) -> Any:
    """What the server answers; None while it is not there."""
    connection = Local(path)
    try:
        connection.request(method, target)
        return json.load(connection.getresponse())
    except OSError:
        return None
    finally:
        connection.close()


def test_requests_enqueue_under_gunicorn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application of the page takes requests in two forked processes, and no job is lost."""
    pytest.importorskip("gunicorn")
    monkeypatch.chdir(tmp_path)
    (block,) = (text for _, text in blocks(PAGE) if "gunicorn --check-config" in text)
    source = re.search(r"web.py <<'END'\n(.*?)^END$", block, re.DOTALL | re.MULTILINE)
    assert source
    Path("web.py").write_text(source[1])
    words = ["--bind", "unix:web.sock", "--preload", "--workers", "2", "web:app"]
    with Path("log").open("wb") as out:
        command = [sys.executable, "-m", "gunicorn", *words]
        server = subprocess.Popen(command, env=environment(tmp_path), stdout=out, stderr=out)
    try:
        end = time.monotonic() + LONG
        while asked("web.sock", "GET", "/job/none") is None:
            assert time.monotonic() < end, Path("log").read_text()
            time.sleep(0.05)
        ids = {asked("web.sock", "POST", f"/signup/{n}")["job"] for n in range(20)}
    finally:
        server.terminate()
        server.wait(LONG)
    assert {job["id"] for job in Queue("data/queue.tsv").list_jobs()} == ids
    assert len(ids) == 20


def test_the_container_s_command_is_a_first_process(tmp_path: Path) -> None:
    """What the image of the page runs begins jobs, and ends at the signal that it names."""
    (text,) = (text for kind, text in blocks(PAGE) if kind == "text" and text.startswith("FROM"))
    said = dict(line.split(" ", 1) for line in text.splitlines())
    words = json.loads(said["CMD"])
    assert words[0] == "dbq"
    (tmp_path / "dbq.toml").write_text(CONFIG)
    (tmp_path / "jobs.py").write_text("HANDLERS = {'greet': lambda payload: 'Hello'}\n")
    queue = Queue(tmp_path / "data" / "queue.tsv")
    assert said["VOLUME"] == f"{said['WORKDIR']}/data"
    queue.enqueue("greet", {})
    command = [sys.executable, "-m", "dbbasic_queue", *words[1:]]
    with (tmp_path / "log").open("wb") as out:
        first = subprocess.Popen(
            command, cwd=tmp_path, env=environment(tmp_path), stdout=out, stderr=out
        )
    try:
        end = time.monotonic() + LONG
        while not queue.count_jobs()["completed"]:
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            time.sleep(0.05)
    finally:
        first.send_signal(getattr(signal, said["STOPSIGNAL"]))
        code = first.wait(LONG)
    assert code == 0


def test_commands_in_the_tables_are_commands() -> None:
    """Each `dbq` of the tables is understood by `dbq`."""
    from dbbasic_queue.cli import main

    text = (Path(__file__).parents[2] / PAGE).read_text()
    found = re.findall(r"^\|.*`dbq ([^`]+)`", text, re.MULTILINE)
    assert len(found) == 3
    for words in found:
        main._parser().parse_args(shlex.split(words))
