"""Tests of the watch over a directory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dbbasic_queue.table import directory_watch
from dbbasic_queue.table.directory_watch import NEVER, TICK, DirectoryWatch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "old").write_text("")
    return folder


def trusting(folder: Path) -> DirectoryWatch:
    """A watch that trusts its directory, which has been quiet for long enough."""
    time.sleep(2 * TICK / 1e9)
    watch = DirectoryWatch(str(folder))
    watch.trust(watch.look())
    assert watch.is_unchanged()
    return watch


def move_folder(folder: Path) -> None:
    folder.rename(folder.with_name("away"))


def replace_folder(folder: Path) -> None:
    move_folder(folder)
    folder.mkdir()


def replace_above(folder: Path) -> None:
    folder.parent.rename(folder.parent.with_name("above"))
    folder.mkdir(parents=True)


def replace_unseen(folder: Path) -> None:
    """As rsync does, or tar: what is in the folder, and then the folder's own time."""
    status = os.stat(folder)
    (folder / "new").write_text("")
    (folder / "new").replace(folder / "old")
    os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "new").write_text(""),
        lambda folder: (folder / "old").unlink(),
        lambda folder: (folder / "old").rename(folder / "new"),
        lambda folder: (folder / "old").rename(folder.parent / "old"),
        lambda folder: os.link(folder / "old", folder / "new"),
        move_folder,
        replace_folder,
        replace_above,
        replace_unseen,
    ],
    ids=["made", "deleted", "renamed", "moved out", "linked", "gone", "replaced", "above", "rsync"],
)
def test_a_change_of_the_entries_is_seen(folder: Path, change: Callable[[Path], object]) -> None:
    """Whatever makes a name in the directory lead to another file ends the trust."""
    watch = trusting(folder)
    change(folder)
    assert not watch.is_unchanged()


def test_a_file_that_is_written_changes_no_entry(folder: Path) -> None:
    """Writing to a file of the directory does not end the trust."""
    watch = trusting(folder)
    with (folder / "old").open("a") as file:
        file.write("more")
    os.utime(folder / "old")
    assert watch.is_unchanged()


def test_a_directory_changed_just_now_is_not_trusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another change might get the same time, or the clock was set back, nothing is."""
    watch = DirectoryWatch(str(folder))
    changed = os.stat(folder).st_ctime_ns
    for later, trusted in ((0, False), (TICK - 1, False), (TICK, True), (-TICK, False)):
        monkeypatch.setattr(directory_watch.time, "time_ns", lambda at=changed + later: at)
        assert (watch.look() != NEVER) == trusted


def test_times_in_whole_seconds_are_not_trusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that counts in seconds, a second change may bear the time of the first."""
    watch = trusting(folder)
    monkeypatch.setattr(directory_watch, "SECOND", 1)  # every time is a whole number of these
    assert watch.look() == NEVER


def test_a_directory_that_cannot_be_looked_at_is_not_trusted(tmp_path: Path) -> None:
    """A missing directory is no error here: whoever opens files in it says what is wrong."""
    watch = DirectoryWatch(str(tmp_path / "missing"))
    assert not watch.is_unchanged()
    watch.trust(watch.look())
    assert not watch.is_unchanged()
