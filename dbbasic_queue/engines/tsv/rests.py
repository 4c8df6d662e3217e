"""The rests of a worker that has nothing to do, each until it is to look at the table again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ...support.notices import Notices

POLL: Final = 0.01  # seconds between two looks at the table while there is nothing to do
QUIET: Final = 1  # seconds without anything new, after which the kernel is asked to tell of it
SELDOM: Final = 1  # seconds between two looks then, as a clock may be set
LOOK_AGAIN: Final = 0.25  # seconds at least between two readings of the whole table
SHARE: Final = 20  # a reading is repeated after this many times what it took: 5 % at most


def rest_after(cost: float) -> float:
    """Return for how many seconds the whole table is not read again, as reading it took `cost`.

    >>> rest_after(0.001), rest_after(0.5)
    (0.25, 10.0)
    """
    return max(LOOK_AGAIN, SHARE * cost)


class Rests:
    """Short ones at first; then, where the kernel tells of changes (inotify), as long as it takes.

    A look costs some 20 microseconds, a hundred of them a second a fifth of a percent of a core.
    What the kernel tells may be of another file in the folder: then it is looked often for a while.

    Args:
        folder: of the table.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._new_at = time.monotonic()
        self._tells = True  # whether the kernel does
        self._notices: Notices | None = None

    def take(self, now: float, most: float) -> None:
        """Return when the table is to be looked at again, after `most` seconds at the latest.

        `now` is time.monotonic().
        """
        if now - self._new_at < QUIET or not self._tells:
            time.sleep(min(POLL, most))
        elif self._notices is not None:
            if self._notices.wait(min(SELDOM, most)):
                self._new_at = time.monotonic()
        else:
            from ...support.notices import Notices  # here, as a run of the timer's does not wait

            try:
                self._notices = Notices(self._folder)  # and a look, at what came before that
            except OSError:
                self._tells = False

    def end(self) -> None:
        """Note that there is something to do. A handler must not find open files of ours."""
        self._new_at = time.monotonic()
        notices, self._notices = self._notices, None
        if notices is not None:
            notices.close()
