"""K: each command says the same, and exits with the same code, whatever keeps the jobs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_app import JOBS, dbq
from redis_server import RedisServer

from dbbasic_queue import Queue

# In this order, on a queue without jobs. On a server jobs are listed by state, types take turns:
# what lists or runs several is compared sorted.
COMMANDS = [
    ["enqueue", "ok", '{"a": 1}', "--id", "a1"],
    ["enqueue", "ok", '{"a": 1}', "--id", "a1"],
    ["enqueue", "ok", '{"a": 2}', "--id", "a1"],
    ["enqueue", "bad", "--id", "b1"],
    ["enqueue", "ok", "--id", "c1", "--in", "1h"],
    ["enqueue", "ok", "no json"],
    ["enqueue", "no type!"],
    ["list", "--json"],
    ["list", "--status", "pending", "--type", "bad"],
    ["list", "--limit", "0"],
    ["show", "none"],
    ["cancel", "c1", "none"],
    ["cancel", "c1"],
    ["work", "jobs:HANDLERS", "--max-attempts", "1"],
    ["list"],
    ["show", "a1", "--json"],
    ["show", "b1"],
    ["retry", "a1"],
    ["retry", "--failed"],
    ["retry", "--failed"],
    ["work", "jobs:HANDLERS", "--limit", "1", "--types", "ok"],
    ["stats", "--json"],
    ["prune", "--older-than", "0s", "--dry-run"],
    ["prune", "--older-than", "0s"],
    ["prune", "--older-than", "nonsense"],
    ["list", "--json"],
]


def plain(text: str, address: str) -> list[str]:
    """A text without what differs from one run to the next, and without the address."""
    shown = Queue(address).engine.url
    for where in (address, shown, shown.removeprefix("file:")):
        text = text.replace(where, "QUEUE")
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([.,]\d+)?([+-]\d\d:?\d\d)?", "TIME", text)
    text = re.sub(r"\[\d+\]", "[PID]", text)
    text = re.sub(r"\b\d{10}(\.\d+)?\b", "TIME", text)
    text = re.sub(r"\b\d+(\.\d+)? ?(ms|s|min|h)\b", "SPAN", text)
    text = re.sub(r'"latency": \d+', '"latency": N', text)
    text = re.sub(r', "size": \d+', "", text)  # of a file only
    return [re.sub(r" +", " ", line) for line in text.splitlines()]


@pytest.fixture
def answers(tmp_path: Path) -> Callable[[str], list[Any]]:
    """All that the commands say at an address."""
    (tmp_path / "jobs.py").write_text(JOBS)

    def answers(address: str) -> list[Any]:
        said = []
        for words in COMMANDS:
            env = {"DBQ_URL": address}
            done = dbq(*words, cwd=tmp_path, env=env)
            lines = [plain(done.stdout, address), plain(done.stderr, address)]
            if words[0] in ("list", "work"):
                lines = [sorted(some) for some in lines]
            said.append((words, done.returncode, *lines))
        return said

    return answers


def test_each_command_says_the_same(
    answers: Callable[[str], list[Any]], tmp_path: Path, server: RedisServer
) -> None:
    """On a server as on a file, but for the numbers that only one of them has."""
    with RedisServer(tmp_path / "redis", appendfsync="always") as safe:
        there = answers(safe.url())
    for found, wanted in zip(there, answers(f"file:{tmp_path}/queue.tsv"), strict=True):
        assert found == wanted
