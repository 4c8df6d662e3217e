"""Files as they are: what counts as sound, and a folder that is in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dbbasic_queue.errors import InstallError
from dbbasic_queue.install.plan import _locked
from dbbasic_queue.install.site import PlainFiles, Site, Wanted, delete_own

ONE = Path("/etc/x/one")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_owner_is_not_sound(tmp_path: Path) -> None:
    """A file that another user could change is written anew, whatever its text."""
    store = PlainFiles(Site(root=tmp_path))
    store.write([Wanted(ONE, b"text")])
    mine = store.read(ONE)
    os.chown(tmp_path / "etc/x/one", 65534, 65534)
    other = store.read(ONE)
    assert mine is not None
    assert other is not None
    assert (mine.sound, other.sound) == (True, False)


def test_a_manifests_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    """What is in the way is an error that names it, and not a wait without an end."""
    site = Site(root=tmp_path)
    site.installed.parent.mkdir(parents=True)
    site.installed.touch()
    with pytest.raises(InstallError, match=f"{site.installed}: cannot lock it"), _locked(site):
        pass


def test_what_others_put_in_place_of_metrics_stays(tmp_path: Path) -> None:
    """A removal takes what we wrote; a link, a pipe or a folder there is no reason to fail."""
    ours, link = tmp_path / "ours.prom", tmp_path / "link.prom"
    pipe, folder = tmp_path / "pipe.prom", tmp_path / "folder.prom"
    ours.write_text("# HELP dbq_up x\n")
    link.symlink_to(ours)
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (link, pipe, folder):
        delete_own(path)
        assert os.path.lexists(path)
    delete_own(ours)
    assert not ours.exists()
    delete_own(ours)
