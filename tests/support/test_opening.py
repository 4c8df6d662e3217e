"""Files are opened in one way: no link, pipe or foreign file stands in for them unnoticed."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from parties import PRODUCER, READER, ROOT, SHARED, WORKER, as_user, needs_root, open_place, own
from tables import in_child

from dbbasic_queue.support import opening
from dbbasic_queue.support.account import Account
from dbbasic_queue.support.opening import APART, Folder, open_file, set_apart


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of the worker's in one that all may enter."""
    with open_place() as top:
        folder = top / "queue"
        folder.mkdir()
        if os.geteuid() == 0:
            own(folder, WORKER, 0o2750)
        yield folder


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


OBSTACLES: dict[str, Callable[[Path], object]] = {
    "link": lambda path: path.symlink_to("/etc/passwd"),
    "dangling link": lambda path: path.symlink_to("/nonexistent/file"),
    "looping link": lambda path: path.symlink_to(path.name),
    "pipe": os.mkfifo,
    "socket": _socket,
    "folder": Path.mkdir,
}


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_APPEND], ids=["read", "write"])
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path, obstacle: str, flags: int) -> None:
    """The error says what is in the way, and no opening waits or follows."""
    OBSTACLES[obstacle](tmp_path / "it")
    began = time.monotonic()
    with pytest.raises(OSError, match="symbolic link" if "link" in obstacle else "regular file"):
        open_file(tmp_path / "it", flags)
    assert time.monotonic() - began < 5, "it waited"


def test_a_device_is_refused() -> None:
    """A device is not a file of a queue; and no advice moves /dev/null out of the way."""
    with pytest.raises(OSError, match=r"it is a device, .*; name another file$"):
        open_file("/dev/null", os.O_RDWR)


@pytest.mark.parametrize("most", [256, 4096])  # the tests have some open themselves
def test_what_stays_open_has_a_number_of_its_own(most: int) -> None:
    """A high one, as far as the process may have such; the same one when there is none left."""

    def look() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        first = os.open("/", os.O_RDONLY)
        fd = set_apart(first)
        assert fd >= min(APART, most // 2)
        assert not os.get_inheritable(fd)
        assert os.open("/", os.O_RDONLY) == first
        with suppress(OSError):
            while True:
                fd = os.open("/", os.O_RDONLY)
        assert set_apart(fd) == fd
        os.fstat(fd)

    in_child(look)


def test_folders_on_the_way_may_be_links(tmp_path: Path) -> None:
    """Only the last name must not be a link: /srv/app/current leads to a release."""
    (tmp_path / "release").mkdir()
    (tmp_path / "current").symlink_to("release")
    (tmp_path / "release" / "it").write_text("text")
    fd = open_file(tmp_path / "current" / "it", os.O_RDONLY)
    assert os.read(fd, 9) == b"text"
    os.close(fd)


def test_a_hard_link_is_refused_where_one_name_is_wanted(tmp_path: Path) -> None:
    """The error says how to find the other names."""
    (tmp_path / "it").touch()
    os.link(tmp_path / "it", tmp_path / "other")
    os.close(open_file(tmp_path / "it", os.O_RDWR))
    with pytest.raises(OSError, match=r"2 names.* -samefile"):
        open_file(tmp_path / "it", os.O_RDWR, one_name=True)


def test_no_descriptor_is_a_standard_stream(tmp_path: Path) -> None:
    """A process that was started without them does not print into the file."""

    def without_streams() -> list[int]:
        for fd in (0, 1, 2):
            os.close(fd)
        with Folder(tmp_path) as folder:
            made = folder.make("it", os.O_RDWR)
            return [folder.fd, made, folder.open("it", os.O_RDONLY)]

    from dbbasic_queue.support.child import call

    assert min(call(without_streams, 10)) > 2


def test_what_is_made_has_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    """Whatever the umask; in a shared folder it is the group's, elsewhere the umask decides."""
    old = os.umask(0o077)
    try:
        with Folder(tmp_path) as folder:
            for name, mode in (("a", 0o640), ("b", None)):
                os.close(folder.make(name, os.O_RDWR, mode))
        os.chmod(tmp_path, 0o2750)
        with Folder(tmp_path) as folder:
            os.close(folder.make("c", os.O_RDWR))
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "abc"]
    assert modes == [0o640, 0o600, 0o660]


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    """A dangling link in the place of a new file is not followed."""
    (tmp_path / "it").symlink_to(tmp_path / "elsewhere")
    with Folder(tmp_path) as folder, pytest.raises(FileExistsError):
        folder.make("it", os.O_RDWR)
    assert not (tmp_path / "elsewhere").exists()


# -- who owns it ---------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("user", [WORKER, PRODUCER, ROOT], ids=lambda user: user.name)
def test_a_file_of_a_stranger_is_refused(place: Path, user: Account) -> None:
    """It has to be the worker's or root's; the error has the command that mends it."""
    (place / "it").touch()
    own(place / "it", READER, 0o666)
    with pytest.raises(OSError, match=r"belongs to 61003, not to 61001.*: chown -h 61001 /"):
        as_user(user, lambda: open_file(place / "it", os.O_RDWR))
    for owner in (WORKER, ROOT):
        own(place / "it", owner, 0o660, SHARED)
        assert as_user(user, lambda: open_file(place / "it", os.O_RDWR)) > 2


@needs_root
def test_what_root_makes_is_the_owners(place: Path) -> None:
    """No file of root's is left in the folder of another user."""
    with Folder(place) as folder:
        os.close(folder.make("it", os.O_RDWR))
    status = (place / "it").stat()
    assert (status.st_uid, status.st_gid) == (WORKER.uid, SHARED)


@needs_root
@pytest.mark.parametrize(
    ("mode", "owner", "said"),
    [
        (0o775, ROOT, "the group 61100 can write in"),
        (0o757, ROOT, "every user can write in"),
        (0o755, READER, "belongs to 61003"),
    ],
)
def test_root_is_not_led_by_a_folder_of_others(
    place: Path, mode: int, owner: Account, said: str
) -> None:
    """No folder on root's way may be one in which a stranger can put a link; others may go."""
    (place / "it").touch()
    own(place / "it", WORKER, 0o660, SHARED)
    own(place.parent, owner, mode, SHARED)
    with pytest.raises(PermissionError, match=f"{said}.*could be led elsewhere"):
        open_file(place / "it", os.O_RDWR)
    assert as_user(WORKER, lambda: open_file(place / "it", os.O_RDWR)) > 2


@needs_root
def test_root_is_not_led_by_the_queues_folder(place: Path) -> None:
    """The folder itself may be written by its owner and root alone."""
    own(place, WORKER, 0o2770)
    with pytest.raises(PermissionError, match=f"the group 61100 .*chmod g-w {place}"):
        Folder(place)


@needs_root
def test_root_follows_links_that_only_root_can_set(place: Path) -> None:
    """A link in a folder of root's is followed, one in a folder of a stranger's is not."""
    (place / "it").touch()
    own(place / "it", WORKER, 0o660, SHARED)
    (place.parent / "way").symlink_to(place)
    os.close(open_file(place.parent / "way" / "it", os.O_RDWR))
    (place.parent / "strange").mkdir()
    own(place.parent / "strange", READER, 0o755)
    (place.parent / "strange" / "way").symlink_to("../queue")
    with pytest.raises(PermissionError, match="strange belongs to 61003"):
        open_file(place.parent / "strange" / "way" / "it", os.O_RDWR)


@needs_root
def test_root_goes_through_a_folder_with_the_sticky_bit(place: Path) -> None:
    """In /tmp, no user can replace what is another's."""
    (place / "it").touch()
    own(place / "it", WORKER, 0o660, SHARED)
    own(place.parent, ROOT, 0o1777)
    os.close(open_file(place / "it", os.O_RDWR))


def test_a_loop_of_folders_ends(tmp_path: Path) -> None:
    """Links that lead in a circle are an error, as root too."""
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links"):
        Folder(tmp_path / "one" / "deeper")


def test_a_group_of_the_owner_alone_is_not_of_others() -> None:
    """The group root of most systems has root in it, and no other user."""
    assert not opening.group_is_only(61999, (0,)), "a group that is not known may hold anybody"


# -- a name of its own ---------------------------------------------------------------------------


@needs_root
def test_a_file_that_is_mounted_by_itself_is_seen(place: Path) -> None:
    """It has a second folder, so a second lock; one that came with its folder has not."""
    (place / "it").touch()
    (place.parent / "other").touch()

    def look() -> list[bool]:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(0x00020000) == 0, "CLONE_NEWNS"
        assert libc.mount(b"none", b"/", None, 1 << 18 | 1 << 14, None) == 0, "MS_PRIVATE, MS_REC"
        found = []
        for _ in range(2):
            with Folder(place) as folder:
                fd = os.open("it", os.O_RDONLY, dir_fd=folder.fd)
                found.append(opening.is_mounted_alone(folder.fd, fd))
            other, it = os.fsencode(place.parent / "other"), os.fsencode(place / "it")
            assert libc.mount(other, it, None, 1 << 12, None) == 0, "MS_BIND"
        return found

    assert as_user(ROOT, look) == [False, True]
