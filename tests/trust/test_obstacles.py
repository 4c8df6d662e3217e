"""Something else stands in the place of a file: a clear error or no effect, for every party."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import product

import pytest
from house import FILES, PARTIES, House, printed
from obstacles import OBSTACLES
from parties import as_user, own

from dbbasic_queue.cli import health
from dbbasic_queue.cli import main as dbq
from dbbasic_queue.errors import QueueError
from dbbasic_queue.support.account import Account

# A party for each obstacle in the place of each file. `make stress` has all parties meet them all.
PLACES = enumerate(product(FILES, OBSTACLES))
TURNS = [
    (ending, obstacle, party)
    for number, (ending, obstacle) in PLACES
    for turn, party in enumerate(PARTIES)
    if "DBQ_ALL_PARTIES" in os.environ or turn == (number + number // len(OBSTACLES)) % len(PARTIES)
]


@pytest.mark.parametrize(
    ("ending", "obstacle", "party"), TURNS, ids=[f"{e}-{o}-{user.name}" for e, o, user in TURNS]
)
def test_an_obstacle_is_told_or_ignored(
    house: House, ending: str, obstacle: str, party: Account
) -> None:
    """No command hangs, no traceback is seen, and the file elsewhere stays as it is."""
    path = house.beside(ending)
    own(house.victim, party, 0o600)  # who is to write into a file of its own
    path.unlink(missing_ok=True)
    OBSTACLES[obstacle](path, house.victim)
    before = os.stat(house.victim)
    as_user(party, lambda: _try_all(house), seconds=60)
    after = os.stat(house.victim)
    assert house.victim.read_text() == "the victim's own text\n"
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)
    assert not house.victim.with_name("made-by-root").exists()


def _try_all(house: House) -> None:
    """Everything that a party can call, one after the other: a process for each is for others."""
    for attempt in ("enqueue", "process_jobs", "list", "prune"):
        with suppress(QueueError):  # any other error fails the test
            _attempt(house, attempt)
    for words in (["list"], ["enqueue", "ok"], ["fsck"], ["fsck", "--repair"]):
        ran = printed(dbq.main, *words, "--file", house.table)
        assert ran.code in (0, 1, 2), ran
        assert "Traceback" not in ran.text, ran
    ran = printed(health.main, "--file", house.table)
    assert "error in the check" not in ran.text, ran


def _attempt(house: House, what: str) -> object:
    queue = house.queue()
    if what == "enqueue":
        return queue.enqueue("ok", {"text": "text of a stranger\n"})
    if what == "process_jobs":
        return queue.process_jobs({"ok": lambda payload: None}).completed
    if what == "list":
        return len(list(queue.list_jobs()))
    return queue.prune_jobs(0)
