"""The parties that share a queue, as real users: what each tries is done in a process of its own.

Users are numbers that this machine does not know, so that nothing has to be made or removed. Only
root can become them.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import pytest

from dbbasic_queue.support.account import Account
from dbbasic_queue.support.child import call

T = TypeVar("T")

SECONDS: Final = 20  # that an attempt may take before it counts as hanging
SHARED: Final = 61100  # the group of the worker and the producers

ROOT: Final = Account("root", 0, 0, (0,), Path("/root"))
WORKER: Final = Account("worker", 61001, SHARED, (SHARED,), Path("/nonexistent"))
PRODUCER: Final = Account("producer", 61002, 61002, (61002, SHARED), Path("/nonexistent"))
READER: Final = Account("reader", 61003, 61003, (61003,), Path("/nonexistent"))

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can become the users that attack each other"
)


def as_user(user: Account, function: Callable[[], T], seconds: float = SECONDS) -> T:
    """Return what `function` returns, called by a process of that user; raises what it raises."""
    return call(function, seconds, user=user)


@contextmanager
def open_place() -> Iterator[Path]:
    """A folder of root's that all users can enter: pytest's own are closed to others."""
    place = Path(tempfile.mkdtemp(prefix="dbq-trust-", dir=_parent()))
    try:
        place.chmod(0o755)
        yield place
    finally:
        shutil.rmtree(place)


def _parent() -> str | None:
    """/run and /srv have no sticky bit; where they cannot be written, /tmp does."""
    for folder in ("/run", "/srv"):
        if os.access(folder, os.W_OK) and os.stat(folder).st_mode & stat.S_IXOTH:
            return folder
    return None


def own(path: Path, user: Account, mode: int, group: int | None = None) -> Path:
    """Give a file or folder to a user."""
    os.chown(path, user.uid, user.gid if group is None else group, follow_symlinks=False)
    path.chmod(mode)
    return path
