"""Every error this library raises on purpose, under one base class.

A caller who wants one net catches `QueueError`; only `JobCancelled` is meant to pass through it.
Each leaf is also of the built-in class that fits it (`ValueError`, `OSError`), so that code that
knows nothing of this module still reads well.
"""

from __future__ import annotations


class QueueError(Exception):
    """Base of all errors of dbbasic-queue."""


class InvalidJob(QueueError, ValueError):
    """What was handed in cannot be a job: its type, payload, id or time. Nothing was written."""


class JobExists(InvalidJob):
    """A job with this id is there already, with another type or payload. Nothing was written."""


class IllegalTransition(QueueError):
    """A job in this state cannot enter that one. Nothing was changed."""


class TableError(QueueError):
    """The file is not a queue table, or this operation does not fit one. Nothing was changed."""


class StorageError(QueueError, OSError):
    """The operating system refused a read, write or sync of the table; `errno` says which way."""


class Unsupported(QueueError):
    """What keeps the jobs cannot do this; the message says what to do instead. Nothing was done."""


class MigrationError(QueueError):
    """The jobs cannot be moved like that, or not all of them; the message says what to do."""


class EditRefused(QueueError):
    """The edited table was not taken; the message has every reason, a line each."""

    line: int | None = None  # of the edited text, where the first thing is wrong


class JobTimeout(QueueError):
    """A handler ran for longer than its timeout. Raised inside the handler."""


class CommandFailed(QueueError):
    """A program that a job runs could not be started, or ended as it should not."""


class JobCancelled(BaseException):
    """A job was cancelled while it ran. Raised inside the handler, to break it off.

    Not an `Exception`, which handlers catch to try again; so the one that is not a `QueueError`. A
    handler that cleans up has `finally`, or catches this and raises it again. The job of one that
    catches it and returns is completed.
    """


class ConfigError(QueueError):
    """The configuration has faults; the message lists all of them, one a line."""


class InstallError(QueueError):
    """This cannot be installed, removed or activated; the message says what was left as it was."""

    patch = ""  # a unified diff, if there is one to show


class ScheduleError(QueueError, ValueError):
    """The text is not a schedule, never fires, or cron and systemd cannot both express it."""
