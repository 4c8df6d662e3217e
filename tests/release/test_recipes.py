"""What docs/recipes.md says of servers and containers, beside the blocks that test_pages runs."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path
from typing import Any

import pytest
from page_blocks import ROOT, blocks, environment
from redis_server import RedisServer, program

from dbbasic_queue import Backoff, Queue
from dbbasic_queue.tasks import Tasks

PAGE = "docs/recipes.md"
LONG = 60  # seconds until a test gives up
JOBS = """
import os
HANDLERS = {"who": lambda payload: [os.getppid(), os.getcwd()]}
"""
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "data")
IN_A_NAMESPACE = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
# What COPY, WORKDIR and VOLUME of the image do: $0 is its folder, $1 has the application.
BUILD = """
parent=$(dirname "$0")
mkdir -p "$parent"
mount -t tmpfs none "$parent"
cp -R "$1" "$0"
mount --bind "$1/data" "$0/data"
cd "$0"
shift
exec "$@"
"""
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


def test_what_waits_in_rq_is_taken_over(tmp_path: Path) -> None:
    """Typed as the page has it, on a real server: one job has run, one waits for its time."""
    if program() is None:
        pytest.skip("no redis-server and no valkey-server: install the package redis-server")
    (text,) = (text for _, text in blocks(PAGE) if "rq enqueue" in text)
    with RedisServer(tmp_path / "server") as server:
        url = server.url().partition("?")[0]
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path,
            env=environment(tmp_path) | {"RQ_REDIS_URL": url},
            check=True,
            timeout=LONG,
        )
    done, later = Queue(tmp_path / "from-rq" / "data" / "queue.tsv").list_jobs()
    assert (done["type"], done["status"], done["result"]) == (
        "greet",
        "completed",
        "Hello Zoë! " * 2,
    )
    assert (later["payload"]["name"], later["status"]) == ("Ben", "pending")
    assert 3000 < later["run_at"] - later["created_at"] <= 3600


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page's image has of Python: a new environment, and its RUN line in it."""
    folder = tmp_path_factory.mktemp("image")
    copy = folder / "checkout"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCE)
    venv.create(folder / "venv")
    # It depends on what this Python has already; the library is not among that, by this way.
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (packages / "more.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    words = shlex.split(said()["RUN"])
    assert words[:2] == ["pip", "install"]
    assert words[-1] == "dbbasic-queue"
    # The checkout in the place of what is published.
    command = [sys.executable, "-m", *words[:-1], "--no-deps", "--no-build-isolation", str(copy)]
    command[3:3] = ["--python", str(folder / "venv" / "bin" / "python")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "venv"


def said() -> dict[str, str]:
    """The lines of the page's image, by their first words."""
    (text,) = (text for kind, text in blocks(PAGE) if kind == "text" and text.startswith("FROM"))
    return dict(line.split(" ", 1) for line in text.splitlines())


def test_the_container_s_command_is_a_first_process(image: Path, tmp_path: Path) -> None:
    """What the image of the page runs begins jobs, and ends at the signal that it names.

    As root it is process 1 of a namespace, in the image's folder, with the volume mounted there.
    """
    lines = said()
    words = json.loads(lines["CMD"])
    where = lines["WORKDIR"]
    assert lines["COPY"] == f". {where}"
    assert lines["VOLUME"] == f"{where}/data"
    (tmp_path / "dbq.toml").write_text(CONFIG)
    (tmp_path / "jobs.py").write_text(JOBS)
    queue = Queue(tmp_path / "data" / "queue.tsv")
    job_id = queue.enqueue("who", {})
    words[0] = str(image / "bin" / words[0])
    boxed = os.geteuid() == 0
    command = [*IN_A_NAMESPACE, "sh", "-euc", BUILD, where, str(tmp_path), *words]
    with (tmp_path / "log").open("wb") as out:
        first = subprocess.Popen(
            command if boxed else words,
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=out,
            stderr=out,
        )
    try:
        end = time.monotonic() + LONG
        while not queue.count_jobs()["completed"]:
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            time.sleep(0.05)
        job = queue.get_job(job_id)
    finally:
        inside = f"/proc/{first.pid}/task/{first.pid}/children"
        pid = int(Path(inside).read_text().split()[0]) if boxed else first.pid
        os.kill(pid, getattr(signal, lines["STOPSIGNAL"]))
        code = first.wait(LONG)
    assert code == 0
    assert job is not None
    if boxed:
        assert job["result"] == [1, where]


def test_commands_in_the_tables_are_commands() -> None:
    """Each `dbq` of the tables is understood by `dbq`."""
    from dbbasic_queue.cli import main

    text = (Path(__file__).parents[2] / PAGE).read_text()
    found = re.findall(r"^\|.*`dbq ([^`]+)`", text, re.MULTILINE)
    assert len(found) == 3
    for words in found:
        main._parser().parse_args(shlex.split(words))


def test_python_in_the_tables_is_python(tmp_path: Path) -> None:
    """What those who come from huey or RQ are told to write instead can be written so."""
    text = (ROOT / PAGE).read_text().partition("## Coming from huey")[2]
    right = re.findall(r"^\|.*\| (`.*`) \|$", text.partition("## Coming from 1.0.0")[0], re.M)
    codes = [code for cell in right for code in re.findall(r"`([^`]+)`", cell)]
    queue = Queue(tmp_path / "queue.tsv")
    known: dict[str, Any] = {"queue": queue, "time": time, "Backoff": Backoff}
    found = []
    for code in codes:
        if code.startswith("@"):
            known["tasks"] = Tasks(queue)  # as each makes the same task
            exec(f"{code}\ndef greet(name): return name", known)
        elif code.startswith(("greet.", "queue.")):
            found.append(eval(code, known))
            known["job_id"] = queue.enqueue("greet", {"name": "Zoë"})
            queue.process_jobs(known["tasks"])
        else:
            assert code.startswith(("dbq ", "[[", "schedule")), code
    assert len(found) == 5
    assert found[2] == "Zoë"  # the result that was waited for
