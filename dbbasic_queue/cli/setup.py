"""The commands of `dbq` around the config: init, check, enqueue-recurring."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..support.text import dump_json, escape_control
from .common import DONE, WRONG, add_command, add_json, complain, config_of, queue_of

if TYPE_CHECKING:
    from ..check.check import CheckReport, Runs


def add_init(commands: Any) -> None:
    """Add `dbq init`."""
    parser = add_command(
        commands,
        "init",
        _init,
        "write a commented dbq.toml for the application in the current folder",
        "dbq init\ndbq init --name shop --handlers shop.jobs:HANDLERS --user shop",
    )
    parser.add_argument("--name", metavar="NAME", help="the folder's name if not given")
    parser.add_argument("--handlers", metavar="MODULE:ATTR", help="NAME.jobs:HANDLERS if not given")
    parser.add_argument("--user", metavar="USER", help="whom the worker runs as")


def add_check(commands: Any) -> None:
    """Add `dbq check`."""
    parser = add_command(
        commands,
        "check",
        _check,
        "say whether a config would work on this machine, and start nothing",
        "dbq check\ndbq check --config /etc/myapp/dbq.toml --json",
    )
    add_json(parser, "a JSON object")


def add_enqueue_recurring(commands: Any) -> None:
    """Add `dbq enqueue-recurring`."""
    parser = add_command(
        commands,
        "enqueue-recurring",
        _enqueue_recurring,
        "enqueue the job of a [[recurring]] section, at most once for each of its times",
        "dbq enqueue-recurring nightly-report --config /etc/myapp/dbq.toml",
    )
    parser.add_argument("name", metavar="NAME", help="of the recurring job")


def _init(args: argparse.Namespace) -> int:
    from ..config.starter import first_config, write_first_config

    path = Path(args.config or "dbq.toml")
    text = first_config(
        path.absolute().parent, name=args.name, handlers=args.handlers, user=args.user
    )
    write_first_config(path, text)
    print(f"wrote {path}")
    print("Look it through; then: dbq check, and dbq-install-cron or dbq-install-systemd")
    return DONE


def _check(args: argparse.Namespace) -> int:
    from ..check.check import check_config

    report = check_config(config_name(args))
    if args.json:
        print(dump_json(report.as_dict()))
    else:
        _print_report(report)
    return DONE if report.ok else WRONG


def config_name(args: argparse.Namespace) -> str:
    """The name of the config as the user gave it, for messages that begin with it."""
    return str(args.config or os.environ.get("DBQ_CONFIG") or "dbq.toml")


def _print_report(report: CheckReport) -> None:
    for finding in report.findings:
        level = "" if finding.level == "fault" else f"{finding.level}: "
        print(escape_control(f"{level}{finding}"), file=sys.stderr)
    for schedule in report.schedules:
        print(_schedule(schedule))
    if report.types:
        print(f"handlers for: {escape_control(', '.join(report.types))}")
    if report.ok:
        print(f"{report.path}: would work here")


def _schedule(schedule: Runs) -> str:
    times = ", ".join(run.strftime("%a %Y-%m-%d %H:%M") for run in schedule.next)
    return f"{schedule.where}: {escape_control(schedule.source)} ({schedule.words})\n  {times}"


def _enqueue_recurring(args: argparse.Namespace) -> int:
    from ..schedule.recurring import Verdict, enqueue_slot

    config = config_of(args, required=True)
    assert config is not None
    queue = queue_of(args, config, must_exist=False)
    outcome = enqueue_slot(config.recurring_jobs, args.name, queue.enqueue, queue.now())
    if outcome.verdict is Verdict.ENQUEUED:
        print(outcome.job_id)
        return DONE
    # Not a failure: cron would mail it and systemd report it, for a job that is in the queue.
    return complain(f"{args.name}: {outcome.verdict}", DONE)
