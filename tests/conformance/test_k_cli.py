"""K: each command says the same, and exits with the same code, whatever keeps the jobs."""

from __future__ import annotations

import re
import tempfile
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
    ["errors", "--json"],
    ["errors", "--type", "ok"],
    ["retry", "--error", "ValueError*", "--dry-run"],
    ["retry", "--error", "ValueError*", "--yes"],
    ["retry", "--error", "ValueError*", "--yes"],
    ["defer", "b1", "--in", "2h"],
    ["defer", "a1", "--in", "2h"],
    ["list", "--since", "1h", "--json"],
    ["pause", "bad", "--why", "no such user"],
    ["pause", "no type!"],
    ["defer", "b1", "--in", "0s"],
    ["work", "jobs:HANDLERS"],
    ["stats"],
    ["resume", "b*"],
    ["resume", "b*"],
    ["pause", "--for", "1h"],
    ["stats", "--json"],
    ["resume"],
    ["work", "jobs:HANDLERS", "--max-attempts", "1", "--log-file", "work.log"],
    ["log", "b1", "--log-file", "work.log"],
    ["log", "a1", "--log-file", "work.log"],
    ["log", "b1"],
    ["history"],
    ["history", "--type", "ok", "--since", "1h"],
    ["history", "--since", "nonsense"],
    ["wait", "a1", "b1", "--json"],
    ["wait", "none"],
    ["enqueue", "ok", "--id", "d1"],
    ["wait", "d1", "--timeout", "0s"],
    ["show", "d", "a1"],
    ["cancel", "--type", "o*", "--status", "pending", "--dry-run"],
    ["cancel", "--type", "o*", "--yes"],
    ["cancel", "--running", "d1"],
    ["enqueue", "ok", '{"n": 1}', "--unique", "sync"],
    ["enqueue", "ok", '{"n": 1}', "--unique", "sync"],
    ["enqueue", "ok", '{"n": 2}', "--unique", "sync"],
    ["restart"],
    ["work", "jobs:HANDLERS"],
    ["restart", "--wait"],
    ["list", "--json", "--status", "completed", "--type", "ok"],
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
    text = re.sub(r"(?<=File \").*/(?=jobs\.py)", "", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([.,]\d+)?([+-]\d\d:?\d\d)?", "TIME", text)
    text = re.sub(r"\[\d+\]", "[PID]", text)
    text = re.sub(r"\b\d{10}(\.\d+)?\b", "TIME", text)
    text = re.sub(r"\b\d+(\.\d+)? ?(ms|s|min|h)\b", "SPAN", text)
    text = re.sub(r'"latency": \d+', '"latency": N', text)
    text = re.sub(r', "size": \d+', "", text)  # of a file only
    text = re.sub(r"\b[\d,]+ +bytes", "N bytes", text)
    text = re.sub(r"\bsync--\w+", "SYNC", text)  # has the moment in it
    text = re.sub(r"[▁-█]+", "", text).replace("<SPAN", "SPAN")  # how fast, and in which hour
    return [re.sub(r" +", " ", line) for line in text.splitlines()]


@pytest.fixture
def answers(tmp_path: Path) -> Callable[[str], list[Any]]:
    """All that the commands say at an address."""

    def answers(address: str) -> list[Any]:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        (folder / "jobs.py").write_text(JOBS)
        said = []
        for words in COMMANDS:
            env = {"DBQ_URL": address}
            done = dbq(*words, cwd=folder, env=env)
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
    here = answers(f"file:{tmp_path}/queue.tsv")
    assert [each for each in zip(there, here, strict=True) if each[0] != each[1]] == []
