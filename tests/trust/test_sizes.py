"""A producer makes the table huge: it costs the others neither memory nor gigabytes of disk."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from house import HANDLERS, House, command
from parties import PRODUCER, READER, WORKER, as_user

from dbbasic_queue import QueueError
from dbbasic_queue.cli import health
from dbbasic_queue.cli import main as dbq
from dbbasic_queue.support.account import Account

MEMORY = 300 << 20  # bytes of address space that each attempt has, on top of what the tests have


def limit_memory() -> None:
    """Let this process have so much memory, however many tests it has run before."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


SECONDS = 60
HOLE = 6 << 30
LINE = 400 << 20


def limited(user: Account, attempt: Callable[[], object]) -> str:
    """What came of an attempt of a process that has little memory; "" if it went well."""

    def run() -> str:
        limit_memory()
        try:
            attempt()
        except QueueError as error:
            return str(error)
        return ""

    return as_user(user, run, SECONDS)


def _hole(house: House) -> None:
    """`truncate -s 6G queue.tsv`."""
    as_user(PRODUCER, lambda: os.truncate(house.table, HOLE))


def _line(house: House) -> None:
    """One line of 400 MB, and no newline at its end."""

    def append() -> None:
        with house.table.open("ab") as table:
            for _ in range(LINE >> 20):
                table.write(b"x" * (1 << 20))

    as_user(PRODUCER, append)


def _whole_line(house: House) -> None:
    """One line of 400 MB, with a newline, and a job behind it."""
    _line(house)

    def append() -> None:
        with house.table.open("ab") as table:
            table.write(b"\nlast\tok\t{}\tpending\t1\t1\t0\t\t\n")

    as_user(PRODUCER, append)


ATTACKS = {"a hole": _hole, "a line": _line, "a whole line": _whole_line}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_queue_goes_on(house: House, attack: str) -> None:
    """With little memory: readers look, producers enqueue, the worker works; what is torn is not
    copied for gigabytes."""
    ATTACKS[attack](house)
    began = time.monotonic()
    assert limited(READER, lambda: len(list(house.queue().list_jobs()))) == ""
    assert limited(PRODUCER, lambda: house.queue().enqueue("ok", {})) == ""
    assert limited(WORKER, lambda: house.queue().process_jobs(HANDLERS)) == ""
    assert limited(WORKER, lambda: house.queue().prune_jobs(0)) == ""
    assert time.monotonic() - began < 4 * SECONDS
    assert "pending" not in house.statuses()
    assert house.beside("torn").stat().st_blocks * 512 < LINE + (64 << 20)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("words", [["fsck"], ["list"], ["stats"]], ids=lambda words: words[0])
def test_commands_go_on(house: House, attack: str, words: list[str]) -> None:
    """Each ends with an exit code of its own."""
    ATTACKS[attack](house)
    for user, main, rest in ((READER, dbq.main, words), (READER, health.main, [])):

        def limited_main(arguments: list[str], main: Callable[[list[str]], int] = main) -> int:
            limit_memory()
            return main(arguments)

        ran = command(user, limited_main, *rest, "--file", house.table)
        assert ran.code in (0, 1, 2, 3), ran
        assert "MemoryError" not in ran.text, ran
