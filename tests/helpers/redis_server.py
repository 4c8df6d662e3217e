"""Real servers for tests: Redis or Valkey, each on a free loopback port, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAMS = ("redis-server", "valkey-server")
SAFE = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
}


def program() -> str | None:
    """The server to test with: `$DBQ_TEST_SERVER`, or the first that is installed."""
    named = os.environ.get("DBQ_TEST_SERVER")
    found = (shutil.which(name) for name in ([named] if named else PROGRAMS))
    return next((path for path in found if path), None)


def free_port() -> int:
    """A port of this host that nothing listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def contents(client: Any, name: str = "") -> dict[bytes, Any]:
    """What a server keeps under the keys with `name` in them.

    Not by DUMP: that writes a hash in the order of a table, which the server turns over by itself.
    """
    reads: dict[bytes, Any] = {
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"string": client.get,
        b"stream": client.xrange,
    }
    keys = [key for key in client.scan_iter(count=1000) if name in key.decode()]
    return {key: reads[client.type(key)](key) for key in keys}


class RedisServer:
    """A server; `start` it, `kill` it as `kill -9` does, and start it again on the same data.

    Args:
        folder: for its data; made.
        settings: of its configuration, beside those of `SAFE`.
        prefix: a command to run it under, as strace.
    """

    def __init__(self, folder: Path, prefix: tuple[str, ...] = (), **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.settings = SAFE | {name.replace("_", "-"): text for name, text in settings.items()}
        self.prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def url(self, name: str = "test", password: str = "") -> str:
        """The address of a queue on it."""
        login = f":{password}@" if password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0?name={name}"

    def start(self) -> RedisServer:
        """Start it, and wait until it answers."""
        found = program()
        assert found is not None
        options = [part for name, text in self.settings.items() for part in (f"--{name}", text)]
        command = [*self.prefix, found, "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--dir", str(self.folder), "--daemonize", "no", *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 30
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.01)
        return self

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def freeze(self, frozen: bool = True) -> None:
        """Stop the process, so that it answers nothing; or let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
