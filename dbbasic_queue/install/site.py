"""Files as they are and as they should be, below a root, replaced whole or not at all.

The plain half of the installers: where things lie (`Site`), what is there (`Existing`), what is
wanted (`Wanted`), and the store of all targets whose files are plain files (`PlainFiles`).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InstallError
from ..support.account import user_entry
from ..support.files import NewFile, refusing, replace_all, sync_folder
from ..support.opening import SAFE, Folder

SYSTEM_STATE = Path("/var/lib/dbbasic-queue")
# How what our entries write for others begins: metrics, and pages.
OURS = re.compile(
    rb"# HELP dbq_|<!doctype html>[^\0]{,100}<meta name=\"generator\" content=\"dbbasic-queue\">"
)
USER_STATE = Path(".local/state/dbbasic-queue")


@dataclass(frozen=True)
class Site:
    """The machine, or image of one, and whose part of it an installation belongs to.

    Args:
        user: login name for a user's crontab or units, None for the system's.
        root: "/" for the running system, else the top folder of an image or package.
        home: the user's home folder as that system sees it; looked up if not given.
    """

    user: str | None = None
    root: Path = Path("/")
    home: Path | None = None

    @property
    def live(self) -> bool:
        """Whether this is the running system, where things can be activated."""
        return self.root == Path("/")

    @property
    def state(self) -> Path:
        """The folder of manifests and backups, without the root."""
        if self.user is None:
            return SYSTEM_STATE
        return self.home_folder() / USER_STATE

    @property
    def installed(self) -> Path:
        """The folder of manifests, below the root."""
        return self.below(self.state / "installed")

    @property
    def backups(self) -> Path:
        """The folder that keeps what was overwritten, below the root."""
        return self.below(self.state / "backups")

    def home_folder(self) -> Path:
        """The user's home folder, without the root. Raises `InstallError` for an unknown user."""
        if self.home is not None:
            return self.home
        if self.user is None:
            raise InstallError("a system installation has no home folder")
        return Path(user_entry(self.user, InstallError).pw_dir)

    def below(self, path: Path) -> Path:
        """Where an absolute path of that system lies on this one; never outside the root."""
        if self.live:
            return path
        inside = self.root / path.relative_to("/")
        if not inside.parent.resolve().is_relative_to(self.root.resolve()):
            raise InstallError(f"{inside}: a symbolic link leads out of {self.root}")
        return inside


@dataclass(frozen=True)
class Wanted:
    """One file as it should be. `path` is absolute and does not contain `--root`."""

    path: Path
    text: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Existing:
    """One file as it is. `sound` is False if its mode or owner would be wrong for any text."""

    text: bytes
    mode: int
    sound: bool = True


class PlainFiles:
    """The store of targets whose files are plain files; see `FileStore` in target.py.

    A file is sound if it is a regular file of the user who installs it. A symbolic link in its
    place (a masked unit) is a decision of the administrator, and shows as edited.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def read(self, path: Path) -> Existing | None:
        """See `FileStore.read`."""
        real = self._site.below(path)
        with refusing(real, "cannot read", InstallError):
            try:
                return _look_at(real)
            except (FileNotFoundError, NotADirectoryError):
                # It was never there, or another installer took it away between two looks.
                return None

    def write(self, files: Sequence[Wanted]) -> None:
        """See `FileStore.write`."""
        with refusing(files[0].path.parent, "cannot write in", InstallError):
            for file in files:
                self._site.below(file.path).parent.mkdir(parents=True, exist_ok=True)
            replace_all(
                [NewFile(self._site.below(file.path), file.text, file.mode) for file in files]
            )

    def delete(self, path: Path) -> None:
        """See `FileStore.delete`."""
        real = self._site.below(path)
        with refusing(real, "cannot delete", InstallError):
            real.unlink(missing_ok=True)
            sync_folder(real.parent)


def _look_at(real: Path) -> Existing:
    """The file at this path. Raises `OSError`, `InstallError` if it is not a regular file."""
    status = real.lstat()
    if stat.S_ISLNK(status.st_mode):
        target = os.fsencode(os.readlink(real))
        return Existing(b"symbolic link to " + target + b"\n", 0o777, False)
    if not stat.S_ISREG(status.st_mode):
        raise InstallError(f"{real}: is not a regular file; move it out of the way")
    # A pipe or a link put in its place meanwhile must neither hold root up nor lead it away.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(real, flags), "rb") as stream:
        status = os.fstat(stream.fileno())
        mine = status.st_uid == os.geteuid()
        return Existing(stream.read(), stat.S_IMODE(status.st_mode), mine)


def delete_own(path: Path) -> None:
    """Delete a file that our commands wrote into a folder of others, if it still is one of ours.

    Raises `InstallError` if the folder's owner could lead root elsewhere, or the system refuses.
    """
    if not os.path.lexists(path):
        return
    said = "left behind, to be removed by hand:"
    with refusing(path, said, InstallError), Folder(path.parent) as folder:
        status = os.stat(path.name, dir_fd=folder.fd, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            return  # put there by another: we write files
        handle = os.open(path.name, os.O_RDONLY | SAFE, dir_fd=folder.fd)
        try:
            ours = OURS.match(os.read(handle, 256))
        finally:
            os.close(handle)
        if ours:
            os.unlink(path.name, dir_fd=folder.fd)


def keep_backup(site: Site, path: Path, text: bytes) -> Path:
    """Keep a text that is about to be overwritten; one copy a path, readable by its owner only."""
    copy = site.backups / "-".join(path.parts[1:])
    with refusing(copy, "cannot keep a backup in", InstallError):
        copy.parent.mkdir(parents=True, exist_ok=True)
        replace_all([NewFile(copy, text)])
    return copy
