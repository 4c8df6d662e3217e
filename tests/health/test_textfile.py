"""The file for node_exporter is whole, readable, or as it was before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dbbasic_queue import StorageError
from dbbasic_queue.health.textfile import write_textfile


def test_it_is_readable_by_all_whatever_the_umask(tmp_path: Path) -> None:
    """The collector is another user: mode 0644, under a umask that forbids it."""
    path = tmp_path / "dbq.prom"
    before = os.umask(0o077)
    try:
        write_textfile(path, "dbq_up 1\n")
        write_textfile(path, "dbq_up 0\n")
    finally:
        os.umask(before)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("dbq_up 0\n", 0o644)
    assert os.listdir(tmp_path) == ["dbq.prom"]


def test_it_is_renamed_from_a_name_that_the_collector_ignores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written by and by stands in the same folder, does not end in .prom, and is whole."""
    path = tmp_path / "dbq.prom"
    path.write_text("old")
    seen = []
    rename = os.rename

    def look(source: Path, target: Path) -> None:
        seen.append((source.parent, source.suffix, source.read_text(), source.stat().st_mode))
        assert path.read_text() == "old"
        rename(source, target)

    monkeypatch.setattr(os, "rename", look)
    write_textfile(path, "new")
    assert seen == [(tmp_path, ".tmp~", "new", 0o100644)]


@pytest.mark.parametrize("step", ["open", "write", "fchmod", "rename"])
def test_a_failure_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A disk that refuses at any step leaves the old file and nothing else."""
    path = tmp_path / "dbq.prom"
    path.write_text("old")

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        with pytest.raises(StorageError, match="No space left on device"):
            write_textfile(path, "new")
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["dbq.prom"])


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    """The folder is the collector's to make."""
    with pytest.raises(StorageError, match="No such file or directory"):
        write_textfile(tmp_path / "nowhere" / "dbq.prom", "")
