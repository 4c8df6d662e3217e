"""A reading as lines: what stands where, in a terminal of any size."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from dbbasic_queue import Queue
from dbbasic_queue.health.advice import Advice
from dbbasic_queue.health.judge import check_health
from dbbasic_queue.support.columns import width_of
from dbbasic_queue.views.reading import Reader, Reading
from dbbasic_queue.views.screen import KEYS, View, drawn


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    """Of a queue with failures, hostile types and a long one."""
    queue = Queue(tmp_path / "queue.tsv")
    raw = "".join(
        f"{name}\t{job_type}\t{{}}\t{status}\t5\t5\t3\t{error}\t\n"
        for name, job_type, status, error in (
            ("a1", "mail", "failed", "ValueError: \x1b[2Jno user 7"),
            ("a2", "mail", "failed", "ValueError: \x1b[2Jno user 8"),
            ("a3", "数据" * 20, "pending", "KeyError: 'x'"),
            ("a4", "evil\x9b31m", "pending", ""),
            ("a5", "mail", "pending", ""),
        )
    )
    queue.enqueue("mail", {})
    queue.path.write_bytes(queue.path.read_bytes() + raw.encode())
    check = partial(check_health, queue.path)
    return Reader(queue, check=check, advice=Advice(["--file", str(queue.path)])).read()


def text(line: list[tuple[str, str]]) -> str:
    return "".join(part for part, _ in line)


def screen(reading: Reading, view: View, columns: int = 80, lines: int = 24) -> list[str]:
    return [text(line) for line, _ in drawn(reading, view, columns, lines)]


@pytest.mark.parametrize("columns", [10, 40, 80, 200])
@pytest.mark.parametrize("lines", [1, 3, 5, 24, 60])
def test_it_fits_any_terminal(reading: Reading, columns: int, lines: int) -> None:
    """There are as many lines as the terminal has, and none is wider."""
    shown = screen(reading, View(), columns, lines)
    assert len(shown) == lines
    assert max(map(width_of, shown)) <= columns


def test_at_80_by_24_all_is_told(reading: Reading) -> None:
    """How the queue is, what failed and how often, what is next, the types, and the keys."""
    shown = screen(reading, View())
    assert shown[0].split()[-2] == "WARNING"
    assert "4 pending (4 ready, " in shown[1]
    assert "0 running  2 failed" in shown[1]
    whole = "\n".join(shown)
    for title in ("FAILED, BY TYPE AND ERROR", "NEXT", "TYPES"):
        assert title in whole
    assert "ValueError" in whole
    assert shown[-1] == KEYS
    assert width_of(KEYS) < 80


def test_what_strangers_wrote_is_escaped(reading: Reading) -> None:
    """No control character reaches the terminal."""
    for line in screen(reading, View(), 200, 60):
        assert line.isprintable() or not line


def test_the_filter_leaves_what_is_like_it(reading: Reading) -> None:
    """By type, id and error, in any case of letters; what it is, and that nothing is like it."""
    whole = "\n".join(screen(reading, View(filter="KEYERROR")))
    assert "filter: KEYERROR" in whole
    assert "a3" in whole
    assert "a5" not in whole
    assert "mail" not in whole
    assert "nothing is like the filter" in "\n".join(screen(reading, View(filter="nowhere")))


def test_what_is_chosen_is_shown(reading: Reading) -> None:
    """However small the terminal is; and it stays chosen where it stands elsewhere afterwards."""
    view = View()
    screen(reading, view, 80, 6)
    keys = [each.key for each in view.entries]
    assert view.chosen == keys[0]
    for n in range(1, len(keys) + 3):
        view.move(1)
        lines = drawn(reading, view, 80, 6)
        assert view.chosen == keys[min(n, len(keys) - 1)]
        assert sum(chosen for _, chosen in lines) == 1
    view.move(-100)
    assert view.chosen == keys[0]
    view.chosen = ("waiting", "a5")
    view.filter = "a5"
    screen(reading, view)
    assert view.chosen == ("waiting", "a5")


def test_a_queue_that_cannot_be_read_says_why(reading: Reading, tmp_path: Path) -> None:
    """The verdict's words are shown in place of numbers."""
    (tmp_path / "queue.tsv").unlink()
    queue = Queue(tmp_path / "queue.tsv")
    check = partial(check_health, queue.path)
    reading = Reader(queue, check=check, advice=Advice([])).read()
    assert any(reading.health.findings[0].summary in line for line in screen(reading, View(), 300))
