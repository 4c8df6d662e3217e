"""The kernel tells of what changes in a folder."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dbbasic_queue.support.notices import Notices


@pytest.fixture
def notices(tmp_path: Path) -> Iterator[Notices]:
    (tmp_path / "there").write_text("one")
    notices = Notices(str(tmp_path))
    yield notices
    notices.close()


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more")


def in_place(path: Path) -> None:
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), b"O", 0)


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("two")
    other.rename(path)


@pytest.mark.parametrize("change", [append, in_place, replaced])
def test_each_change_of_a_table_is_told(
    notices: Notices, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """A row added, a row changed in place, the table written anew."""
    assert not notices.wait(0)
    change(tmp_path / "there")
    assert notices.wait(60)


def test_what_was_told_is_not_told_again(notices: Notices, tmp_path: Path) -> None:
    """However much happened, one call takes it in."""
    for _ in range(50):
        append(tmp_path / "there")
    assert notices.wait(60)
    assert not notices.wait(0)


def test_to_look_at_a_file_is_not_a_change(notices: Notices, tmp_path: Path) -> None:
    """A worker that looks is not woken by itself, or by other workers."""
    (tmp_path / "there").read_text()
    os.utime(tmp_path / "there")
    assert not notices.wait(0)


def test_where_the_kernel_cannot_tell_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no file is left open."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        Notices(str(tmp_path / "missing"))
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(OSError, match="no inotify"):
        Notices(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == before
