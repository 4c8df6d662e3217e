"""What docs/machines.md tells to type, word for word, on a real server, beside live programs.

Only the server's address and the time of quiet are the test's own.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from page_blocks import ROOT, blocks, environment
from redis_server import RedisServer, program

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.cli.main import main
from dbbasic_queue.config import sections as config
from dbbasic_queue.engines.answers import Limits
from dbbasic_queue.migrate.move import finish

PAGE = "docs/machines.md"
ADDRESS = "redis://10.0.0.5/0?name=shop"
JOBS = """
import os
def mail(payload):
    fd = os.open("ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{payload['n']}\\n".encode())
HANDLERS = {"mail": mail}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    if program() is None:
        pytest.skip("no redis-server and no valkey-server: install the package redis-server")
    with RedisServer(tmp_path / "server", **_lines_to_add()) as server:
        yield server


def _lines_to_add() -> dict[str, str]:
    """The settings that the page begins with."""
    first = next(text for kind, text in blocks(PAGE) if kind == "text")
    return {name.replace("-", "_"): value for name, value in map(str.split, first.splitlines())}


def test_the_user_that_the_page_makes_may_do_all(server: RedisServer, tmp_path: Path) -> None:
    """Add, work, pause, prune, look, check, and move; and it sees no other key."""
    (line,) = (text for kind, text in blocks(PAGE) if kind == "text" and text.startswith("user "))
    client = redis.Redis(port=server.port)
    client.execute_command("ACL", "SETUSER", *line.split()[1:])
    url = server.url("shop").replace("redis://", "redis://shop:PASSWORD@")
    queue, file = Queue(url), Queue(tmp_path / "queue.tsv")
    queue.enqueue("mail", {"n": 1}, job_id="a")
    queue.enqueue("mail", {"n": 2}, unique="b")
    queue.enqueue_many([("mail", {"n": n}, time.time() + 3600) for n in range(3)])
    assert queue.process_jobs({"mail": lambda payload: payload["n"]}).completed == 2
    for command in (["pause", "mail"], ["resume", "mail"], ["check"]):
        assert main([*command, "--url", url]) == 0, command
    queue.engine.snapshot(Limits(0, 0, 0, 0, 9))
    assert queue.prune_jobs(0) == 2
    assert finish(queue.engine, file.engine, 0) == 3
    assert finish(file.engine, queue.engine, 0) == 3
    client.set("theirs", 1)
    with pytest.raises(redis.ResponseError, match=r"(?i)no permissions"):
        redis.Redis.from_url(url.partition("?")[0]).get("theirs")


class Shop:
    """A folder with a queue, handlers, one producer and one worker, as the page has them."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.address = str(folder / "data" / "queue.tsv")  # where the producer adds
        self.added: list[int] = []
        self._stop = threading.Event()
        self._worker: subprocess.Popen[bytes] | None = None
        self._follower: subprocess.Popen[bytes] | None = None
        self._producer = threading.Thread(target=self._produce)
        (folder / "jobs.py").write_text(JOBS)
        Queue(self.address).enqueue("mail", {"n": 0}, time.time() + 3600, job_id="later")
        self._producer.start()

    def _produce(self) -> None:
        for number in range(1, 10**9):
            if self._stop.wait(0.02):
                return
            Queue(self.address).enqueue("mail", {"n": number}, job_id=f"k{number}")
            self.added.append(number)

    def run(self, text: str) -> None:
        """Type what a block says; what goes on until it is interrupted is left running."""
        text = text.replace(ADDRESS, self.url).replace("5min", "1s").replace("sleep 5", "sleep 1")
        command = ["bash", "-euo", "pipefail", "-c", text]
        if text.endswith("--follow\n"):
            self._follower = self._start(*text.split())
            return
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment(self.folder),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(Path(sys.executable).parent / words[0]), *words[1:]],
            cwd=self.folder,
            env=environment(self.folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def switch_worker(self, *words: str) -> None:
        """Stop the worker, as systemctl does, and start another."""
        if self._worker is not None:
            self._worker.terminate()
            # One that had not begun yet, on a busy machine, ends by the signal itself.
            assert self._worker.wait(60) in (0, -signal.SIGTERM)
        self._worker = self._start("dbq", "work", "jobs:HANDLERS", "--linger", "1h", *words)

    def switch_producer(self, address: str) -> None:
        self.address = address
        self.wait(lambda: Queue(address).find_job(f"k{self.added[-1]}") is not None)

    def interrupt(self) -> None:
        """Press Ctrl-C where something was left running."""
        if self._follower is not None:
            self._follower.send_signal(signal.SIGINT)
            assert self._follower.wait(60) == 130
            self._follower = None

    def wait(self, happened: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not happened():
            assert time.monotonic() < end
            time.sleep(0.02)

    def ran(self) -> Counter[int]:
        path = self.folder / "ran"
        return Counter(map(int, path.read_text().split())) if path.exists() else Counter()

    def close(self) -> None:
        self._stop.set()
        self._producer.join()
        for process in (self._follower, self._worker):
            if process is not None:
                process.terminate()
                process.wait(60)


@pytest.fixture
def shop(tmp_path: Path, server: RedisServer) -> Iterator[Shop]:
    folder = tmp_path / "shop"
    folder.mkdir()
    shop = Shop(folder, server.url("shop"))
    try:
        yield shop
    finally:
        shop.close()


def section(title: str) -> list[str]:
    """The shell blocks below a heading."""
    text = (ROOT / PAGE).read_text().partition(f"\n{title}\n")[2]
    text = re.split(r"\n##+ ", text)[0]
    return re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_cut_over_and_the_way_back(shop: Shop) -> None:
    """Producers never pause; each job runs once, wherever it was added, and none is left behind."""
    file = str(shop.folder / "data" / "queue.tsv")
    shop.switch_worker("--file", file)
    shop.wait(lambda: len(shop.added) > 20)
    make_address, first, follow, finish, compare = section("### The cut-over")
    shop.run(make_address)
    assert (shop.folder / "address").stat().st_mode & 0o777 == 0o600
    shop.switch_worker("--url", shop.url)
    shop.run(first)
    shop.run(follow)
    last = shop.added[-1]  # follows, once that is at work
    shop.wait(lambda: Queue(shop.url).find_job(f"k{last}") is not None)
    shop.switch_producer(shop.url)
    shop.interrupt()
    shop.run(finish)
    with pytest.raises(StorageError, match="moved to"):
        Queue(file).enqueue("mail", {"n": -1})
    shop.run(compare)
    assert {status for status, count in Queue(file).count_jobs().items() if count} <= {"completed"}

    first, finish = section("### The way back")
    shop.switch_worker("--file", file)  # which finds nothing yet
    shop.run(first)
    shop.switch_producer(file)
    shop.run(finish)
    shop.wait(lambda: len(shop.added) > 100)
    last = shop.added[-1]
    shop.wait(lambda: last in shop.ran())
    expected = set(shop.added[: shop.added.index(last) + 1])
    shop.wait(lambda: expected <= shop.ran().keys())
    assert max(shop.ran().values()) == 1
    later = Queue(file).get_job("later")
    assert later is not None
    assert (later["status"], later["attempts"]) == ("pending", 0)


def test_the_other_blocks(tmp_path: Path, server: RedisServer) -> None:
    """Python, config and shell of the rest of the page do what they say."""
    (tmp_path / "jobs.py").write_text(JOBS)
    Queue(tmp_path / "data" / "queue.tsv").enqueue("mail", {"n": 1})
    moving = {*section("### The cut-over"), *section("### The way back")}
    for kind, block in blocks(PAGE):
        text = block.replace(ADDRESS, server.url("shop"))
        if kind == "toml":
            config.parse(text, tmp_path / "dbq.toml")
        elif kind == "python" and "celery" in text and importlib.util.find_spec("celery") is None:
            continue
        elif kind in ("python", "sh") and block not in moving:
            command = [sys.executable, "-c"] if kind == "python" else ["bash", "-euc"]
            subprocess.run(
                [*command, text], cwd=tmp_path, env=environment(tmp_path), check=True, timeout=60
            )
    assert (tmp_path / "jobs.jsonl").read_text().count('"mail"') == 1
    assert os.environ.get("DBQ_URL") is None
