"""The configuration file, `dbq.toml`, as frozen dataclasses; all its faults at once."""

from __future__ import annotations

import os.path
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..schedule.marks import marks_file
from ..schedule.recurring import RecurringJob, RecurringJobs
from ..schedule.schedule import Schedule
from ..support.durations import format_duration
from ..support.files import family
from . import values
from .reader import Table, where
from .toml_lines import KeyPath, key_lines, line_of, unread_line

EVERY_MINUTE = Schedule.parse("* * * * *")
EVERY_FIVE_MINUTES = Schedule.parse("*/5 * * * *")
NIGHTLY = Schedule.parse("30 3 * * *")
MINUTE, HOUR = 60, 3600


@dataclass(frozen=True)
class QueueConfig:
    """`[queue]`: the table and how safely it is written."""

    file: Path
    durability: str = "full"


@dataclass(frozen=True)
class WorkerConfig:
    """`[worker]`: what runs the jobs, when, as whom. `timeout` (a job's), `linger` in seconds."""

    handlers: str
    schedule: Schedule = EVERY_MINUTE
    python: str = sys.executable
    directory: Path | None = None
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_file: Path | None = None
    max_attempts: int = 3
    timeout: int | None = None
    concurrency: int = 1
    linger: int = 0
    hardening: str = "network"


RecurringConfig = RecurringJob


@dataclass(frozen=True)
class PruneConfig:
    """`[prune]`: for how many seconds jobs are kept once they ended; None keeps them for ever."""

    schedule: Schedule = NIGHTLY
    completed: int | None = None
    cancelled: int | None = None
    failed: int | None = None


@dataclass(frozen=True)
class HealthConfig:
    """`[health]`: after how many seconds something is a fault, and who is told."""

    schedule: Schedule = EVERY_FIVE_MINUTES
    stuck_after: int = 30 * MINUTE
    overdue_after: int = 5 * MINUTE
    silent_after: int = 10 * MINUTE
    failed_within: int = 24 * HOUR
    textfile: Path | None = None
    ping_url: str | None = None


@dataclass(frozen=True)
class LogConfig:
    """`[log]`: the worker's log and its rotation."""

    file: Path
    frequency: str = "daily"
    rotate: int = 14


@dataclass(frozen=True)
class Config:
    """A whole `dbq.toml`. `path` is the file's own, absolute, as are all other paths."""

    name: str
    path: Path
    queue: QueueConfig
    worker: WorkerConfig
    recurring: tuple[RecurringJob, ...] = ()
    prune: PruneConfig | None = None
    health: HealthConfig | None = None
    log: LogConfig | None = None

    @property
    def recurring_jobs(self) -> RecurringJobs:
        """The recurring jobs, with what it takes to enqueue each slot once."""
        return RecurringJobs(self.path, self.name, self.recurring, marks_file(self.queue.file))

    @property
    def directory(self) -> Path:
        """The folder that every entry runs in: `[worker].directory`, else the config's own."""
        return self.worker.directory or self.path.parent

    @property
    def environment_variables(self) -> dict[str, str]:
        """The variables that every entry is given, by name; `PATH` is always among them.

        cron's own PATH is `/usr/bin:/bin`, systemd's has no virtual environment in it. Unless the
        config sets another, the interpreter's folder comes first, then the usual ones.
        """
        folders = [os.path.dirname(self.worker.python), "/usr/local/bin", "/usr/bin", "/bin"]
        path = ":".join(dict.fromkeys(folder for folder in folders if ":" not in folder))
        return {"PATH": path, **self.worker.environment}


def load(path: str | Path) -> Config:
    """Return the configuration in the file `path`.

    Raises `ConfigError`, whose message has one line for each fault of the file,
    `dbq.toml:LINE: [section].key: what is wrong`, with `path` as it was given.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file; name yours by --config or $DBQ_CONFIG, "
            "or write one with: dbq init"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 text") from None
    return parse(text, path)


def parse(text: str, path: str | Path) -> Config:
    """Return the configuration that `text`, the content of the file `path`, says.

    Raises `ConfigError` as `load` does.

    >>> text = '[queue]\\nfile = "data/queue.tsv"\\n[worker]\\nhandlers = "myapp.jobs:HANDLERS"'
    >>> config = parse(text, "/srv/myapp/dbq.toml")
    >>> config.name, config.queue.file, config.worker.schedule.describe()
    ('myapp', PosixPath('/srv/myapp/data/queue.tsv'), 'every minute')
    """
    document = _document(text, path)
    faults: dict[KeyPath, str] = dict(_forbidden(document))
    absolute = Path(os.path.abspath(path))
    config = _read(Table(document, (), faults), absolute)
    if not faults:
        return config
    lines = key_lines(text)
    numbered = sorted(
        (line_of(lines, key), where(key, document), said) for key, said in faults.items()
    )
    raise ConfigError("\n".join(f"{path}:{line}: {key}: {said}" for line, key, said in numbered))


def name_from_folder(folder: Path) -> str | None:
    """Return the name of a config in `folder` that says no other: the folder's, made to fit.

    >>> name_from_folder(Path("/srv/My App"))
    'my-app'
    """
    text = re.sub("[^a-z0-9]+", "-", folder.name.lower())
    text = re.sub("^[^a-z]+", "", text)[:32].strip("-")
    return text or None


def _document(text: str, path: str | Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said, _, place = str(error).rpartition(" (at ")
        found = re.match("line ([0-9]+)", place)
        line = int(found[1]) if found else unread_line(text)
    except (ValueError, RecursionError) as error:
        said, line = str(error), unread_line(text)
    raise ConfigError(f"{path}:{line}: is not valid TOML: {said}")


def _forbidden(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Faults of all keys and strings that hold a character which none may hold."""
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    elif isinstance(value, str) and (found := values.forbidden(value)):
        yield path, f"holds the character {found}, and control characters are not allowed"
    for key, child in children:
        if isinstance(key, str) and (found := values.forbidden(key)):
            yield (*path, key), f"the key holds the character {found}"
        yield from _forbidden(child, (*path, key))


def _read(top: Table, path: Path) -> Config:
    folder = path.parent
    config = Config(
        name=_name(top, folder),
        path=path,
        queue=_queue(top.needed_section("queue"), folder),
        worker=_worker(top.needed_section("worker"), folder),
        recurring=_recurring(top.array("recurring")),
        prune=_prune(top.section("prune")),
        health=_health(top.section("health"), folder),
        log=_log(top.section("log"), folder),
    )
    top.finish()
    _refuse_same_file(top, config)
    return config


def _name(top: Table, folder: Path) -> str:
    name = name_from_folder(folder)
    if name is None:
        return top.need("name", values.name, "")
    return top.get("name", values.name, name)


def _queue(table: Table, folder: Path) -> QueueConfig:
    usual = QueueConfig(Path("queue.tsv"))
    section = QueueConfig(
        file=table.need("file", values.file_from(folder, ".tsv"), usual.file),
        durability=table.get("durability", values.one_of("full", "normal"), usual.durability),
    )
    table.finish()
    return section


def _worker(table: Table, folder: Path) -> WorkerConfig:
    usual = WorkerConfig("")
    count, path, file = values.at_least(1), values.path_from(folder), values.file_from(folder)
    profile = values.one_of("isolated", "network", "compat")
    section = WorkerConfig(
        handlers=table.need("handlers", values.handlers, usual.handlers),
        schedule=table.get("schedule", values.schedule, usual.schedule),
        python=table.get("python", values.interpreter_from(folder), usual.python),
        directory=table.get("directory", path, usual.directory),
        user=table.get("user", values.user, usual.user),
        environment=_environment(table),
        environment_file=table.get("environment_file", file, usual.environment_file),
        max_attempts=table.get("max_attempts", count, usual.max_attempts),
        timeout=table.get("timeout", values.duration(1), usual.timeout),
        concurrency=table.get("concurrency", values.at_least(1, 1000), usual.concurrency),
        linger=table.get("linger", values.duration(), usual.linger),
        hardening=table.get("hardening", profile, usual.hardening),
    )
    table.finish()
    return section


def _environment(worker: Table) -> dict[str, str]:
    table = worker.section("environment")
    if table is None:
        return {}
    for name in table.content:
        try:
            values.environment_name(name)
        except ValueError as error:
            table.fault((*table.path, name), str(error))
    return {name: table.get(name, values.environment_value, "") for name in table.content}


def _recurring(tables: list[Table]) -> tuple[RecurringJob, ...]:
    entries = [_recurring_entry(table) for table in tables]
    names = [entry.name for entry in entries]
    for number, (table, entry) in enumerate(zip(tables, entries, strict=True)):
        if entry.name and entry.name in names[:number]:
            table.fault((*table.path, "name"), f"{entry.name!r} is the name of one above already")
    return tuple(entries)


def _recurring_entry(table: Table) -> RecurringJob:
    usual = RecurringJob("", "", {}, EVERY_MINUTE)
    entry = RecurringJob(
        name=table.need("name", values.name, usual.name),
        type=table.need("type", values.job_type, usual.type),
        payload=table.get("payload", values.payload, usual.payload),
        schedule=table.need("schedule", values.schedule, usual.schedule),
        jitter=table.get("jitter", values.duration(), usual.jitter),
        catch_up=table.get("catch_up", values.boolean, usual.catch_up),
    )
    table.finish()
    is_given = "schedule" in table.content and (*table.path, "schedule") not in table.faults
    if entry.jitter and is_given and entry.jitter >= (gap := entry.schedule.shortest_gap()):
        said = f"must be shorter than the {format_duration(gap)} from one run to the next"
        table.fault((*table.path, "jitter"), said)
    return entry


def _prune(table: Table | None) -> PruneConfig | None:
    if table is None:
        return None
    usual, age = PruneConfig(), values.duration()
    section = PruneConfig(
        schedule=table.get("schedule", values.schedule, usual.schedule),
        completed=table.get("completed", age, usual.completed),
        cancelled=table.get("cancelled", age, usual.cancelled),
        failed=table.get("failed", age, usual.failed),
    )
    table.finish()
    if not {"completed", "cancelled", "failed"} & table.content.keys():
        table.fault(
            table.path, "prunes nothing; say for how long completed, cancelled or failed are kept"
        )
    return section


def _health(table: Table | None, folder: Path) -> HealthConfig | None:
    if table is None:
        return None
    usual, age = HealthConfig(), values.duration(1)
    section = HealthConfig(
        schedule=table.get("schedule", values.schedule, usual.schedule),
        stuck_after=table.get("stuck_after", age, usual.stuck_after),
        overdue_after=table.get("overdue_after", age, usual.overdue_after),
        silent_after=table.get("silent_after", age, usual.silent_after),
        failed_within=table.get("failed_within", age, usual.failed_within),
        textfile=table.get("textfile", values.file_from(folder, ".prom"), usual.textfile),
        ping_url=table.get("ping_url", values.url, usual.ping_url),
    )
    table.finish()
    return section


def _log(table: Table | None, folder: Path) -> LogConfig | None:
    if table is None:
        return None
    usual = LogConfig(Path())
    words = values.one_of("hourly", "daily", "weekly", "monthly", "yearly")
    section = LogConfig(
        file=table.need("file", values.file_from(folder), usual.file),
        frequency=table.get("frequency", words, usual.frequency),
        rotate=table.get("rotate", values.at_least(0, 10_000), usual.rotate),
    )
    table.finish()
    return section


def _refuse_same_file(top: Table, config: Config) -> None:
    """No other file of the config may be the queue's, or one of those beside it."""
    others = {
        ("log", "file"): config.log and config.log.file,
        ("health", "textfile"): config.health and config.health.textfile,
    }
    own = family(config.queue.file)
    for path, file in others.items():
        if file in own:
            top.fault(path, f"is {file.name}, one of the queue's own files; name another")
