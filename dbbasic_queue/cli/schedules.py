"""The command `dbq schedules`: what the clock starts, when, and how it went."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Final

from ..errors import QueueError
from ..support.account import Account
from ..support.columns import cut
from ..support.text import dump_json, escape_control
from .common import (
    DONE,
    Command,
    complain,
    config_path,
    json_option,
    load_config,
    queue_of,
)
from .terminal import width_of_terminal

if TYPE_CHECKING:
    from ..config.sections import Config
    from ..install.schedules import Scheduled
    from ..install.target import EntryStatus


def _schedules(args: argparse.Namespace) -> int:
    from ..install.schedules import schedules
    from .slots import server_slots

    config = load_config(config_path(args.config))
    installed = installed_entries(config)
    queue = queue_of(args, config)
    slots = server_slots(queue)
    found = list(
        schedules(config, queue.engine, installed, slots.slots() if slots is not None else None)
    )
    most = width_of_terminal() if sys.stdout.isatty() else 10**6
    width = max(len(each.name) for each in found) + 2
    for each in found:
        if args.json:
            print(dump_json(_as_json(each)))
            continue
        off = "" if each.enabled else " (off)"
        for line in (f"{each.name:{width}}{each.words}{off}", " " * width + _runs(each)):
            print(cut(escape_control(line.rstrip()), most))
    if installed is not None and not installed:
        complain(
            f"nothing of {config.path} is installed here: dbq-install-cron or dbq-install-systemd"
            " does that; dbq run needs neither",
            DONE,
        )
    return DONE


def _runs(each: Scheduled) -> str:
    """When it ran last and how it went, and when it runs next."""
    how = f", {each.how}" if each.how else ""
    last = f"last {_minute(each.last)}{how}" if each.last else f"no record of a run{how}"
    if each.next is None:
        return last if not each.enabled else f"{last}; not installed"
    return f"next {_minute(each.next)}; {last}"


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _as_json(each: Scheduled) -> dict[str, object]:
    last, following = (time and time.isoformat() for time in (each.last, each.next))
    return {**each._asdict(), "last": last, "next": following}


def installed_entries(config: Config) -> dict[str, EntryStatus] | None:
    """The installed entries of a config, by what they start; None if that cannot be seen."""
    from ..cron.target import CrontabTarget, CronTarget
    from ..install.manifest import load_manifest
    from ..install.site import Site
    from ..install.status import is_gone
    from ..systemd.target import SystemdTarget

    found: dict[str, EntryStatus] = {}
    me = Account.find(None)
    sites = [Site()] if os.geteuid() == 0 or me is None else [Site(), Site(me.name)]
    for site in sites:
        for target in (SystemdTarget(site), CrontabTarget(site) if site.user else CronTarget(site)):
            try:
                manifest = load_manifest(site, config.name, target.kind)
            except (QueueError, OSError):
                return None
            if manifest is not None and manifest.config == str(config.path):
                with contextlib.suppress(QueueError, OSError):
                    if is_gone(target, manifest):
                        continue
                    entries = manifest.entries or target.render(config).entries
                    found.update((each.label, each) for each in target.status(entries, config))
    return found


SCHEDULES: Final = Command(
    "schedules",
    "show what the clock starts by a config, when it ran last and how it went, and when next",
    _schedules,
    "dbq schedules\ndbq schedules --config /etc/myapp/dbq.toml --json",
    (json_option("a JSON object a line"),),
)
