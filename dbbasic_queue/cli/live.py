"""The screen of `dbq top`: curses, and what its keys do."""

from __future__ import annotations

import curses
import os
import threading
from contextlib import suppress
from typing import Final

from ..errors import QueueError
from ..queue import Queue
from ..support.columns import width_of
from ..support.threads import without_signals
from ..views.following import Follower
from ..views.reading import Reading
from ..views.screen import Line, Span, View, drawn
from .common import DONE, reason
from .deeds import Deed, deed_of

TICK: Final = 1.0  # seconds between two looks at the queue
LISTEN: Final = 200  # milliseconds for a key, between two looks whether there is something to draw
FAR: Final = 10**6  # entries, to the first or the last
ESCAPE: Final = "\x1b"
ERASE: Final = ("\x7f", "\x08")
ENTER: Final = ("\n", "\r")


class Watcher(threading.Thread):
    """Looks at the queue each second, so that the keys need not wait for that."""

    def __init__(self, follower: Follower) -> None:
        super().__init__(daemon=True)
        self._follower = follower
        self._wake = threading.Event()
        self._hurried = False
        self.reading: Reading | None = None
        self.fault = ""  # why there is no newer reading
        self.broken: BaseException | None = None

    def hurry(self) -> None:
        """Look at once: something was changed."""
        self._hurried = True
        self._wake.set()

    def run(self) -> None:
        """Look until the process ends."""
        try:
            while True:
                self._look()
                self._wake.wait(TICK)
                self._wake.clear()
        except BaseException as error:
            self.broken = error

    def _look(self) -> None:
        if self._hurried:
            self._hurried = False
            self._follower.hurry()
        try:
            self.reading = self._follower.look()
            self.fault = ""
        except (QueueError, OSError) as error:
            self.fault = reason(error)


class Top:
    """The screen: draws what the watcher has read, and does what the keys say."""

    def __init__(self, window: curses.window, queue: Queue, follower: Follower) -> None:
        self._window = window
        self._queue = queue
        self._view = View()
        self._deed: Deed | None = None  # that was asked for
        self._typing = False  # a filter
        self._drawn: object = None
        self._styles = _styles()
        self._watcher = Watcher(follower)
        with without_signals():
            self._watcher.start()

    def run(self) -> int:
        """Draw and listen until the person leaves; returns the exit code."""
        curses.set_escdelay(25)
        self._window.timeout(LISTEN)
        self._window.keypad(True)
        while True:
            if self._watcher.broken is not None:
                raise self._watcher.broken
            self._draw()
            try:
                key = self._window.get_wch()
            except curses.error:  # none was pressed
                continue
            except KeyboardInterrupt:
                return DONE
            if not self._press(key):
                return DONE

    # -- keys ----------------------------------------------------------------------------------

    def _press(self, key: str | int) -> bool:
        """Do what a key says; whether to go on."""
        self._drawn = None
        if key == curses.KEY_RESIZE:
            return True
        if self._typing:
            self._type(key)
        elif self._deed is not None:
            self._answer(key)
        elif key in ("q", "Q"):
            return False
        else:
            self._command(key)
        return True

    def _command(self, key: str | int) -> None:
        page = max(1, self._window.getmaxyx()[0] - 6)
        moves: dict[str | int, int] = {
            curses.KEY_UP: -1,
            curses.KEY_DOWN: 1,
            curses.KEY_PPAGE: -page,
            curses.KEY_NPAGE: page,
            curses.KEY_HOME: -FAR,
            curses.KEY_END: FAR,
        }
        self._say("")
        if key in moves:
            self._view.move(moves[key])
        elif key == "/":
            self._typing = True
            self._say(f"filter: {self._view.filter}")
        elif key == ESCAPE:
            self._view.filter = ""
        elif isinstance(key, str) and key in "rcp":
            self._ask(key)

    def _type(self, key: str | int) -> None:
        """Take in a character of the filter."""
        if key in ENTER or key == ESCAPE or key == curses.KEY_ENTER:
            self._typing = False
            if key == ESCAPE:
                self._view.filter = ""
            self._say("")
            return
        if key in ERASE or key == curses.KEY_BACKSPACE:
            self._view.filter = self._view.filter[:-1]
        elif isinstance(key, str) and key.isprintable():
            self._view.filter += key
        self._say(f"filter: {self._view.filter}")

    def _ask(self, key: str) -> None:
        try:
            deed = deed_of(key, self._view.entry(), self._queue)
        except (QueueError, OSError) as error:
            deed = reason(error)
        if isinstance(deed, str):
            self._say(deed, warning=True)
        else:
            self._deed = deed
            self._say(f"{deed.question} [y/N]")

    def _answer(self, key: str | int) -> None:
        deed, self._deed = self._deed, None
        assert deed is not None
        if key not in ("y", "Y"):
            self._say("nothing was done")
            return
        try:
            self._say(deed.act())
        except (QueueError, OSError, ValueError) as error:
            self._say(reason(error), warning=True)
        self._watcher.hurry()

    def _say(self, text: str, *, warning: bool = False) -> None:
        self._view.foot, self._view.warning = text, warning

    # -- drawing -------------------------------------------------------------------------------

    def _draw(self) -> None:
        """Draw the screen, if it is not drawn yet as it would be now."""
        reading, fault = self._watcher.reading, self._watcher.fault
        lines, columns = self._window.getmaxyx()
        now = (id(reading), fault, lines, columns)
        if now == self._drawn:
            return
        self._drawn = now
        if fault and not self._view.foot:
            self._say(fault, warning=True)
        self._window.erase()
        if reading is not None:
            for number, (line, chosen) in enumerate(drawn(reading, self._view, columns, lines)):
                self._draw_line(number, line, chosen, columns)
        else:
            self._draw_line(0, [Span(fault or "reading the queue ...")], False, columns)
        self._window.refresh()

    def _draw_line(self, number: int, line: Line, chosen: bool, columns: int) -> None:
        column = 0
        for text, style in line:
            encoding = self._window.encoding
            shown = text.encode(encoding, "backslashreplace").decode(encoding)
            # It fails at the last place of the screen, behind which no cursor can stand.
            with suppress(curses.error):
                self._window.addstr(number, column, shown, self._styles[style])
            column += width_of(shown)
        if chosen:
            self._window.chgat(number, 0, columns, curses.A_REVERSE)


def _styles() -> dict[str, int]:
    """The attributes of each style: colours, where the terminal has them and the person wants."""
    with suppress(curses.error):  # a cursor that cannot be hidden
        curses.curs_set(0)
    plain = {"plain": 0, "bold": curses.A_BOLD, "dim": curses.A_DIM}
    plain["title"] = curses.A_BOLD | curses.A_UNDERLINE
    colours = {"good": 2, "warn": 3, "bad": 1, "running": 6}
    if curses.has_colors():
        curses.use_default_colors()  # else what is plain is white on black
    if not curses.has_colors() or os.environ.get("NO_COLOR"):
        return {**plain, **dict.fromkeys(colours, curses.A_BOLD)}
    for pair, colour in enumerate(colours.values(), 1):
        curses.init_pair(pair, colour, -1)
    return {**plain, **{name: curses.color_pair(n) for n, name in enumerate(colours, 1)}}
