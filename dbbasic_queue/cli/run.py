"""The command `dbq run`: all that a config says, in one process in the foreground."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from ..log import JsonFormatter, TextFormatter
from ..queue import Queue
from ..worker.renewal import Renewal
from .common import DONE, Command, arg, config_path, duration, load_config
from .log_file import set_up
from .work import settle_as_root

if TYPE_CHECKING:
    from ..config.sections import Config

log = logging.getLogger("dbbasic_queue")


def _run(args: argparse.Namespace) -> int:
    from .one_process import OneProcess
    from .programs import Changes, programs_of, variables_of

    config = load_config(config_path(args.config))
    if os.geteuid() == 0:
        args.file, args.url, args.config = None, None, str(config.path)
        settle_as_root(args, config, "run")
    grace = None if args.grace is None else duration(args.grace)
    formatter = JsonFormatter() if args.log_format == "json" else TextFormatter()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    set_up([handler], logging.WARNING if args.quiet else logging.INFO)
    if config.worker.nice is not None:
        os.nice(config.worker.nice)
    changed = Changes(config.directory).seen if args.reload else None
    programs = list(programs_of(config, _log_options(args)))
    names = ", ".join(each.name for each in programs)
    log.info("runs %s: %s", config.name, names or "nothing, as the config has all of it off")
    environment = variables_of(config)
    environment()  # so that a fault in the file of variables is told, and not again and again
    came_by = [str(config.path), str(config.directory)]
    renewal = Renewal(Queue(config.address(), **config.queue_options).engine.restart_mark, came_by)
    folder = str(config.directory)
    ended = OneProcess(programs, folder, environment, grace, changed, renewal.due).run()
    if not ended:
        _begin_anew(config, args)
    return DONE


def _begin_anew(config: Config, args: argparse.Namespace) -> NoReturn:
    """Become `dbq run` once more, by the paths of before: new code, and a new config.

    In the same process, so that a container goes on and nothing is needed to start it again.
    """
    from ..install.entries import command

    sys.stdout.flush()
    os.chdir(config.directory)
    words = command(config.worker.python, "run", *args.words, "--config", str(config.path))
    os.execv(words[0], words)


def _log_options(args: argparse.Namespace) -> tuple[str, ...]:
    quiet = ("--quiet",) if args.quiet else ()
    return ("--log-file", "-", "--log-format", args.log_format, *quiet)


RUN: Final = Command(
    "run",
    "run the worker and all that the config schedules, in the foreground: for containers",
    _run,
    "dbq run --config /etc/myapp/dbq.toml\ndbq run --reload\ndbq run --grace 8s --log-format json",
    (
        arg("--config", metavar="PATH", help="the dbq.toml ($DBQ_CONFIG; ./dbq.toml)"),
        arg(
            "--reload",
            action="store_true",
            help="start the workers anew when a .py file below the application's folder changes",
        ),
        arg(
            "--grace",
            metavar="TIME",
            help="how long the jobs in hand may go on after SIGTERM, before they are put back"
            " (default: until they end)",
        ),
        arg("--log-format", choices=("text", "json"), default="text", help="of the log (text)"),
        arg("-q", "--quiet", action="store_true", help="log only what goes wrong"),
    ),
    of_queue=False,
)
