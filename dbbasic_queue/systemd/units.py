"""Config to systemd units: {unit name: text}. Pure: nothing is read or written.

All names are `dbq-NAME-ROLE…`. A name may hold hyphens, but a role holds none and everything that a
config names itself stands behind an `@`, so no two configs and no two jobs ever share a unit:

    dbq-NAME-worker.service   .timer   .path      runs the jobs
    dbq-NAME-rewake.service                       looks again when the worker has ended
    dbq-NAME-prune.service    .timer
    dbq-NAME-health.service   .timer
    dbq-NAME-report.service   .timer
    dbq-NAME-recurring@.service   and a dbq-NAME-recurring@JOB.timer for each job
    dbq-NAME-failed@.service                      reports what failed

Where the queue is on a server, workers run all the time, on each machine as many as [worker] says,
and nothing has to wake them. In place of the first four there are

    dbq-NAME-workers.target                       all workers of this machine
    dbq-NAME-worker@.service                      one of them: worker@1, worker@2, ...
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

from ..install import entries as commands
from ..install.target import Entry
from ..install.templates import fill
from .sandbox import COMPAT
from .syntax import command, file_pattern, line, word

if TYPE_CHECKING:
    from ..config.sections import Config
    from ..schedule.schedule import Schedule

# Between the time-out of a job and the kill: to write down its end.
GRACE_SECONDS = 30
# Of what no key says otherwise. The worker itself goes by the rights of the queue's folder.
UMASK = "0027"
ROLES = r"(?:(?:worker|prune|health|report|rewake)|(?:failed|recurring)@[a-z0-9-]*|worker@[0-9]*)"


def unit_pattern(name: str) -> re.Pattern[str]:
    """What the names of this config's units match, and no other config's."""
    escaped = re.escape(name)
    return re.compile(rf"dbq-{escaped}-(?:{ROLES}\.(?:service|timer|path)|workers\.target)")


def wake_file(config: Config) -> Path | None:
    """The file that `enqueue` touches where it exists: beside the queue, `.wake` for `.tsv`.

    None for a queue on a server, which wakes its workers itself, and where no worker is to run.
    """
    if config.queue.file is None or not config.worker.enabled:
        return None
    return config.queue.file.with_suffix(".wake")


def start_mark(name: str) -> str:
    """The file whose time is that of the worker's last start, in the folder `%t` of systemd."""
    return f"dbq-{name}-worker.started"


def units(config: Config, *, for_user: bool = False) -> dict[str, str]:
    """All units of a config, by name.

    Args:
        config: the whole config.
        for_user: for a user's own service manager, which knows no `User=` and sets up no sandbox.

    Raises `ValueError` as `write_units` does.

    Example:
        sorted(units(config))[0]
        # 'dbq-myapp-failed@.service'
    """
    return write_units(config, for_user=for_user).units


def write_units(
    config: Config, *, for_user: bool = False, zone: tzinfo | None = None
) -> UnitWriter:
    """The units of a config with what they schedule, for a machine in the time zone `zone`.

    Raises `ValueError` if something in the config cannot be said in a unit file, and for system
    units without `[worker].user`.
    """
    if config.worker.user is None and not for_user:
        raise ValueError(
            "[worker].user is missing: system units need the user whose jobs they run. "
            "Add it, or install into your own service manager with --user"
        )
    writer = UnitWriter(config, for_user, zone)
    if config.worker.enabled:
        if (wake := wake_file(config)) is not None:
            writer.worker(wake)
        else:
            writer.workers()
    writer.recurring()
    writer.prune()
    writer.health()
    writer.report()
    writer.failed()
    writer.units = dict(sorted(writer.units.items()))
    return writer


class UnitWriter:
    """Fills in the templates of one config.

    `units` are the texts by name, `entries` what the timers, the path and the target start.
    """

    def __init__(self, config: Config, for_user: bool, zone: tzinfo | None) -> None:
        self.config = config
        self.zone = zone
        self.for_user = for_user
        self.prefix = f"dbq-{config.name}"
        self.units: dict[str, str] = {}
        self.entries: list[Entry] = []
        file = config.worker.environment_file
        self.on_server = config.queue.file is None
        self.folders = [config.queue.file.parent] if config.queue.file else []
        self.common = {
            "name": config.name,
            "config": shlex.quote(str(config.path)),
            "whose": "--user" if for_user else "--system",
            "manager": " --user" if for_user else "",
            "for_user": for_user,
            "user": None if for_user else config.worker.user,
            "directory": line(str(config.directory)),
            "environment": [word(f"{k}={v}") for k, v in config.environment_variables.items()],
            "environment_file": file_pattern(str(file)) if file else None,
            "mounts": _words([*self.folders, config.directory]),
            "failed": f"{self.prefix}-failed@%N.service",
            "umask": UMASK,
            "on_server": self.on_server,
        }

    def _worker(self, role: str, about: str, argv: list[str], **values: object) -> None:
        """The service of a worker."""
        worker, longest = self.config.worker, self.config.longest_timeout
        # The other profiles let nothing change its niceness, and a user's manager gives no such
        # right.
        may_nice = worker.hardening == COMPAT and not self.for_user
        self._service(
            role,
            f"{role}.service",
            about,
            worker.hardening,
            command=command(argv),
            stop_seconds=longest + GRACE_SECONDS if longest else None,
            writable=worker.writable,
            umask=UMASK if worker.umask is None else f"{worker.umask:04o}",
            nice=worker.nice,
            nice_limit=f"{worker.nice or 0:+d}" if may_nice else None,
            memory_max=worker.memory_max,
            cpu_quota=worker.cpu_quota,
            **values,
        )

    def workers(self) -> None:
        """The target, and the service of which it starts as many as [worker].concurrency says."""
        count = self.config.worker.concurrency
        argv = commands.argv(self.config, commands.WORK, "--forever")
        target, about = f"{self.prefix}-workers.target", "One worker: runs jobs all the time."
        self._worker("worker@", about, argv, target=target)
        wanted = [f"{self.prefix}-worker@{number}.service" for number in range(1, count + 1)]
        about = "All workers of this machine; they run all the time."
        self._write("workers.target", "workers.target", about, workers=wanted)
        how_many = "1 worker" if count == 1 else f"{count} workers"
        self.entries.append(Entry("workers", f"all the time, {how_many}", target))

    def worker(self, wake_path: Path) -> None:
        """The service, its timer and path, and what looks again after its end."""
        worker = self.config.worker
        wake, mark = str(wake_path), f"%t/{start_mark(self.config.name)}"
        self._worker(
            "worker",
            "The worker: runs the jobs that are due, then ends.",
            commands.argv(self.config, commands.WORK),
            mark=("" if self.for_user else "+") + command(["/usr/bin/touch", mark], [mark]),
            rewake=f"{self.prefix}-rewake.service",
        )
        # The mark is beyond the reach of strangers: root's in /run, or in the user's own folder.
        touch = ["/usr/bin/touch", "-c", "{}", "+"]
        again = ["/usr/bin/find", wake, "-type", "f", "-newer", mark, "-exec", *touch]
        self._service(
            "rewake",
            "rewake.service",
            "Looks for a job that came while the worker was ending.",
            self._profile(),
            command=command(again, [mark]),
            path_unit=f"{self.prefix}-worker.path",
        )
        about = "Starts the worker the moment a job is enqueued."
        starts = f"{self.prefix}-worker.service"
        self._write("worker.path", "worker.path", about, wake=line(wake), starts=starts)
        self._timer("worker", "run the jobs that are due", worker.schedule)
        name = f"{self.prefix}-worker.path"
        self.entries.append(Entry("worker (wake)", "when a job is enqueued", name))

    def recurring(self) -> None:
        """One service for all recurring jobs, a timer for each."""
        if not self.config.recurring:
            return
        argv = commands.argv(self.config, commands.ENQUEUE_RECURRING, "%i")
        self._service(
            "recurring@",
            "task.service",
            "Enqueues one recurring job, the one that the unit's name tells behind the @.",
            self._profile(),
            command=command(argv, verbatim=["%i"]),
            description="enqueue the recurring job %i",
            manual="dbq",
        )
        for job in self.config.recurring:
            self._timer(
                f"recurring@{job.name}",
                f"enqueue the recurring job {job.name}",
                job.schedule,
                # On a server the first machine to ask adds the job, whose due time has the jitter.
                jitter=0 if self.on_server else job.jitter,
                persistent=job.catch_up,
            )

    def prune(self) -> None:
        """Deletes old jobs."""
        if self.config.prune is None:
            return
        description = "delete old jobs from the queue"
        self._service(
            "prune",
            "task.service",
            "Deletes old jobs from the queue, as [prune] says.",
            self._profile(),
            command=command(commands.scheduled_prune(self.config)),
            description=description,
            manual="dbq",
        )
        self._timer("prune", description, self.config.prune.schedule, persistent=True)

    def health(self) -> None:
        """Checks the queue; may need the network for its ping."""
        health = self.config.health
        if health is None:
            return
        notify, description = self.config.notify, "check the health of the queue"
        written = [health.textfile, notify.remember if notify else None]
        self._service(
            "health",
            "task.service",
            "Checks the queue, as [health] says. It fails, and is reported, if something is wrong.",
            self._profile(network=health.ping_url is not None or notify is not None),
            writable=[each.parent for each in written if each],
            command=command(commands.argv(self.config, commands.HEALTH)),
            description=description,
            manual="dbq-health",
        )
        self._timer("health", description, health.schedule)

    def report(self) -> None:
        """Writes the page that shows the queue."""
        report = self.config.report
        if report is None:
            return
        description = "write the page that shows the queue"
        self._service(
            "report",
            "task.service",
            "Writes the page that shows the queue, as [report] says.",
            self._profile(),
            writable=[report.file.parent],
            command=command(commands.argv(self.config, commands.REPORT)),
            description=description,
            manual="dbq",
        )
        self._timer("report", description, report.schedule)

    def failed(self) -> None:
        """Reports a unit that failed; started by systemd with that unit's name."""
        # OnFailure= passes these on: systemd.exec(5), Environment Variables Set on Triggered Units
        result = "${MONITOR_SERVICE_RESULT}, ${MONITOR_EXIT_CODE} ${MONITOR_EXIT_STATUS}"
        said = f"dbq {self.config.name}: %i failed ({result}). The last it said:"
        run = "_SYSTEMD_INVOCATION_ID=${MONITOR_INVOCATION_ID}"
        last = ["/usr/bin/journalctl", "--quiet", "--no-pager", "--output=cat", "--lines=20", run]
        self._write(
            "failed@.service",
            "failed@.service",
            "Reports that a unit failed, the one that this unit's name tells behind the @.",
            identifier=f"{self.prefix}-failed",
            profile="isolated",
            writable="",
            commands=[
                command(["/bin/echo", said], verbatim=[said]),
                command(last, verbatim=[run]),
            ],
        )

    def _profile(self, network: bool = False) -> str:
        """For our own commands: as strict as possible, unless the application lies where that would
        hide it."""
        if self.config.worker.hardening == "compat":
            return "compat"
        return "network" if network or self.on_server else "isolated"

    def _service(
        self,
        role: str,
        template: str,
        about: str,
        profile: str,
        *,
        writable: Sequence[Path] = (),
        **values: object,
    ) -> None:
        log = [self.config.log.file.parent] if self.config.log else []
        folders = [*self.folders, *log, *writable]
        self._write(
            f"{role}.service",
            template,
            about,
            identifier=f"{self.prefix}-{role.rstrip('@')}",
            profile=profile,
            writable=_words(folders),
            **values,
        )

    def _timer(
        self,
        role: str,
        description: str,
        schedule: Schedule,
        *,
        jitter: int = 0,
        persistent: bool = False,
    ) -> None:
        self._write(
            f"{role}.timer",
            "timer",
            f"When to {description}: {schedule.describe()}.",
            description=description,
            schedule=schedule,
            calendars=schedule.on_calendar(self.zone),
            jitter=jitter,
            persistent=persistent,
            starts=f"{self.prefix}-{role}.service",
        )
        label = role.removeprefix("recurring@")
        calendar = ", ".join(schedule.on_calendar())
        self.entries.append(Entry(label, calendar, f"{self.prefix}-{role}.timer", persistent))

    def _write(self, unit: str, template: str, about: str, **values: object) -> None:
        name = f"{self.prefix}-{unit}"
        values |= {"about": about, "unit": name}
        self.units[name] = fill(f"systemd/{template}.j2", **(self.common | values))


def _words(paths: Sequence[Path]) -> str:
    return " ".join(dict.fromkeys(word(str(path)) for path in paths))
