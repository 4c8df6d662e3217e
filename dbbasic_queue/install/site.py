"""Files as they are and as they shall be, below a root, replaced whole or not at all.

The plain half of the installers: where things lie (`Site`), what is there (`Found`), what is
wanted (`File`), and the store of all targets whose files are plain files (`Folders`).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InstallError

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
        try:
            return Path(pwd.getpwnam(self.user).pw_dir)
        except KeyError:
            raise InstallError(f"there is no user {self.user!r} on this machine") from None

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
        with refusing(real, "cannot read"):
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
        with refusing(files[0].path.parent, "cannot write"):
            for file in files:
                self._site.below(file.path).parent.mkdir(parents=True, exist_ok=True)
            put_files([(self._site.below(file.path), file.text, file.mode) for file in files])

    def delete(self, path: Path) -> None:
        """See `Store.delete`."""
        real = self._site.below(path)
        with refusing(real, "cannot delete"):
            real.unlink(missing_ok=True)
            _sync_folder(real.parent)


def put_files(files: Sequence[tuple[Path, bytes, int]]) -> None:
    """Replace all these files: each is staged on disk before the first is renamed into place."""
    staged: list[tuple[Path, Path]] = []
    try:
        for path, text, mode in files:
            staged.append((_stage(path, text, mode), path))
        for temporary, path in staged:
            temporary.replace(path)
    except OSError:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)
        raise
    for folder in dict.fromkeys(path.parent for _, path in staged):
        _sync_folder(folder)


def _stage(path: Path, text: bytes, mode: int) -> Path:
    """Write a temporary file beside `path`, under a name that nobody takes for a real one.

    cron wants names of letters, digits, - and _ (cron(8)), systemd skips backup names, and
    logrotate's tabooext holds `~` (logrotate.conf(5)).
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix="~", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
    except OSError:
        os.unlink(name)
        raise
    return Path(name)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def refusing(path: Path, what: str) -> Iterator[None]:
    """Say which file the operating system refused, and why."""
    try:
        yield
    except OSError as error:
        raise InstallError(f"{path}: {what}: {error.strerror}") from error
