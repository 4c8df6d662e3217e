"""Files replaced whole or not at all, and errors of the operating system made ours."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from parties import needs_root

from dbbasic_queue.errors import InstallError, StorageError
from dbbasic_queue.support import files
from dbbasic_queue.support.files import (
    STALE,
    NewFile,
    create,
    given_path,
    keep_status,
    refusing,
    remove_leftovers,
    replace,
    replace_all,
)
from dbbasic_queue.support.opening import Folder

STEPS = ("open", "write", "fchmod", "fsync", "rename")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path.parent))


def fail(monkeypatch: pytest.MonkeyPatch, name: str, at: int = 1) -> None:
    """Let the `at`-th call of a function of `os` fail."""
    real, calls = getattr(os, name), 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, call)


def test_a_file_is_replaced(path: Path) -> None:
    """The new content is there, private by default, and nothing else is left in the folder."""
    replace(NewFile(path, b"new"))
    assert (path.read_bytes(), mode(path), names(path)) == (b"new", 0o600, ["file"])
    replace(NewFile(path, lambda fd: os.write(fd, b"by hand"), 0o644))
    assert (path.read_bytes(), mode(path)) == (b"by hand", 0o644)


def test_the_umask_counts_only_where_asked_for(path: Path) -> None:
    """A mode is exact whatever the umask; without one, the umask says."""
    old = os.umask(0o027)
    try:
        replace(NewFile(path, b"", 0o666))
        assert mode(path) == 0o666
        replace(NewFile(path, b"", None))
        assert mode(path) == 0o640
    finally:
        os.umask(old)


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whichever step the disk refuses, the old file is there and nothing beside it."""
    fail(monkeypatch, step)
    with pytest.raises(OSError, match="No space"):
        replace(NewFile(path, b"new", 0o644))
    assert (path.read_bytes(), names(path)) == (b"old", ["file"])


def test_an_interruption_leaves_nothing_behind(path: Path) -> None:
    """An exception of the writer's own, too, takes the temporary file away."""

    def write(fd: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(NewFile(path, write))
    assert (path.read_bytes(), names(path)) == (b"old", ["file"])


def test_the_content_is_on_disk_before_it_has_the_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written, synced, renamed, and then the folder synced: a power cut leaves old or new."""
    told: list[str] = []
    for name in ("write", "fsync", "rename", "fchown"):
        real = getattr(os, name)

        def call(*args: Any, name: str = name, real: Any = real, **kwargs: Any) -> Any:
            folder = name == "fsync" and os.path.isdir(f"/proc/self/fd/{args[0]}")
            told.append("sync folder" if folder else name)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)
    replace(NewFile(path, b"new", own=lambda fd: os.fchown(fd, -1, -1)))
    assert told == ["fchown", "write", "fsync", "rename", "sync folder"]
    told.clear()
    replace(NewFile(path, b"new", synced=False))
    assert told == ["write", "rename"]


def test_several_files_are_staged_before_the_first_is_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the second cannot be written, the first is still the old one."""
    other = path.with_name("other")
    fail(monkeypatch, "write", at=2)
    with pytest.raises(OSError, match="No space"):
        replace_all([NewFile(path, b"new"), NewFile(other, b"new")])
    assert (path.read_bytes(), names(path)) == (b"old", ["file"])


@needs_root
def test_no_device_is_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root a backup into /dev/null, or metrics to /dev/stdout, would take these away."""
    device = path.with_name("null")
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices are made in this container")
    with pytest.raises(OSError, match="it is a device, not a regular file; name another file"):
        replace(NewFile(device, b"new"))
    device.unlink()
    device.symlink_to(path)
    monkeypatch.setattr(files, "DEVICES", str(path.parent))  # where links lead to devices, too
    with pytest.raises(OSError, match="it is a device"):
        replace(NewFile(device, b"new"))
    assert (path.read_bytes(), names(path)) == (b"old", ["file", "null"])


def test_a_file_is_made_but_never_over_another(path: Path) -> None:
    """`create` refuses where there is a file already, and leaves nothing behind."""
    with pytest.raises(FileExistsError):
        create(NewFile(path, b"new"))
    assert (path.read_bytes(), names(path)) == (b"old", ["file"])
    new = path.with_name("new")
    create(NewFile(new, b"text", 0o640))
    assert (new.read_bytes(), mode(new), names(path)) == (b"text", 0o640, ["file", "new"])


def test_leftovers_are_removed_when_they_are_old(path: Path) -> None:
    """What killed processes left goes with the next replacement; what is being written stays."""
    old, young, foreign = (path.with_name(f".{name}.tmp~") for name in (
        "file.0123456789ab", "file.ba9876543210", "other.0123456789ab"
    ))  # fmt: skip
    released = path.with_name(".file.0123456789ab.tmp")  # as 2.0.0 wrote it
    for each in (old, young, foreign, released):
        each.touch()
    for each in (old, foreign, released):
        os.utime(each, (path.stat().st_mtime - STALE - 60,) * 2)
    replace(NewFile(path, b"new"))
    assert names(path) == sorted([young.name, foreign.name, "file"])
    with Folder(path.parent) as folder:
        remove_leftovers(folder, path.name)
    assert names(path) == sorted([foreign.name, "file"])


def test_owner_mode_times_and_attributes_are_kept(path: Path) -> None:
    """What stands in the place of a file has all that was said of the old one."""
    new = path.with_name("new")
    new.touch(0o600)
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18))
    if os.geteuid() == 0:
        os.chown(path, 12, 34)
    try:
        os.setxattr(path, "user.note", b"kept")
        attributes = True
    except OSError:  # a file system without them
        attributes = False
    with open(path, "rb") as one, open(new, "wb") as other:
        keep_status(one.fileno(), other.fileno())
    old, now = path.stat(), new.stat()
    kept = ("st_mode", "st_uid", "st_gid", "st_mtime_ns")
    assert [getattr(now, name) for name in kept] == [getattr(old, name) for name in kept]
    if attributes:
        assert os.getxattr(new, "user.note") == b"kept"


def test_an_error_of_the_system_becomes_ours(tmp_path: Path) -> None:
    """The error says what could not be done, to which file and why; `errno` stays where it can."""
    path = tmp_path / "none"
    with (
        pytest.raises(StorageError, match=f"cannot read {path}: No such file") as caught,
        refusing(path, "cannot read"),
    ):
        path.read_bytes()
    assert caught.value.errno == errno.ENOENT
    with (
        pytest.raises(InstallError, match=f"cannot read {path}: No such file"),
        refusing(path, "cannot read", InstallError),
    ):
        path.read_bytes()
    with pytest.raises(ValueError, match="other"), refusing(path, "cannot read"):
        raise ValueError("other")


def test_a_path_is_given_to_sudo_through_links(tmp_path: Path) -> None:
    """sudo takes $PWD away; the one that sudo itself was started with counts then."""
    (tmp_path / "releases" / "1").mkdir(parents=True)
    current = tmp_path / "current"
    current.symlink_to("releases/1")
    code = "from dbbasic_queue.support.files import given_path; print(given_path('dbq.toml'))"
    like_sudo = ["sh", "-c", 'env -u PWD "$@"; exit', "sudo"]
    for pwd, expected in ((current, current), (tmp_path, current.resolve())):
        done = subprocess.run(
            [*like_sudo, sys.executable, "-c", code],
            cwd=current,
            env={**os.environ, "PWD": str(pwd)},
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == str(expected / "dbq.toml"), done.stderr


def test_a_path_is_given_through_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is taken as the shell sees it; a $PWD of another folder is not believed."""
    release = tmp_path / "releases" / "1"
    release.mkdir(parents=True)
    current = tmp_path / "current"
    current.symlink_to("releases/1")
    monkeypatch.chdir(current)
    monkeypatch.setenv("PWD", str(current))
    assert given_path("dbq.toml") == current / "dbq.toml"
    assert given_path("/etc/dbq.toml") == Path("/etc/dbq.toml")
    for wrong in (str(tmp_path), "current", "/no/such/folder", ""):
        monkeypatch.setenv("PWD", wrong)
        assert given_path("dbq.toml") == release / "dbq.toml"
