"""Files as they are and as they shall be, below a root, replaced whole or not at all.

The plain half of the installers: where things lie (`Site`), what is there (`Found`), what is
wanted (`File`), and the store of all targets whose files are plain files (`Folders`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InstallError
from ..support.account import user_entry
from ..support.files import NewFile, refusing, replace_all, sync_folder

SYSTEM_STATE = Path("/var/lib/dbbasic-queue")
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
class File:
    """One file as it shall be. `path` is absolute and does not contain `--root`."""

    path: Path
    text: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Found:
    """One file as it is. `sound` is False if its mode or owner would be wrong for any text."""

    text: bytes
    mode: int
    sound: bool = True


class Folders:
    """The store of targets whose files are plain files.

    A file is sound if it is a regular file of whoever installs it; a symbolic link in its place
    (a masked unit) is somebody's decision and shows as edited.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def read(self, path: Path) -> Found | None:
        """See `Store.read`."""
        real = self._site.below(path)
        with refusing(real, "cannot read", InstallError):
            try:
                status = real.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return None
            if stat.S_ISLNK(status.st_mode):
                return Found(f"symbolic link to {os.readlink(real)}\n".encode(), 0o777, False)
            if not stat.S_ISREG(status.st_mode):
                raise InstallError(f"{real}: is in the way and no file; move it away")
            mine = status.st_uid == os.geteuid()
            return Found(real.read_bytes(), stat.S_IMODE(status.st_mode), mine)

    def write(self, files: Sequence[File]) -> None:
        """See `Store.write`."""
        with refusing(files[0].path.parent, "cannot write in", InstallError):
            for file in files:
                self._site.below(file.path).parent.mkdir(parents=True, exist_ok=True)
            replace_all(
                [NewFile(self._site.below(file.path), file.text, file.mode) for file in files]
            )

    def delete(self, path: Path) -> None:
        """See `Store.delete`."""
        real = self._site.below(path)
        with refusing(real, "cannot delete", InstallError):
            real.unlink(missing_ok=True)
            sync_folder(real.parent)
