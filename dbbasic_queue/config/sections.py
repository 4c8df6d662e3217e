"""The configuration file, `dbq.toml`, as frozen dataclasses; all its faults at once.

Each key is said once, here: what it may be, its default, what it is for (see `reader.py`). That
is why this module is longer than others.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..schedule.marks import marks_file
from ..schedule.recurring import RecurringJob, RecurringJobs
from ..schedule.schedule import Schedule
from ..support.address import masked, scheme_of, with_name
from ..support.durations import format_duration
from ..support.files import family, given_path, read_regular
from ..support.text import escape_control, shown
from . import values
from .commands import CommandConfig, check_commands
from .document import forbidden_characters, read_document
from .notify import NotifyConfig
from .reader import (
    KeyPath,
    Section,
    key,
    line_of,
    lines,
    named_parts,
    needed,
    part,
    parts,
    where,
)
from .report import ReportConfig
from .types import TypeConfig

LARGEST = 4 << 20  # bytes of a config


@dataclass(frozen=True)
class QueueConfig:
    """`[queue]`: where the jobs are, a file or a server, and how safely they are kept."""

    file: Path | None = key(
        values.file(".tsv"),
        about="the queue; its lock and other files are kept next to it",
        example="data/queue.tsv",
        otherwise="the queue is on the server of url or url_file",
        more="Its name ends in .tsv.",
        live=True,
    )
    url: str | None = key(
        values.address,
        about="the queue on a Redis or Valkey server, in place of a file",
        example="redis://10.0.0.5/0",
        otherwise="the queue is in the file",
        more="redis://, rediss://, unix:// or valkey://. Several queues share a server by "
        "?name=NAME at the end; if not given, the name of this config.",
        hidden=True,
    )
    url_file: Path | None = key(
        values.file(),
        about="a file that holds such an address with its password; give it mode 0600",
        example="/etc/myapp/dbq.url",
        otherwise="no such file is read",
        more="It belongs to the user that the jobs run as.",
        hidden=True,
    )
    durability: str = key(
        values.one_of("full", "normal", "none"),
        "full",
        about='"full": a job outlives a power cut; "normal": faster, outlives a crash only',
        more='On a server, "full" and "normal" refuse one that is not set up for it; "none" takes '
        "any.",
        live=True,
    )
    trust_server: bool = key(
        values.boolean,
        False,
        about="take a server by your word whose settings cannot be asked for",
        example=True,
        otherwise="such a server is refused",
        hidden=True,
    )


@dataclass(frozen=True)
class WorkerConfig:
    """`[worker]`: what runs the jobs, when, and as which user.

    `timeout` (a job's) and `linger` in seconds, `memory_max` in bytes, `cpu_quota` in percent of
    one processor.
    """

    handlers: tuple[str, ...] | None = key(
        values.handlers,
        about="module:attribute of a dict: job type -> function of the payload; or several, in []",
        example="myapp.jobs:HANDLERS",
        otherwise="jobs run the programs of [commands] only",
        live=True,
    )
    schedule: Schedule = key(
        values.schedule, "* * * * *", about="when a worker looks for jobs", live=True
    )
    python: str = key(
        values.interpreter,
        about="the Python interpreter that has your application's packages",
        example="venv/bin/python",
        otherwise="the interpreter that runs the installer",
        more="An installer from a package of the operating system lets it run the system's "
        "library: a virtual environment needs none of its own.",
        live=True,
        value=sys.executable,
    )
    directory: Path | None = key(
        values.path,
        about="the folder that your module is imported from and that jobs run in",
        example="/srv/myapp",
        otherwise="the folder of this file",
    )
    user: str | None = key(
        values.user,
        about="the user that jobs run as; system units and /etc/cron.d need it",
        example="www-data",
        otherwise="the user who installs",
    )
    environment: Mapping[str, str] = key(
        values.environment,
        {},
        about="environment variables of your jobs",
        example={"DJANGO_SETTINGS_MODULE": "myapp.settings"},
        otherwise="PATH only",
    )
    environment_file: Path | None = key(
        values.file(),
        about="a file of NAME=value lines, for secrets; give it mode 0600",
        example="/etc/myapp/env",
        otherwise="no such file is read",
        more="It is read as EnvironmentFile= in systemd.exec(5), under cron too.",
    )
    max_attempts: int = key(
        values.number(1), 3, about="attempts in total before a job counts as failed", live=True
    )
    timeout: int | None = key(
        values.duration(1),
        about="how long one job may run",
        example="10min",
        otherwise="without a limit",
        live=True,
    )
    concurrency: int = key(
        values.number(1, 1000),
        1,
        about="how many jobs run at once",
        more="All runs of the worker are counted together.",
        live=True,
    )
    linger: int = key(
        values.duration(),
        "0s",
        about="keep the worker waiting for new jobs, so that they start at once",
        example="50s",
        otherwise="it ends when no job is due",
        live=True,
    )
    max_jobs: int | None = key(
        values.number(1),
        about="after how many jobs a worker that runs all the time is started anew",
        example=1000,
        otherwise="never",
    )
    max_age: int | None = key(
        values.duration(1),
        about="after how long a worker that runs all the time is started anew",
        example="1d",
        otherwise="never",
    )
    lease: int = key(
        values.duration(1),
        "60s",
        about="after how long a worker on another machine that is not heard of counts as dead",
        more="For a queue on a server only.",
        hidden=True,
    )
    hardening: str = key(
        values.one_of("isolated", "network", "compat"),
        "network",
        about='what systemd lets jobs do: "isolated" (no network), "network" or "compat"',
        live=True,
    )
    writable: tuple[Path, ...] = key(
        values.folders,
        about="folders that jobs may write in, besides the queue's (under systemd)",
        example=["uploads"],
        otherwise="none",
        value=(),
    )
    umask: int | None = key(
        values.umask,
        about="which rights new files of jobs do not get, as umask(1) takes it",
        example="027",
        otherwise="as the queue's folder has it",
    )
    nice: int | None = key(
        values.number(-20, 19),
        about="how far jobs stand back for other programs, 19 the furthest",
        example=10,
        otherwise="0",
    )
    memory_max: int | None = key(
        values.size,
        about="how much memory a run of the worker may use (under systemd)",
        example="2G",
        otherwise="without a limit",
    )
    cpu_quota: int | None = key(
        values.percent,
        about="how much of one processor a run of the worker may use (under systemd)",
        example="200%",
        otherwise="without a limit",
    )
    enabled: bool = key(
        values.boolean,
        True,
        about="false: this config runs no jobs, as where a machine only enqueues them",
        example=False,
        otherwise="true",
        more="No entry of a worker is installed then, and one that is ends at once.",
    )


@dataclass(frozen=True)
class RecurringConfig(RecurringJob):
    """One `[[recurring]]` job. `jitter` in seconds."""

    name: str = needed(values.name, about="its name; no two are the same", example="nightly-report")
    type: str = needed(values.job_type, about="the job's type", example="generate_report")
    schedule: Schedule = needed(values.schedule, about="when it is enqueued", example="0 2 * * *")
    payload: dict[str, Any] = key(
        values.payload,
        {},
        about="the job's payload",
        example={"report": "sales"},
        otherwise="empty",
        live=True,
    )
    jitter: int = key(
        values.duration(),
        "0s",
        about="start it up to this much later, always the same on one machine",
        example="5min",
        otherwise="at its time",
        live=True,
    )
    catch_up: bool = key(
        values.boolean,
        False,
        about="run a time that was missed, once, when the machine is on again",
        example=True,
        otherwise="false",
        live=True,
    )
    enabled: bool = key(
        values.boolean,
        True,
        about="false: its times pass and nothing is enqueued",
        example=False,
        otherwise="true",
        more="It takes effect at once; the entries stay as they are installed.",
    )


@dataclass(frozen=True)
class PruneConfig:
    """`[prune]`: for how many seconds jobs are kept once they ended; None keeps them for ever."""

    schedule: Schedule = key(
        values.schedule, "30 3 * * *", about="when older ones are removed", live=True
    )
    completed: int | None = key(
        values.duration(),
        about="how long completed jobs are kept",
        example="7d",
        otherwise="for ever",
        live=True,
    )
    cancelled: int | None = key(
        values.duration(),
        about="how long cancelled jobs are kept",
        example="7d",
        otherwise="for ever",
        live=True,
    )
    failed: int | None = key(
        values.duration(),
        about="how long failed jobs are kept",
        example="30d",
        otherwise="for ever",
        live=True,
    )
    enabled: bool = key(
        values.boolean,
        True,
        about="false: nothing is removed by the schedule",
        example=False,
        otherwise="true",
        more="It takes effect at once; the entries stay as they are installed.",
    )


@dataclass(frozen=True)
class HistoryConfig:
    """`[history]`: what workers did, by hour and type."""

    keep: int = key(
        values.duration(3600),
        "35d",
        about="how long it is kept by the hour; dbq prune adds up what is older",
        live=True,
    )


@dataclass(frozen=True)
class HealthConfig:
    """`[health]`: after how many seconds something is a fault, and who is told."""

    schedule: Schedule = key(values.schedule, "*/5 * * * *", about="when it looks", live=True)
    stuck_after: int = key(
        values.duration(1), "30min", about="a job has been running for this long", live=True
    )
    overdue_after: int = key(
        values.duration(1),
        "5min",
        about="a job has been due for this long and no worker took it",
        live=True,
    )
    silent_after: int = key(
        values.duration(1), "10min", about="no worker has run for this long", live=True
    )
    failed_within: int = key(
        values.duration(1), "1d", about="a job has failed within this time", live=True
    )
    textfile: Path | None = key(
        values.file(".prom"),
        about="write metrics there, for Prometheus's node_exporter",
        example="/var/lib/prometheus/node-exporter/dbq-myapp.prom",
        otherwise="no metrics are written",
        more="Its name ends in .prom.",
    )
    ping_url: str | None = key(
        values.url,
        about="call this at the start and end of each scheduled look, as healthchecks.io expects",
        example="https://hc.example/abc",
        otherwise="nothing is called",
    )
    enabled: bool = key(
        values.boolean,
        True,
        about="false: the schedule reports nothing",
        example=False,
        otherwise="true",
        more="It takes effect at once; the entries stay as they are installed.",
    )


@dataclass(frozen=True)
class LogConfig:
    """`[log]`: the worker's log and its rotation."""

    file: Path = needed(values.file(), about="where the worker logs", example="data/dbq.log")
    frequency: str = key(
        values.one_of("hourly", "daily", "weekly", "monthly", "yearly"),
        "daily",
        about="how often logrotate begins a new one",
        more='One of "hourly", "daily", "weekly", "monthly", "yearly".',
        live=True,
    )
    rotate: int = key(values.number(0, 10_000), 14, about="how many old ones are kept", live=True)


@dataclass(frozen=True)
class CronConfig:
    """`[cron]`: what only cron needs to know. `mailto` is cron's own: empty for no mail."""

    mailto: str | None = key(
        values.addresses,
        about='where cron mails what goes wrong; "" for no mail',
        example="ops@example.com",
        otherwise="to the user that the jobs run as",
        live=True,
    )


@dataclass(frozen=True)
class Config:
    """A whole `dbq.toml`. `path` is the file's own, absolute, as are all other paths."""

    path: Path
    name: str = needed(
        values.name,
        about="this queue's name in units, cron entries and metrics",
        example="myapp",
        more="1 to 32 of a-z, 0-9 and -, a letter first. If not given: made of the folder's name.",
    )
    queue: QueueConfig = part(
        QueueConfig, "where jobs are kept", needed=True, one_of=("file", "url", "url_file")
    )
    worker: WorkerConfig = part(WorkerConfig, "what runs them", needed=True)
    commands: Mapping[str, CommandConfig] = named_parts(
        CommandConfig,
        values.job_type,
        "a job type that runs a program; one such section for each",
        example="backup",
    )
    types: Mapping[str, TypeConfig] = named_parts(
        TypeConfig,
        values.job_type,
        "how jobs of a type, or of all types that a glob matches, are treated",
        example="mail",
    )
    recurring: tuple[RecurringConfig, ...] = parts(
        RecurringConfig, "a job that the clock enqueues; one such section for each"
    )
    prune: PruneConfig | None = part(PruneConfig, "how long ended jobs are kept")
    history: HistoryConfig | None = part(HistoryConfig, "what workers did, for dbq history")
    health: HealthConfig | None = part(HealthConfig, "dbq-health raises an alarm when ...")
    notify: NotifyConfig | None = part(
        NotifyConfig, "who is told when the verdict of the health check changes", live=False
    )
    report: ReportConfig | None = part(
        ReportConfig, "a page that shows the queue, for a browser", live=False
    )
    log: LogConfig | None = part(LogConfig, "the worker's log, rotated by dbq-install-logrotate")
    cron: CronConfig | None = part(CronConfig, "for dbq-install-cron only", live=False)

    @property
    def recurring_jobs(self) -> RecurringJobs:
        """The recurring jobs, with what it takes to enqueue each slot once."""
        marks = marks_file(self.queue.file) if self.queue.file else None
        return RecurringJobs(self.path, self.name, self.recurring, marks)

    def address(self) -> str | Path:
        """Return where the queue is: its file, or the address of its server with the password.

        Raises `ConfigError` for a url_file that cannot be read, or that others can read.
        """
        if self.queue.file is not None:
            return self.queue.file
        url = self.queue.url
        if url is None:
            from .url_file import read_url_file  # not needed by a queue in a file

            assert self.queue.url_file is not None  # one of the three is given
            url = read_url_file(self.queue.url_file)
        return with_name(url, self.name)

    @property
    def queue_options(self) -> dict[str, Any]:
        """How `Queue` opens the address."""
        options: dict[str, Any] = {"durability": self.queue.durability}
        if self.queue.file is None:
            options.update(lease=self.worker.lease, trust_server=self.queue.trust_server)
        return options

    @property
    def shown_address(self) -> str:
        """Where the queue is, for messages: without a password, and without a look at url_file."""
        if self.queue.url is not None:
            return masked(with_name(self.queue.url, self.name))
        return str(self.queue.file or self.queue.url_file)

    @property
    def longest_timeout(self) -> int | None:
        """How long any job may run, in seconds; None: there are jobs without a limit."""
        if self.worker.timeout is None:
            return None
        own = [each.timeout for each in self.types.values()]
        own += [each.timeout for each in self.commands.values()]
        return max([self.worker.timeout, *(each for each in own if each is not None)])

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
        data = read_regular(path, LARGEST)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; name one with --config or $DBQ_CONFIG, or write one with: "
            "dbq init"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text") from None
    return parse(text, path)


def parse(text: str, path: str | Path) -> Config:
    """Return the configuration that `text`, the content of the file `path`, says.

    Raises `ConfigError` as `load` does.

    >>> text = '[queue]\\nfile = "data/queue.tsv"\\n[worker]\\nhandlers = "myapp.jobs:HANDLERS"'
    >>> config = parse(text, "/srv/myapp/dbq.toml")
    >>> config.name, config.queue.file, config.worker.schedule.describe()
    ('myapp', PosixPath('/srv/myapp/data/queue.tsv'), 'every minute')
    """
    document = read_document(text, path)
    faults: dict[KeyPath, str] = dict(forbidden_characters(document))
    absolute = given_path(path)
    if character := values.forbidden_in_path(str(absolute)):
        raise ConfigError(
            f"{escape_control(str(path))}: the path {shown(str(absolute))} holds the character "
            f"{character}, which no file of a scheduler can hold; rename the folder or the file"
        )
    top = Section(document, (), absolute.parent, faults)
    config = _read(top, absolute)
    _check_together(top, config)
    if not faults:
        return config
    found = lines(text)
    numbered = sorted(
        (line_of(found, at), where(at, document), said) for at, said in faults.items()
    )
    raise ConfigError("\n".join(f"{path}:{line}: {at}: {said}" for line, at, said in numbered))


def name_from_folder(folder: Path) -> str | None:
    """Return the name of a config in `folder` that says no other: the folder's, made to fit.

    >>> name_from_folder(Path("/srv/My App"))
    'my-app'
    """
    text = re.sub("[^a-z0-9]+", "-", folder.name.lower())
    text = re.sub("^[^a-z]+", "", text)[:32].strip("-")
    return text or None


def _read(top: Section, path: Path) -> Config:
    """All sections, each by the field of `Config` that it is."""
    found: dict[str, Any] = {"path": path}
    _, name, *sections = fields(Config)
    found["name"] = name_from_folder(path.parent)
    if "name" in top.content or found["name"] is None:
        found["name"] = top.value("name", name.metadata["key"])
    for each in sections:
        said = each.metadata["part"]
        if said.many:
            found[each.name] = tuple(table.read(said.keys) for table in top.array(each.name))
        elif said.named:
            tables = top.tables(each.name, said.named).items()
            found[each.name] = {name: table.read(said.keys) for name, table in tables}
        elif said.needed or each.name in top.content:
            found[each.name] = top.section(each.name).read(said.keys)
    top.refuse_others(each.name for each in (name, *sections))
    return Config(**found)


def _check_together(top: Section, config: Config) -> None:
    """What no key can be refused for by itself."""
    names: set[str] = set()
    for number, job in enumerate(config.recurring):
        if job.name and job.name in names:
            top.fault(f"{job.name!r} is the name of one above already", "recurring", number, "name")
        names.add(job.name)
        if job.jitter and job.schedule and job.jitter >= (gap := job.schedule.shortest_gap()):
            said = f"must be shorter than the {format_duration(gap)} from one run to the next"
            top.fault(said, "recurring", number, "jitter")
    if not config.worker.handlers and not config.commands:
        top.fault("is missing, and there are no [commands] either", "worker", "handlers")
    check_commands(top, config.commands)
    _check_notify(top, config)
    if config.prune and not {"completed", "cancelled", "failed"} & top.content["prune"].keys():
        said = "prunes nothing; say for how long completed, cancelled or failed are kept"
        top.fault(said, "prune")
    if character := values.forbidden_in_path(config.worker.python):
        said = f"the interpreter's path holds the character {character}; name another"
        top.fault(said, "worker", "python")
    queue = top.content.get("queue", {})
    if not isinstance(queue, dict):
        return
    given = [name for name in ("file", "url", "url_file") if name in queue]
    if len(given) > 1:
        said = f"is one too many: the queue is in {given[0]}; of file, url and url_file, give one"
        top.fault(said, "queue", given[-1])
    elif not given:
        top.fault("is missing", "queue", "file")
    elif config.queue.file:
        _refuse_same_file(top, config, config.queue.file)
    elif given:
        _check_server(top, config)


def _check_notify(top: Section, config: Config) -> None:
    """Who is told, by what, and where that is kept."""
    notify = config.notify
    if notify is None:
        return
    if not (notify.command or notify.urls):
        top.fault("tells no one: give a command or urls", "notify")
    if config.health is None:
        top.fault("tells what the scheduled check finds: there is no [health]", "notify")
    if not config.queue.file and not notify.remember:
        top.fault("is missing, as the queue is on a server", "notify", "remember")


def _check_server(top: Section, config: Config) -> None:
    """What goes by a queue in a file only."""
    local = config.queue.url is not None and scheme_of(config.queue.url) == "unix"
    if config.worker.hardening == "isolated" and not local:
        said = 'keeps jobs from the network, and so from the queue\'s server; write "network"'
        top.fault(said, "worker", "hardening")


def _refuse_same_file(top: Section, config: Config, table: Path) -> None:
    """Find files of the config that are the queue's, or one of those beside it."""
    if config.queue.durability == "none":
        said = 'must be "full" or "normal" for a queue in a file'
        top.fault(said, "queue", "durability")
    own = family(table)
    if config.log and config.log.file in own:
        said = f"is {config.log.file.name}, one of the queue's own files; name another"
        top.fault(said, "log", "file")
    if config.health and config.health.textfile in own:
        said = f"is {config.health.textfile.name}, one of the queue's own files; name another"
        top.fault(said, "health", "textfile")
    if config.report and config.report.file in own:
        said = f"is {config.report.file.name}, one of the queue's own files; name another"
        top.fault(said, "report", "file")
