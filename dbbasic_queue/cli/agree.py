"""`dbq check` and the installers ask the same questions: each says what the other would say.

The check asks the installers that this machine has a scheduler for what they would refuse, and an
installer runs the check first. Where every installer would refuse, nothing would work; where one
would not, it is for the user to choose.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..check.check import CheckReport, check_config
from ..check.finding import Level, Problem
from ..config.sections import Config, load
from ..cron.target import CrontabTarget, CronTarget
from ..errors import QueueError
from ..install.logrotate import LogrotateTarget
from ..install.manifest import manifests
from ..install.site import Site
from ..install.target import Target
from ..support.text import escape_control
from ..systemd.target import SystemdTarget

BOOTED: Final = Path("/run/systemd/system")  # sd_booted(3)
MANAGER: Final = "/run/user/{uid}/systemd/private"  # where a user's own manager answers
_BESIDE: Final = ("[log]", "[health]", "[report]", "[notify]")  # jobs run without these
_TOOLS: Final = {
    "cron": "dbq-install-cron",
    "cron-user": "dbq-install-cron",
    "systemd": "dbq-install-systemd",
    "systemd-user": "dbq-install-systemd",
    "logrotate": "dbq-install-logrotate",
}


def check(path: str, site: Site) -> CheckReport:
    """Check a config, and ask what the installers would refuse.

    Args:
        path: the `dbq.toml`.
        site: where this user would install: the system, or the user's own part of it.
    """
    report = check_config(path)
    if report.name is None:
        return report
    try:
        config = load(path)
    except QueueError:  # changed just now
        return report
    return replace(report, findings=(*report.findings, *_refusals(config, site)))


def remarks(config: Config, target: Target) -> list[str]:
    """Return what `dbq check` would say, for an installation that is about to be made.

    Only for the running system, and a target that starts something. That two schedulers run one
    name, the installer tells by itself. A fault that may be mended later, as when the application
    is deployed after its schedule, refuses no installation; but what then happens is said.
    """
    if not target.site.live or target.kind == "logrotate":
        return []
    problems = check_config(config.path).findings
    told = [problem for problem in problems if problem.where != "name"]
    notes = [f"dbq check says: {escape_control(str(problem))}" for problem in told]
    faults = [problem for problem in told if problem.level is Level.FAULT]
    if faults:
        again = shlex.join(["dbq", "check", "--config", str(config.path)])
        stops = not all(problem.where.startswith(_BESIDE) for problem in faults)
        said = "jobs will not run before that is mended; " if stops else ""
        notes.append(f"{said}to see whether it is{'' if stops else ' mended'}: {again}")
    return notes


def _refusals(config: Config, site: Site) -> Iterator[Problem]:
    """What the installers would refuse: of those in use, else of all that this machine can use."""
    possible = _schedulers(site)
    used = {manifest.kind for manifest in manifests(site) if manifest.name == config.name}
    asked = [target for target in possible if target.kind in used] or possible
    refused = {target: said for target in asked if (said := _refused(config, target))}
    level = Level.FAULT if len(refused) == len(asked) else Level.WARNING
    for target, sentences in refused.items():
        for sentence in sentences:
            yield Problem(level, "", f"{_TOOLS[target.kind]} would refuse: {sentence}")
    if config.log and site.user is None and shutil.which("logrotate"):
        for sentence in _refused(config, LogrotateTarget(site)):
            yield Problem(Level.WARNING, "", f"{_TOOLS['logrotate']} would refuse: {sentence}")


def _schedulers(site: Site) -> list[Target]:
    """The targets of the schedulers that this machine has."""
    found: list[Target] = []
    if shutil.which("crontab"):
        found.append(CrontabTarget(site) if site.user else CronTarget(site))
    manager = Path(MANAGER.format(uid=os.geteuid()))
    if BOOTED.is_dir() and (site.user is None or manager.exists()):
        found.append(SystemdTarget(site))
    return found


def _refused(config: Config, target: Target) -> list[str]:
    """What a target has against a config, a sentence each."""
    try:
        if target.site.live and (said := target.refusal()):
            return [said]
        return target.verify(target.render(config), config)
    except QueueError as error:
        return str(error).splitlines()
