"""The kernel's word that something in a folder has changed: inotify(7).

What it tells of: files of the folder that are written to, made, or renamed. It does not tell of
what another machine does on a network file system, so a look now and then is needed all the same.
"""

from __future__ import annotations

import os
from typing import Final

# <sys/inotify.h>, the same on all of Linux's machines that Python runs on.
_IN_MODIFY: Final = 0x2
_IN_MOVED_TO: Final = 0x80
_IN_CREATE: Final = 0x100
_AT_MOST: Final = 1 << 16  # bytes of notices that are read at a time


class Notices:
    """What happens in a folder from now on.

    Raises `OSError` where the kernel cannot tell: it is not Linux, or the user has as many of these
    as fs.inotify.max_user_instances allows.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     notices = Notices(folder)
    ...     before = notices.wait(0)
    ...     open(folder + "/new", "w").close()
    ...     before, notices.wait(5)
    ...     notices.close()
    (False, True)
    """

    def __init__(self, folder: str) -> None:
        import ctypes  # which takes milliseconds that a worker with work to do has no use for
        import select

        try:
            libc = ctypes.CDLL(None, use_errno=True)
            init, add = libc.inotify_init1, libc.inotify_add_watch
        except (OSError, AttributeError) as error:
            raise OSError(f"there is no inotify here: {error}") from error
        self._fd: int = init(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        if add(self._fd, os.fsencode(folder), _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE) < 0:
            number = ctypes.get_errno()
            self.close()
            raise OSError(number, os.strerror(number), folder)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Wait until something has happened since the last call, for so long; whether it has."""
        if not self._poll.poll(seconds * 1000):
            return False
        os.read(self._fd, _AT_MOST)
        return True

    def close(self) -> None:
        """End it. To be called once."""
        os.close(self._fd)
