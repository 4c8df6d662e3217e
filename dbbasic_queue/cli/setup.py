"""The commands of `dbq` around the config: init, check, enqueue-recurring."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from ..config.search import DEFAULT_CONFIG
from ..errors import QueueError
from ..queue import Queue
from ..support.account import Account
from ..support.address import has_password, masked
from ..support.durations import format_duration
from ..support.opening import Folder
from ..support.text import counted, dump_json, escape_control
from .common import (
    DONE,
    WRONG,
    Command,
    UsageError,
    arg,
    complain,
    config_of,
    config_path,
    json_option,
    load_config,
    place_of,
    queue_of,
    table_of,
)

if TYPE_CHECKING:
    from ..check.check import CheckReport, Runs
    from ..config.sections import Config
    from ..engines.tsv.engine import TsvEngine
    from ..schedule.recurring import SlotResult


SECONDS: Final = 10  # that the making of files may take
FAMILY_MAIL: Final = "dbbasic_email:QUEUE_HANDLERS"  # which dbbasic-email offers


def _init(args: argparse.Namespace) -> int:
    from importlib.util import find_spec

    from ..config.starter import first_config, write_first_config
    from ..support.child import ChildDied, ChildTimeout

    path = Path(args.config or DEFAULT_CONFIG)
    if args.url and has_password(args.url):
        raise UsageError(
            "init: a password does not belong into a dbq.toml: put the address into a file of"
            " mode 0600, and write url_file = that file in place of url"
        )
    text = first_config(
        path.absolute().parent,
        name=args.name,
        handlers=args.handlers,
        also=[FAMILY_MAIL] if find_spec("dbbasic_email") else [],
        user=args.user,
        url=args.url,
    )
    write_first_config(path, text)
    print(f"wrote {path}")
    with contextlib.suppress(QueueError, OSError, ChildDied, ChildTimeout):  # dbq check tells why
        _make_shared_files(path)
    print("Look it through; then: dbq check, and dbq-install-cron or dbq-install-systemd")
    return DONE


def _make_shared_files(path: Path) -> None:
    """Make the files of a queue that a group shares, as the worker's user, who owns the folder."""
    from ..config.sections import load
    from ..support.child import call

    config = load(path)
    table = config.queue.file
    if table is None:
        return
    with Folder(table.parent) as folder:
        if not folder.is_shared:
            return
    account = Account.find(config.worker.user)
    if account is not None and os.geteuid() in (0, account.uid):
        engine = cast("TsvEngine", Queue(table).engine)
        call(engine.make_files, SECONDS, user=account)


def _check(args: argparse.Namespace) -> int:
    from ..install.site import Site
    from .agree import check

    place = place_of(args)
    if place.named and place.address is not None and table_of(place.address) is None:
        return _check_server(args, place.address)
    me = Account.find(None)
    site = Site() if os.geteuid() == 0 or me is None else Site(me.name)
    report = check(config_path(args.config), site)
    if args.json:
        print(dump_json(report.as_dict()))
    else:
        _print_report(report)
    return DONE if report.ok else WRONG


def _check_server(args: argparse.Namespace, address: str) -> int:
    """Say whether the server of an address that is named by itself would do; start nothing."""
    from ..check.check import CheckReport
    from ..check.server import ask_server

    config = config_of(args)
    options = {"durability": config.queue.durability} if config else {}
    server, problems = ask_server(lambda: address, options, None)
    report = CheckReport(masked(address), findings=tuple(problems), server=server)
    if args.json:
        print(dump_json(report.as_dict()))
    else:
        _print_report(report)
    return DONE if report.ok else WRONG


def _print_report(report: CheckReport) -> None:
    for finding in report.findings:
        level = "" if finding.level == "fault" else f"{finding.level}: "
        print(escape_control(f"{level}{finding}"), file=sys.stderr)
    for schedule in report.schedules:
        print(_schedule(schedule))
    if report.types:
        print(f"handlers for: {escape_control(', '.join(report.types))}")
    if report.server:
        there, many = report.server, counted(report.server.workers, "worker")
        print(f"queue: {there.url}")
        print(f"server: {there.software}, with {many} now (by {there.client})")
    if report.ok:
        print(f"{report.path}: would work here")


def _schedule(schedule: Runs) -> str:
    times = ", ".join(run.strftime("%a %Y-%m-%d %H:%M") for run in schedule.next)
    return f"{schedule.where}: {escape_control(schedule.source)} ({schedule.words})\n  {times}"


def _enqueue_recurring(args: argparse.Namespace) -> int:
    from ..schedule.recurring import Verdict, enqueue_slot
    from .slots import server_slots

    config = load_config(config_path(args.config))
    queue = queue_of(args, config, must_exist=False)
    if args.now:
        job = config.recurring_jobs.find(args.name)
        print(queue.enqueue(job.type, job.payload))
        return DONE
    if not config.recurring_jobs.find(args.name).enabled:
        print(f"{args.name}: is off, by enabled = false in {config.path}; --now adds one at once")
        return DONE
    slots = server_slots(queue)
    result = enqueue_slot(config.recurring_jobs, args.name, queue.enqueue, queue.now(), slots)
    if result.verdict is Verdict.ENQUEUED:
        print(result.job_id)
        _tell_if_late(config, result, queue.now())
    else:
        # Not a failure, and not on standard error, which cron would mail: the job is in the queue.
        print(_why_not(config, result))
    return DONE


def _tell_if_late(config: Config, result: SlotResult, now: int) -> None:
    """Say what a scheduler's start long after the time of the job may mean: cron mails it.

    A scheduler that goes by another time zone than the machine is refused by the installer; one
    that does so later, as a container that is started anew with TZ, is known by nothing else.
    """
    from ..schedule.clock import machine_zone
    from ..schedule.recurring import ON_TIME

    late = now - result.slot
    job = config.recurring_jobs.find(result.name)
    if late <= ON_TIME or job.catch_up or sys.stderr.isatty():
        return
    at = datetime.fromtimestamp(result.slot, machine_zone())
    complain(
        f"{result.name}: enqueued {format_duration(late - late % 60)} late, for"
        f" {at:%Y-%m-%d %H:%M}. If the machine was on and awake then, the scheduler goes by another"
        " time zone than the machine, such as a container's TZ: as root, dbq check says so",
        DONE,
    )


def _why_not(config: Config, result: SlotResult) -> str:
    """Why a recurring job was not enqueued, when it will be, and what to do meanwhile."""
    from ..schedule.clock import machine_zone
    from ..schedule.recurring import Verdict

    zone = machine_zone()
    last, now = datetime.fromtimestamp(result.slot, zone), datetime.now(zone).astimezone(zone)
    (following,) = config.recurring_jobs.find(result.name).schedule.next_runs(now, 1)
    why = f"was enqueued before, as {result.job_id}"
    if result.verdict is Verdict.PAST:
        why = "was over before dbq knew this schedule, so it is left out"
    return (
        f"{result.name}: the job of {last:%Y-%m-%d %H:%M} {why}."
        f" The next is due at {following:%Y-%m-%d %H:%M}; --now adds one at once."
    )


INIT: Final = Command(
    "init",
    "write a commented dbq.toml for the application in the current folder",
    _init,
    "dbq init\ndbq init --name shop --handlers shop.jobs:HANDLERS --user shop",
    (
        arg("--name", metavar="NAME", help="the config's name (default: the folder's)"),
        arg(
            "--handlers",
            metavar="MODULE:ATTR",
            action="append",
            help="where the handlers are; may be given several times (default: NAME.jobs:HANDLERS,"
            " and dbbasic-email's where that is installed)",
        ),
        arg("--user", metavar="USER", help="the user that the worker runs as"),
    ),
)
CHECK: Final = Command(
    "check",
    "say whether a config would work on this machine, and start nothing",
    _check,
    "dbq check\ndbq check --config /etc/myapp/dbq.toml --json",
    (json_option("a JSON object"),),
)
ENQUEUE_RECURRING: Final = Command(
    "enqueue-recurring",
    "enqueue the job of a [[recurring]] section, at most once for each of its times",
    _enqueue_recurring,
    "dbq enqueue-recurring nightly-report --config /etc/myapp/dbq.toml\n"
    "dbq enqueue-recurring nightly-report --now",
    (
        arg("name", metavar="NAME", help="the recurring job's name in the config"),
        arg(
            "--now",
            action="store_true",
            help="add one more job, due now, whatever its schedule says",
        ),
    ),
)
