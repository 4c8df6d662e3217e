"""The worker's log: kept whatever the application does to its logging, and whatever the disk does.

An application sets up its own logging when its handlers are imported, or later. `logging.config`
switches off every logger that it does not name, so the worker would fail in silence. And a log that
cannot be opened or written must not keep jobs from running: what it would have held goes to
standard error until it can be written again.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TextIO

from ..support.opening import ROOT, Folder
from .common import DONE, complain

APPEND = os.O_WRONLY | os.O_APPEND
FOR_ALL: Final = ("shm", "mqueue")  # folders in /dev where every user makes files
TRIES: Final = 5  # to open a log that is being rotated


class KeptLogger(logging.Logger):
    """A logger that stays on, at its level and with its handlers, once `keep` was called."""

    disabled = property(lambda self: False, lambda self, value: None)
    _kept: tuple[logging.Handler, ...] = ()

    def keep(self) -> None:
        """Keep the handlers and the level of now."""
        self._kept = tuple(self.handlers)

    def removeHandler(self, hdlr: logging.Handler) -> None:
        """Remove a handler, if it is not one of ours."""
        if hdlr not in self._kept:
            super().removeHandler(hdlr)

    def setLevel(self, level: int | str) -> None:
        """Set the level, before `keep`."""
        if not self._kept:
            super().setLevel(level)

    def makeRecord(self, *args: Any, **options: Any) -> logging.LogRecord:
        """A record; one of Python's own, where the application's factory raises outside a job."""
        try:
            return super().makeRecord(*args, **options)
        except Exception:
            *known, func, extra, sinfo = args
            record = logging.LogRecord(*known, func, sinfo)  # type: ignore[call-arg]
            record.__dict__.update(extra or {})
            return record

    def isEnabledFor(self, level: int) -> bool:
        """Whether a record of this level is logged; `logging.disable` is the application's."""
        return level >= self.level


def set_up(handlers: list[logging.Handler], level: int) -> None:
    """Log the events of the library to these handlers only, from now on and for good."""
    log = logging.getLogger("dbbasic_queue")
    log.__class__ = KeptLogger
    assert isinstance(log, KeptLogger)
    for handler in handlers:
        log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
    log.keep()


def own_stderr() -> TextIO | None:
    """Standard error, as it is now, whatever a handler does to it; None if there is none."""
    try:
        fd = os.dup(2)
    except OSError:
        return None
    os.set_inheritable(fd, False)
    encoding = encoding_of(fd)
    return open(fd, "w", buffering=1, encoding=encoding, errors="backslashreplace")


def encoding_of(fd: int) -> str:
    """Return how text is written there: to a terminal as the locale says, else as UTF-8.

    To a terminal of another encoding, bytes of UTF-8 are control characters, some of them.
    """
    if not os.isatty(fd):
        return "utf-8"
    return getattr(sys.__stderr__, "encoding", None) or "utf-8"


# What a handler has closed by its number, which may be another file's by now: not to be closed.
_lost: Final[list[Any]] = []


def _identity(stream: Any) -> tuple[int, int] | None:
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


class StderrLog(logging.StreamHandler[Any]):
    """A log on standard error, whatever a handler closes or puts in its place."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__(own_stderr())
        self.setFormatter(formatter)
        self._opened = _identity(self.stream)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; to standard error as it is now, once our copy of it is gone."""
        if self._opened is not None and _identity(self.stream) != self._opened:
            _lost.append(self.stream)
            self.stream = own_stderr() or sys.stderr
            self._opened = _identity(self.stream)
        super().emit(record)


class LogFile(logging.FileHandler):
    """A log file, opened anew when logrotate has moved it away.

    While it cannot be opened or written, records go to standard error, after a line that says why.

    Args:
        path: the file; created with its folder if it is missing.
        formatter: of the lines.
    """

    def __init__(self, path: str | Path, formatter: logging.Formatter) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self.setFormatter(formatter)
        self._instead = StderrLog(formatter)
        self._opened: tuple[int, int] | None = None  # device and number of the file
        self._told = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, wherever that is possible."""
        try:
            self._reopen()
            assert self.stream is not None
            self.stream.write(self.format(record) + self.terminator)
            self.stream.flush()
            self._told = ""
        except OSError as error:
            self._tell(error)
            self._instead.emit(record)
        except Exception:  # the application's own objects among the record's arguments
            self.handleError(record)

    def _reopen(self) -> None:
        try:
            status = os.stat(self.baseFilename)
        except FileNotFoundError:
            now = None
        else:
            now = status.st_dev, status.st_ino
        if self.stream is not None and _identity(self.stream) != self._opened:
            _lost.append(self.stream)
            self.stream = None
        if self.stream is not None and now != self._opened:
            stream, self.stream = self.stream, None
            stream.close()
        if self.stream is None:
            self.stream = self._open()

    def _open(self) -> Any:
        path = Path(self.baseFilename)
        is_device = path.parts[:2] == ("/", "dev") and path.parts[2] not in FOR_ALL
        if is_device:  # /dev/stderr, /dev/null
            fd = os.open(path, APPEND | os.O_CLOEXEC)
        else:
            _ensure_folder(path.parent)
            # Job types are in the log, so a producer chooses what is written there.
            with Folder(path.parent) as folder:
                fd = _open_or_make(folder, path.name)
        status = os.fstat(fd)
        self._opened = status.st_dev, status.st_ino
        return os.fdopen(fd, "a", encoding=self.encoding, errors=self.errors)

    def _tell(self, error: OSError) -> None:
        said = f"cannot write the log {self.baseFilename}: {error.strerror}; it goes here instead"
        if said != self._told:
            self._told = said
            complain(said, DONE)


def _open_or_make(folder: Folder, name: str) -> int:
    """Open the log, or make it where there is none. Raises `OSError`.

    Between a look and the making of it logrotate, or another worker, may have made it.
    """
    for _ in range(TRIES):
        with suppress(FileNotFoundError):
            return folder.open(name, APPEND, one_name=True)
        with suppress(FileExistsError):
            return folder.make(name, APPEND)
    raise FileNotFoundError(errno.ENOENT, "it is renamed again and again")


def to_terminal(stream: TextIO | None = None) -> bool:
    """Whether a person sees what is written to standard error."""
    stream = stream or sys.stderr
    return stream is not None and stream.isatty()


def _ensure_folder(path: Path) -> None:
    """Make a folder and those above it. Raises `OSError`; root makes none in a folder of others."""
    if os.path.lexists(path):
        return
    _ensure_folder(path.parent)
    with Folder(path.parent) as above:
        if os.geteuid() == ROOT != above.owner:
            raise PermissionError(errno.EACCES, f"root makes no folder in {above.path}")
        with suppress(FileExistsError):
            os.mkdir(path.name, dir_fd=above.fd)
