"""dbq-health on a million rows: its memory is bounded, and no other process waits for it.

Run by `make e2e`. The seconds that it takes, and how long an enqueue took at the worst meanwhile,
are printed for a person to judge: contract are 3 s, and 50 ms of holding anybody up.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import CHECKOUT, say

from dbbasic_queue import Queue
from dbbasic_queue.job import STATUSES
from dbbasic_queue.table.line import HEADER, build_line

ROWS = 1_000_000
MIB = 1 << 20


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    """A queue of a million rows, most of them completed, one in a hundred of them moved."""
    path = tmp_path_factory.mktemp("scale") / "queue.tsv"
    chance = random.Random(1)
    now = int(time.time())
    offset = len(HEADER)
    with path.open("wb") as file:
        file.write(HEADER)
        for number, status in enumerate(chance.choices(STATUSES, (80, 1, 900, 10, 9), k=ROWS)):
            moved = b" " if number % 100 == 0 else b""
            head = b'%016x\tmail\t%b{"to": "zoe%d@example.com"}' % (number, moved, number)
            run_at = now - 1_000_000 + number
            line = build_line(offset, head, status, run_at, run_at, 1, b"", b'{"sent": 1}')
            offset += len(line)
            file.write(line)
    say(f"{ROWS} rows, {offset / MIB:.0f} MiB")
    yield Queue(path, "normal")
    path.unlink()


def start(path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dbbasic_queue", "health", "--file", str(path), "-t", "60"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)


def test_the_memory_of_a_check_is_bounded(queue: Queue) -> None:
    """It takes less than 100 MB, the process that reads the table included."""
    check = start(queue.path)
    assert check.stdout is not None
    first = check.stdout.read().splitlines()[0].decode()
    _, status, usage = os.wait4(check.pid, 0)
    check.returncode = os.waitstatus_to_exitcode(status)
    assert check.returncode == 2
    assert f"'completed'={queue.count_jobs()['completed']};" in first
    seconds = usage.ru_utime + usage.ru_stime
    say(f"{first.split('|')[0]}\n     {seconds:.2f} s of CPU, {usage.ru_maxrss / 1000:.0f} MB")
    assert usage.ru_maxrss * 1024 < 100_000_000


def test_nobody_waits_for_a_check(queue: Queue) -> None:
    """Jobs are added all the time while it looks; how long that took at the worst is printed."""
    check = start(queue.path)
    began = time.monotonic()
    waits = []
    while check.poll() is None:
        before = time.perf_counter()
        queue.enqueue("mail", {}, time.time() + 3600)
        waits.append(time.perf_counter() - before)
        time.sleep(0.0005)
    check.communicate()
    assert check.returncode == 2
    assert waits
    say(
        f"answered in {time.monotonic() - began:.2f} s; {len(waits)} jobs were added meanwhile,"
        f" the slowest in {max(waits) * 1000:.2f} ms"
    )
