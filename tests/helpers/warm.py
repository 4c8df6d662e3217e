"""Runs `dbq` by forks of one process that has imported it, so that a start costs little.

A fork is a process like any other, with streams, a folder and variables of its own, and it ends as
an interpreter ends. What depends on how an interpreter starts is run by a new one: `run` does so
where the variables that are read then are not the tests' own.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

MODULE = "dbbasic_queue.cli"
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_")  # how such variables begin
MOST = 60_000  # bytes: they fit into a pipe, and into a message

_server: _Server | None = None


def run(words: list[str], *, cwd: Path, stdin: str, env: dict[str, str]) -> Ended:
    """Run `dbq` with these words, and with no other variables than these."""
    global _server
    command = [sys.executable, "-m", MODULE, *words]
    mask = os.umask(0)
    os.umask(mask)
    wanted = {"words": words, "cwd": str(cwd), "env": env, "umask": mask}
    request = json.dumps(wanted).encode()
    if _server is None:
        _server = _Server()
    if _server.can_run(request, stdin, env):
        return Ended(command, *_server.run(request, stdin.encode()))
    return subprocess.run(command, cwd=cwd, input=stdin, env=env, capture_output=True, text=True)


Ended = subprocess.CompletedProcess[str]


class _Server:
    """The process that forks, as the tests have it."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._variables = _read_at_start(os.environ)
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.PIPE,  # of the same kind as those of a fork: Python notes that
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self._end)

    def _end(self) -> None:
        if self._owner == os.getpid():
            self._requests.close()
            self._process.wait()

    def can_run(self, request: bytes, stdin: str, env: Mapping[str, str]) -> bool:
        """Whether a fork is what a new process would be; a child of the tests has no server."""
        return (
            os.getpid() == self._owner
            and _read_at_start(env) == self._variables
            and max(len(request), len(stdin.encode())) < MOST
        )

    def run(self, request: bytes, stdin: bytes) -> tuple[int, str, str]:
        """Return the exit code of a fork, and what it wrote on its two streams."""
        given, giving = os.pipe()
        os.write(giving, stdin)
        os.close(giving)
        pipes = [os.pipe() for _ in range(3)]
        theirs = [given, *(writing for _, writing in pipes)]
        socket.send_fds(self._requests, [request], theirs)
        for fd in theirs:
            os.close(fd)
        said = {reading: b"" for reading, _ in pipes}
        unread = set(said)
        while unread:
            for fd in select.select(list(unread), [], [])[0]:
                piece = os.read(fd, 65536)
                said[fd] += piece
                if not piece:
                    unread.remove(fd)
                    os.close(fd)
        output, errors, code = (part.decode().replace("\r\n", "\n") for part in said.values())
        return int(code), output, errors


def _read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(READ_AT_START)}


def _serve(requests: socket.socket) -> bool:
    """Fork for each request, until no more can come; returns True in a fork, made ready."""
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    running: dict[int, tuple[int, int]] = {}
    while True:
        for fd, _ in poll.poll():
            if fd in running:
                pid, telling = running.pop(fd)
                poll.unregister(fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                os.write(telling, str(code).encode())
                os.close(telling)
                os.close(fd)
                continue
            request, given, _, _ = socket.recv_fds(requests, MOST, 4)
            if not request:
                return False
            pid = os.fork()
            if pid == 0:
                requests.detach()
                _become(json.loads(request), given)
                return True
            for each in given[:3]:
                os.close(each)
            pidfd = os.pidfd_open(pid)
            running[pidfd] = (pid, given[3])
            poll.register(pidfd, select.POLLIN)


def _become(request: dict[str, Any], given: list[int]) -> None:
    for fd, stream in zip(given, range(3), strict=False):
        os.dup2(fd, stream)
    os.closerange(3, 4096)
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    sys.argv[1:] = request["words"]
    sys.path[0] = os.getcwd()


def _main() -> None:
    from dbbasic_queue.cli import main

    for name in {*main.PLACES.values(), "health"}:
        import_module(f"dbbasic_queue.cli.{name}")
    for name in ("engines.tsv.engine", "config.sections", "worker.loop"):
        import_module(f"dbbasic_queue.{name}")
    gc.freeze()  # what a fork collects is its own
    if _serve(socket.socket(fileno=int(sys.argv[1]))):
        runpy.run_module(MODULE, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
