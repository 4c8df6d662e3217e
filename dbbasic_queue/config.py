"""The configuration file, `dbq.toml`, as frozen dataclasses; all its faults at once."""

from __future__ import annotations

import difflib
import os.path
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dbbasic_queue import config_values as values
from dbbasic_queue.errors import ConfigError
from dbbasic_queue.schedule import Schedule
from dbbasic_queue.toml_lines import KeyPath, key_lines, line_of

T = TypeVar("T")

EVERY_MINUTE = Schedule.parse("* * * * *")
MINUTE, HOUR = 60, 3600
RESERVED = ("worker", "prune", "health", "failure")
SECTIONS = ("queue", "worker", "recurring", "prune", "health", "log")


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """`[queue]`: the table and how safely it is written."""

    file: Path
    durability: str = "full"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """`[worker]`: what runs the jobs, when, as whom. `timeout` (of a job) and `linger` in seconds."""

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


@dataclass(frozen=True, slots=True)
class RecurringConfig:
    """One `[[recurring]]` job. `jitter` in seconds."""

    name: str
    type: str
    payload: dict[str, Any]
    schedule: Schedule
    jitter: int = 0
    catch_up: bool = False


@dataclass(frozen=True, slots=True)
class PruneConfig:
    """`[prune]`: for how many seconds jobs are kept once they ended; None keeps them for ever."""

    schedule: Schedule = Schedule.parse("30 3 * * *")
    completed: int | None = None
    cancelled: int | None = None
    failed: int | None = None


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """`[health]`: after how many seconds something is a fault, and who is told."""

    schedule: Schedule = Schedule.parse("*/5 * * * *")
    stuck_after: int = 30 * MINUTE
    overdue_after: int = 5 * MINUTE
    silent_after: int = 10 * MINUTE
    failed_within: int = 24 * HOUR
    textfile: Path | None = None
    ping_url: str | None = None


@dataclass(frozen=True, slots=True)
class LogConfig:
    """`[log]`: the worker's log and its rotation."""

    file: Path
    frequency: str = "daily"
    rotate: int = 14


@dataclass(frozen=True, slots=True)
class Config:
    """A whole `dbq.toml`. `path` is the file's own, absolute, as are all other paths."""

    name: str
    path: Path
    queue: QueueConfig
    worker: WorkerConfig
    recurring: tuple[RecurringConfig, ...] = ()
    prune: PruneConfig | None = None
    health: HealthConfig | None = None
    log: LogConfig | None = None


def load(path: str | Path) -> Config:
    """Return the configuration in the file `path`.

    Raises `ConfigError`, whose message has one line for each fault of the file,
    `dbq.toml:LINE: [section].key: what is wrong`, with `path` as it was given.

    >>> load("dbq.toml").queue.file
    PosixPath('/var/lib/myapp/queue.tsv')
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
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 text") from None
    return parse(text, path)


def parse(text: str, path: str | Path) -> Config:
    """Return the configuration that `text`, the content of the file `path`, says.

    Raises `ConfigError` as `load` does.
    """
    document = _document(text, path)
    faults: dict[KeyPath, str] = dict(_forbidden(document))
    absolute = Path(os.path.abspath(path))
    config = _read(_Table(document, (), faults), absolute)
    if not faults:
        return config
    lines = key_lines(text)
    numbered = sorted((line_of(lines, key), where(key), said) for key, said in faults.items())
    raise ConfigError("\n".join(f"{path}:{line}: {key}: {said}" for line, key, said in numbered))


def name_from_folder(folder: Path) -> str | None:
    """Return the name a config in `folder` has unless it says another: the folder's, made to fit."""
    text = re.sub("[^a-z0-9]+", "-", folder.name.lower())
    text = re.sub("^[^a-z]+", "", text)[:32].strip("-")
    return text or None


def where(path: KeyPath) -> str:
    """Return how a message names the key `path`: `[worker].timeout`."""
    section, *rest = path
    if section not in SECTIONS and not rest:
        return _key(section)
    text = f"[{_key(section)}]"
    if rest and isinstance(rest[0], int):
        del rest[0]
    for part in rest:
        text += f"[{part}]" if isinstance(part, int) else f".{_key(part)}"
    return text


def _key(key: str | int) -> str:
    bare = re.fullmatch("[A-Za-z0-9_-]+", str(key))
    return str(key) if bare else values.shown(key)


def _document(text: str, path: str | Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
    except (ValueError, RecursionError) as error:
        message = f"is no value that can be read ({error})"
    found = re.fullmatch(r"(.*) \(at line ([0-9]+), column [0-9]+\)", message, re.DOTALL)
    said, line = (found[1], int(found[2])) if found else (message, text.count("\n") + 1)
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


class _Table:
    """A TOML table that is being read: hands out checked values and notes what is wrong."""

    def __init__(self, content: Any, path: KeyPath, faults: dict[KeyPath, str]) -> None:
        self.path = path
        self.faults = faults
        self.known: list[str] = []
        self.content: dict[str, Any] = content if isinstance(content, dict) else {}
        if not isinstance(content, dict):
            self.fault(path, f"must be a table, not {values.kind(content)}")

    def fault(self, path: KeyPath, said: str) -> None:
        """Note the first thing that is wrong with the key `path`."""
        self.faults.setdefault(path, said)

    def get(self, key: str, check: Callable[[object], T], default: T) -> T:
        """The checked value of `key`; `default` where it is missing or wrong."""
        self.known.append(key)
        path = (*self.path, key)
        if key not in self.content or path in self.faults:
            return default
        try:
            return check(self.content[key])
        except ValueError as error:
            self.fault(path, str(error))
            return default

    def need(self, key: str, check: Callable[[object], T], stand_in: T) -> T:
        """As `get`, for a key that must be there."""
        if key not in self.content:
            self.fault((*self.path, key), "is missing")
        return self.get(key, check, stand_in)

    def section(self, key: str) -> _Table | None:
        """The table `key`, None where it is missing."""
        self.known.append(key)
        if key not in self.content:
            return None
        return _Table(self.content[key], (*self.path, key), self.faults)

    def needed_section(self, key: str) -> _Table:
        """The table `key`, an empty one where it is missing (its keys then are)."""
        return self.section(key) or _Table({}, (*self.path, key), self.faults)

    def array(self, key: str) -> list[_Table]:
        """The tables of the array of tables `key`."""
        self.known.append(key)
        content = self.content.get(key, [])
        path = (*self.path, key)
        if not isinstance(content, list):
            self.fault(path, f"must be an array of tables; write [[{key}]]")
            return []
        return [_Table(item, (*path, number), self.faults) for number, item in enumerate(content)]

    def finish(self) -> None:
        """Note the keys that nobody asked for."""
        for key in self.content:
            if key not in self.known:
                near = difflib.get_close_matches(key, self.known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                known = "" if near else f"; known here: {', '.join(self.known)}"
                self.fault((*self.path, key), f"is an unknown key{hint}{known}")


def _read(top: _Table, path: Path) -> Config:
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
    return config


def _name(top: _Table, folder: Path) -> str:
    name = name_from_folder(folder)
    if name is None:
        return top.need("name", values.name, "")
    return top.get("name", values.name, name)


def _queue(table: _Table, folder: Path) -> QueueConfig:
    section = QueueConfig(
        file=table.need("file", values.file_from(folder, ".tsv"), Path()),
        durability=table.get("durability", values.one_of("full", "normal"), "full"),
    )
    table.finish()
    return section


def _worker(table: _Table, folder: Path) -> WorkerConfig:
    path = values.path_from(folder)
    section = WorkerConfig(
        handlers=table.need("handlers", values.handlers, ""),
        schedule=table.get("schedule", values.schedule, EVERY_MINUTE),
        python=table.get("python", values.interpreter_from(folder), sys.executable),
        directory=table.get("directory", path, None),
        user=table.get("user", values.user, None),
        environment=_environment(table),
        environment_file=table.get("environment_file", values.file_from(folder), None),
        max_attempts=table.get("max_attempts", values.at_least(1), 3),
        timeout=table.get("timeout", values.duration(1), None),
        concurrency=table.get("concurrency", values.at_least(1, 1000), 1),
        linger=table.get("linger", values.duration(), 0),
        hardening=table.get("hardening", values.one_of("isolated", "network", "compat"), "network"),
    )
    table.finish()
    return section


def _environment(worker: _Table) -> dict[str, str]:
    table = worker.section("environment")
    if table is None:
        return {}
    for name in table.content:
        try:
            values.environment_name(name)
        except ValueError as error:
            table.fault((*table.path, name), str(error))
    return {name: table.get(name, values.environment_value, "") for name in table.content}


def _recurring(tables: list[_Table]) -> tuple[RecurringConfig, ...]:
    entries: dict[str, RecurringConfig] = {}
    for number, table in enumerate(tables):
        entry = _recurring_entry(table)
        path = (*table.path, "name")
        if entry.name in RESERVED:
            table.fault(path, f"{entry.name!r} is taken by a unit of the queue itself")
        if entry.name in entries:
            table.fault(path, f"{entry.name!r} is another recurring job's name already")
        entries.setdefault(entry.name or str(number), entry)
    return tuple(entries.values())


def _recurring_entry(table: _Table) -> RecurringConfig:
    entry = RecurringConfig(
        name=table.need("name", values.name, ""),
        type=table.need("type", values.job_type, ""),
        payload=table.get("payload", values.payload, {}),
        schedule=table.need("schedule", values.schedule, EVERY_MINUTE),
        jitter=table.get("jitter", values.duration(), 0),
        catch_up=table.get("catch_up", values.boolean, False),
    )
    table.finish()
    return entry


def _prune(table: _Table | None) -> PruneConfig | None:
    if table is None:
        return None
    age = values.duration()
    section = PruneConfig(
        schedule=table.get("schedule", values.schedule, PruneConfig().schedule),
        completed=table.get("completed", age, None),
        cancelled=table.get("cancelled", age, None),
        failed=table.get("failed", age, None),
    )
    table.finish()
    if not {"completed", "cancelled", "failed"} & table.content.keys():
        table.fault(table.path, "prunes nothing; say completed, cancelled or failed, or drop it")
    return section


def _health(table: _Table | None, folder: Path) -> HealthConfig | None:
    if table is None:
        return None
    age, usual = values.duration(1), HealthConfig()
    section = HealthConfig(
        schedule=table.get("schedule", values.schedule, usual.schedule),
        stuck_after=table.get("stuck_after", age, usual.stuck_after),
        overdue_after=table.get("overdue_after", age, usual.overdue_after),
        silent_after=table.get("silent_after", age, usual.silent_after),
        failed_within=table.get("failed_within", age, usual.failed_within),
        textfile=table.get("textfile", values.file_from(folder, ".prom"), None),
        ping_url=table.get("ping_url", values.url, None),
    )
    table.finish()
    return section


def _log(table: _Table | None, folder: Path) -> LogConfig | None:
    if table is None:
        return None
    section = LogConfig(
        file=table.need("file", values.file_from(folder), Path()),
        frequency=table.get(
            "frequency", values.one_of("hourly", "daily", "weekly", "monthly", "yearly"), "daily"
        ),
        rotate=table.get("rotate", values.at_least(0, 10_000), 14),
    )
    table.finish()
    return section
