"""One way to open a file in a folder where other users may have put something in its place.

Theory of operation
-------------------
A queue's folder belongs to the worker's user: the owner of the folder is that user. Each file is
opened relative to a descriptor of the folder, so that what was seen of the folder is true of the
folder that the file is in. The last name is never followed if it is a link, and no opening waits
for the other end of a pipe. What was opened is looked at by its descriptor: it has to be a regular
file of the folder's owner, of root, or of this process's own user; the last not among a queue's
files where a group shares the folder. Where a stranger chooses what is written, it may have one
name only.

As root, no folder on the way may be one that others than root and the folder's owner can write:
those could lead root elsewhere. A folder with the sticky bit (/tmp) is not such a one, as no user
can replace in it what belongs to another.

No descriptor of ours is 0, 1 or 2: in a process that was started without them, the next thing
printed would go into the file. A program may close descriptors that are not its own (a daemon that
closes all there are), and its next files then bear their numbers. So what stays open has a high
number (`set_apart`), which the kernel gives to no file of a program that has not hundreds of them:
a call by it fails with EBADF, and what it was opened for is opened anew. See also `is_ours`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

ROOT: Final = 0
MOST_LINKS: Final = 40  # that the kernel follows on one path, path_resolution(7)
SAFE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
FOLDER: Final = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
STEP: Final = os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK)
# The kernel keeps these flags with an open file, and hardly a program sets both: see `is_ours`.
MARK: Final = os.O_NOFOLLOW | os.O_NONBLOCK if sys.platform == "linux" else 0
APART: Final = 512  # from here on are the descriptors that stay open
_AWAY: Final = "move it out of the way"
_ELSE: Final = "name another file"  # a path typed in error: /dev/null is not to be moved
_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}
_REMEDIES: Final = {"a device": _ELSE, "a directory": f"{_ELSE}, or {_AWAY}"}


class ForeignFile(PermissionError):
    """The file belongs to a user who is not the folder's owner."""


class SecondName(OSError):
    """The file has another name, or another folder, than the one it was opened by."""


class Folder:
    """A folder that is held open, and the one way to open the files in it.

    Args:
        path: the folder. Folders on the way, and the last one, may be symbolic links.

    Raises `OSError`; as root also for a folder that others may lead elsewhere.

    >>> import tempfile
    >>> with Folder(tempfile.mkdtemp()) as folder:
    ...     os.symlink("/a", folder.path / "b")
    ...     folder.open("b", os.O_RDONLY)
    Traceback (most recent call last):
    OSError: [Errno 40] it is a symbolic link; remove it, or name the file that it leads to, /a
    """

    fd = -1  # before `__init__`, which a signal may break off

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.fd = above_streams(_walk(self.path) if os.geteuid() == ROOT else os.open(path, FOLDER))
        status = os.fstat(self.fd)
        self.owner = status.st_uid
        self.group = status.st_gid
        self.mode = stat.S_IMODE(status.st_mode)
        self.device = status.st_dev

    @property
    def is_mine(self) -> bool:
        """Whether files may be made here: by the folder's owner, or root, who hands them over."""
        return os.geteuid() in (self.owner, ROOT)

    @property
    def is_shared(self) -> bool:
        """Whether files in it are its group's: the folder has the set-group-ID bit, as 2750 has."""
        return bool(self.mode & stat.S_ISGID and self.mode & stat.S_IXGRP)

    def open(self, name: str, flags: int, *, one_name: bool = False, not_mine: bool = False) -> int:
        """Return a descriptor of the regular file `name` in this folder.

        Args:
            name: the last part of its path.
            flags: of open(2), but for `O_CREAT`.
            one_name: refuse a file that has another name somewhere (a hard link).
            not_mine: refuse a file of this process's own user in another user's folder.

        Raises `OSError`, whose text says what is wrong with the file and what to do.
        """
        try:
            fd = os.open(name, flags | SAFE, dir_fd=self.fd)
        except OSError as error:
            raise self._plainer(error, name, flags) from None
        try:
            self.check(os.fstat(fd), name, one_name=one_name, not_mine=not_mine)
            return above_streams(fd)
        except BaseException:
            os.close(fd)
            raise

    def make(self, name: str, flags: int, mode: int | None = None, *, writers: bool = False) -> int:
        """Return a descriptor of a new file, which belongs to the folder's owner.

        Args:
            name: the last part of its path.
            flags: of open(2); `O_CREAT` and `O_EXCL` come by themselves.
            mode: its permission bits. None: 0660 in a shared folder, elsewhere what the umask
                leaves of 0666.
            writers: only for those that can write it, as who can read it can lock it.

        Raises `OSError`: `FileExistsError` also when a link or a folder bears that name.
        """
        first = 0o600 if mode is not None else 0o622 if writers else 0o666
        fd = os.open(name, flags | os.O_CREAT | os.O_EXCL | SAFE, first, dir_fd=self.fd)
        try:
            if os.geteuid() == ROOT and self.owner != ROOT:
                os.fchown(fd, self.owner, self.group)
            if mode is None and self.is_shared:
                mode = 0o660
            if mode is None and writers:
                mode = for_writers(os.fstat(fd).st_mode | 0o044)
            if mode is not None:
                os.fchmod(fd, mode)
            return above_streams(fd)
        except BaseException:
            os.close(fd)
            raise

    def check(
        self,
        status: os.stat_result,
        name: str,
        *,
        one_name: bool = False,
        not_mine: bool = False,
    ) -> None:
        """Raise `OSError` unless this is the status of a file that may be used."""
        kind = stat.S_IFMT(status.st_mode)
        if kind != stat.S_IFREG:
            what = _KINDS.get(kind, "something else")
            raise OSError(
                errno.EINVAL, f"it is {what}, not a regular file; {_REMEDIES.get(what, _AWAY)}"
            )
        owners = (self.owner, ROOT) if not_mine else (self.owner, ROOT, os.geteuid())
        if status.st_uid not in owners:
            raise ForeignFile(
                errno.EPERM,
                f"it belongs to {user_name(status.st_uid)}, not to {user_name(self.owner)}, whose"
                f" folder it is in; as root: chown -h {user_name(self.owner)}"
                f" {quoted(self.path / name)}",
            )
        if one_name and status.st_nlink > 1:
            raise SecondName(
                errno.EMLINK,
                f"it has {status.st_nlink} names (hard links); find them with"
                f" find {quoted(mount_of(self.path))} -xdev -samefile {quoted(self.path / name)}"
                " and remove the others",
            )

    def _plainer(self, error: OSError, name: str, flags: int) -> OSError:
        """Say what stands in the way, where open(2) says it in a riddle."""
        if error.errno == errno.ELOOP:
            target = quoted(Path(os.path.realpath(self.path / name)))
            said = "it is a symbolic link; remove it, or name the file that it leads to"
            return OSError(errno.ELOOP, f"{said}, {target}")
        if error.errno in (errno.ENXIO, errno.EISDIR, errno.ENODEV, errno.EACCES, errno.EPERM):
            try:
                status = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
                self.check(status, name)
            except FileNotFoundError:
                pass
            except OSError as plainer:
                if plainer.errno != errno.EACCES:
                    return plainer
            else:
                if error.errno == errno.EACCES and flags & os.O_ACCMODE == os.O_RDONLY:
                    return PermissionError(errno.EACCES, f"{error.strerror}: {_who_reads(status)}")
        return error

    def names(self) -> list[str]:
        """Return what there is in the folder. Raises `OSError`."""
        fd = self._opened_to_read()
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def sync(self) -> None:
        """Return when what was made, renamed and deleted in it is on disk. Raises `OSError`."""
        fd = self._opened_to_read()
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _opened_to_read(self) -> int:
        """A descriptor that is good for more than to open files by it."""
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)

    def close(self) -> None:
        """Let go of the folder; what was opened in it stays open."""
        fd, self.fd = self.fd, -1  # so that it is closed once, even if a signal breaks in
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def for_writers(mode: int) -> int:
    """Take the permission to read from those that cannot write.

    >>> oct(for_writers(0o644)), oct(for_writers(0o664))
    ('0o600', '0o660')
    """
    return mode & 0o600 | sum(6 << n for n in (0, 3) if mode & 2 << n)


def quoted(path: Path) -> str:
    """Return a path as a word of the shell, for a message.

    >>> quoted(Path("/srv/my shop"))
    "'/srv/my shop'"
    """
    import shlex  # here, as only messages need it

    return shlex.quote(str(path))


def is_ours(fd: int) -> bool:
    """Whether a descriptor that a `Folder` has opened is still that: not closed, nor another's.

    >>> import tempfile
    >>> with Folder(tempfile.mkdtemp()) as folder:
    ...     fd = folder.make("a", os.O_RDWR)
    >>> is_ours(fd), os.close(fd), is_ours(fd)
    (True, None, False)
    """
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL) & MARK == MARK
    except (OSError, ValueError):  # the latter for a number below 0
        return False


def set_apart(fd: int) -> int:
    """Return a copy with a high number of a descriptor that is to stay open, and close that.

    Half of what this process may have, where that is less; the same one, where none is left.

    >>> fd = set_apart(os.open("/", os.O_RDONLY))
    >>> fd >= min(APART, os.sysconf("SC_OPEN_MAX") // 2)
    True
    >>> os.close(fd)
    """
    try:
        try:
            copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, APART)
        except OSError:
            copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, os.sysconf("SC_OPEN_MAX") // 2)
    except OSError:
        return fd
    os.close(fd)
    return copy


def open_file(path: str | Path, flags: int, *, one_name: bool = False) -> int:
    """Open one file as `Folder.open` does; raises what that raises."""
    path = Path(path)
    with Folder(path.parent) as folder:
        return folder.open(path.name, flags, one_name=one_name)


def is_mounted_alone(folder: int, fd: int) -> bool:
    """Whether an open file is mounted by itself, not with the open folder that it is in.

    False where the kernel does not tell (proc(5), mnt_id: Linux 3.15).
    """
    ours = _mount_id(folder)
    return ours is not None and ours != _mount_id(fd)


def _mount_id(fd: int) -> bytes | None:
    try:
        info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(info, 4096)
    finally:
        os.close(info)
    return next((line for line in text.splitlines() if line.startswith(b"mnt_id:")), None)


def mount_of(path: Path) -> Path:
    """The top folder of the file system that an absolute path is on."""
    while path != path.parent and not os.path.ismount(path):
        path = path.parent
    return path


def _who_reads(status: os.stat_result) -> str:
    whose = user_name(status.st_uid)
    if status.st_mode & stat.S_IRGRP:
        whose = f"{whose} and the group {group_name(status.st_gid)}"
    return f"only {whose} can read it"


def user_name(uid: int) -> str:
    """The user's name for a message; the number of one that this machine does not know."""
    import pwd  # here, as only messages need it

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def above_streams(fd: int) -> int:
    """Return the descriptor, or a copy of it, where it is one of the three standard streams."""
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


# -- as root -------------------------------------------------------------------------------------


def _walk(path: Path) -> int:
    """Open a folder step by step; raise `PermissionError` where others could have led us astray."""
    passed: list[tuple[Path, os.stat_result]] = []
    place = Path("/") if path.is_absolute() else Path.cwd()
    fd = os.open(place, FOLDER)
    ahead = [part for part in reversed(path.parts) if part != "/"]
    links = 0
    try:
        passed.append((place, os.fstat(fd)))
        while ahead:
            part = ahead.pop()
            step = os.open(part, STEP, dir_fd=fd)
            status = os.fstat(step)
            if not stat.S_ISLNK(status.st_mode):
                above, fd, place = fd, step, place / part
                os.close(above)  # once, even if a signal breaks in here
                if not stat.S_ISDIR(status.st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, f"{place} is not a directory")
                passed.append((place, status))
                continue
            os.close(step)
            links += 1
            if links > MOST_LINKS:
                raise OSError(errno.ELOOP, f"{path} leads through too many symbolic links")
            target = Path(os.readlink(part, dir_fd=fd))
            if target.is_absolute():
                place, above = Path("/"), fd
                fd = os.open(place, FOLDER)
                os.close(above)
            ahead += [part for part in reversed(target.parts) if part != "/"]
        owner = passed[-1][1].st_uid
        for place, status in passed:
            _refuse_open_to_others(place, status, owner)
        return fd
    except BaseException:
        os.close(fd)
        raise


def _refuse_open_to_others(place: Path, status: os.stat_result, owner: int) -> None:
    """Raise `PermissionError` for a folder in which others than root and `owner` can write."""
    is_known = status.st_uid in (ROOT, owner)
    if is_known and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    word = quoted(place)
    if not is_known and status.st_uid not in _unmapped():
        whose = f"{place} belongs to {user_name(status.st_uid)}"
        me = user_name(owner)
        remedy = f"chown root {word}" if owner == ROOT else f"run this as {me}, not as root"
    elif status.st_mode & stat.S_ISVTX:
        return
    elif status.st_mode & stat.S_IWOTH:
        whose, remedy = f"every user can write in {place}", f"chmod o-w {word}"
    elif status.st_mode & stat.S_IWGRP and not group_is_only(status.st_gid, (ROOT, owner)):
        whose = f"the group {group_name(status.st_gid)} can write in {place}"
        remedy = f"chmod g-w {word}"
    else:
        return
    raise PermissionError(errno.EPERM, f"{whose}, so root could be led elsewhere: {remedy}")


def _unmapped() -> Iterator[int]:
    """The number that stands for users of outside, in a container that has not all users."""
    try:
        if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
            yield int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return


def group_is_only(gid: int, uids: Collection[int]) -> bool:
    """Whether no user but these is in a group; False for a group that is not known here."""
    import grp
    import pwd

    try:
        named = grp.getgrgid(gid).gr_mem
    except KeyError:
        return False
    members = {entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == gid}
    for name in named:
        try:
            members.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    return members <= set(uids)


def group_name(gid: int) -> str:
    """Return the name of a group, or its number where it has no name here."""
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
