"""The commands `dbq-install-cron`, `dbq-install-systemd` and `dbq-install-logrotate`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import pwd
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..config import sections as configs
from ..config.search import DEFAULT_CONFIG, SYSTEM_CONFIG
from ..config.whose import require_own
from ..cron.target import CrontabTarget, CronTarget
from ..errors import InstallError, QueueError
from ..install.log_owner import give_log
from ..install.logrotate import LogrotateTarget
from ..install.manifest import (
    double_scheduled,
    likely_sites,
    load_manifest,
    manifests,
    removal_command,
)
from ..install.plan import apply, beside_diff, diff, former_names, plan_apply, remove
from ..install.site import Site
from ..install.status import Status, survey
from ..install.target import Plan, Target
from ..support.account import Account
from ..support.files import given_path
from ..support.opening import user_name
from ..support.text import escape_control
from ..systemd.target import SystemdTarget
from .agree import remarks
from .common import (
    INTERRUPTED,
    UsageError,
    complain,
    config_path,
    hold_descriptors,
    reason,
    set_up_output,
)
from .take_over import hand_over

OK, DIFFERS, TROUBLE = 0, 1, 2  # see common.py for what they mean
_MOST_ENTRIES = 1000  # of a folder, in which a link to another is looked for
_VERBS = {
    "print": "print what would be installed",
    "diff": "print a unified diff from what is installed to what would be",
    "check": "like --diff, but print nothing",
    "remove": "remove exactly what was installed",
    "status": "show what is installed, the next and last runs, and the running jobs",
}


@dataclass(frozen=True)
class _Tool:
    """One of the three commands."""

    name: str
    summary: str
    target: Callable[[Site], Target]
    user_help: str | None = None


_CRON = _Tool(
    "dbq-install-cron",
    "Schedule all that a dbq.toml names (worker, recurring jobs, prune, health) by cron.",
    lambda site: CrontabTarget(site) if site.user else CronTarget(site),
    "a block in the crontab of NAME (default: yours); its other lines stay as they are",
)
_SYSTEMD = _Tool(
    "dbq-install-systemd",
    "Schedule all that a dbq.toml names (worker, recurring, prune, health) by systemd.",
    SystemdTarget,
    "units for the service manager of the user NAME (default: you)",
)
_LOGROTATE = _Tool(
    "dbq-install-logrotate", "Rotate the log of a dbq.toml by logrotate.", LogrotateTarget
)
TOOLS = (_CRON, _SYSTEMD, _LOGROTATE)


def cron(arguments: Sequence[str] | None = None) -> int:
    """`dbq-install-cron`: returns the exit code."""
    return _main(_CRON, arguments)


def systemd(arguments: Sequence[str] | None = None) -> int:
    """`dbq-install-systemd`: returns the exit code."""
    return _main(_SYSTEMD, arguments)


def logrotate(arguments: Sequence[str] | None = None) -> int:
    """`dbq-install-logrotate`: returns the exit code."""
    return _main(_LOGROTATE, arguments)


def _main(tool: _Tool, arguments: Sequence[str] | None) -> int:
    hold_descriptors()
    set_up_output()
    options = _parser(tool).parse_args(arguments)
    set_up_output(json=options.json)
    try:
        code = _run(tool, options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # --print | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (UsageError, QueueError, OSError) as error:
        code = complain(reason(error), TROUBLE, tool.name)
        print(getattr(error, "patch", ""), end="", file=sys.stderr)
        return code
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser(tool: _Tool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=tool.name,
        description=f"{tool.summary}\nWithout a verb: install, or bring up to date.",
        epilog=_epilog(tool),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = parser.add_argument_group("verbs (default: apply)").add_mutually_exclusive_group()
    for verb, what in _VERBS.items():
        verbs.add_argument(f"--{verb}", dest="verb", action="store_const", const=verb, help=what)
    parser.set_defaults(verb="apply")
    where = parser.add_argument_group("where")
    whose = where.add_mutually_exclusive_group()
    if tool.user_help:
        whose.add_argument("--user", nargs="?", const="", metavar="NAME", help=tool.user_help)
    whose.add_argument(
        "--system", action="store_true", help="for the whole machine (default for root and --root)"
    )
    where.add_argument("--root", metavar="DIR", help="write below DIR and activate nothing")
    parser.add_argument(
        "--config",
        metavar="PATH",
        help=f"the config (default: $DBQ_CONFIG, ./dbq.toml, {SYSTEM_CONFIG})",
    )
    parser.add_argument(
        "--name", help="with --remove and --status: the name of a config that no longer exists"
    )
    parser.add_argument(
        "--force", action="store_true", help="overwrite or remove files that were edited by hand"
    )
    parser.add_argument("--json", action="store_true", help="print what was done or found as JSON")
    return parser


def _epilog(tool: _Tool) -> str:
    return f"""\
A second run writes nothing. What was edited by hand is shown and, without --force, left alone.

examples:
  {tool.name} --config /etc/myapp/dbq.toml --diff
  {tool.name} --config /etc/myapp/dbq.toml
  {tool.name} --status
  {tool.name} --remove --name myapp

exit status:
  0  done; --check and --diff: as the config says; --status: something is installed
  1  --check and --diff: not as the config says; --status: nothing is installed
  2  a fault in the config, an edited file, no permission; nothing was changed unless the
     message says so"""


# --- One run ------------------------------------------------------------------------------------


def _run(tool: _Tool, options: argparse.Namespace) -> int:
    if options.name and options.verb not in ("remove", "status"):
        raise InstallError("--name goes with --remove and --status; the config has its own name")
    site = _site(options)
    if options.verb in ("apply", "remove"):
        _need_permission(site)
    if options.verb in ("remove", "status"):
        return _by_name(tool, options, site)
    config = _config(options, site)
    if options.verb == "apply" and site.live and os.geteuid() == 0:
        _require_own(config, site)
    if _is_other(site):
        tool.target(site).render(config)  # which may load what the other user cannot read
        _become(site)
    target = tool.target(site)
    if options.verb == "print":
        for file in target.render(config).files:
            sys.stdout.buffer.write(f"# {file.path}\n".encode(errors="surrogateescape"))
            sys.stdout.buffer.write(file.text)
        return OK
    if options.verb in ("diff", "check"):
        return _compare(target, config, options)
    return _apply(target, config, options)


def _require_own(config: configs.Config, site: Site) -> None:
    """Refuse, as root, to schedule what a third user could change."""
    account = Account.find(site.user or config.worker.user)
    require_own(config.path, "the config", account)
    files = {
        "environment_file": config.worker.environment_file,
        "url_file": config.queue.url_file,
    }
    for what, file in files.items():
        if file is not None and file.exists():
            require_own(file, what, account)


def _compare(target: Target, config: configs.Config, options: argparse.Namespace) -> int:
    plan = plan_apply(target, config)
    if options.verb == "diff":
        sys.stdout.buffer.write(diff(plan).encode())  # the files' own bytes, in any locale
        for sentence in beside_diff(plan):
            print(sentence, file=sys.stderr)
    return OK if plan.in_sync else DIFFERS


def _apply(target: Target, config: configs.Config, options: argparse.Namespace) -> int:
    left = _hand_over(target, config)
    checked = remarks(config, target)  # of what is there now
    try:
        plan = apply(target, config, force=options.force)
    except InstallError:
        for remark in checked:
            print(f"note: {remark}", file=sys.stderr)
        raise
    notes = [*checked, *left, *target.notes(config), *_neighbours(target, config)]
    _report(plan, notes, options.json, "installed already as the config says; nothing was written")
    return OK


def _hand_over(target: Target, config: configs.Config) -> list[str]:
    """As root, make the package's queue and a log in a folder of root's those of the worker's user.

    So another `[worker].user` than the package's needs no more than this installation. Returns what
    was left as it is, a sentence each.
    """
    account = Account.find(config.worker.user) if config.worker.user else None
    whole = target.site.live and target.site.user is None and os.geteuid() == 0
    if account is None or not whole or target.kind == "logrotate":
        return []
    try:
        left = []
        folder = config.queue.file.parent if config.queue.file else None
        if folder and folder.is_dir() and folder.stat().st_uid != account.uid:
            left += hand_over(config)
        if config.log and config.log.file.parent.is_dir():
            left += give_log(config.log.file, account)
        return left
    except OSError as error:
        return [f"not given to {account.name}: {reason(error)}"]


def _by_name(tool: _Tool, options: argparse.Namespace, site: Site) -> int:
    if options.verb == "status" and not (options.name or _names_config(options)):
        return _show_all(tool, options, site)
    name = options.name or _config(options, site).name
    if _is_other(site):
        _become(site)
    target = tool.target(site)
    if options.verb == "remove":
        plan = remove(target, name, force=options.force)
        _report(plan, [], options.json, "not installed; nothing was changed")
        return OK
    status = survey(target, name, _installed_config(target, name))
    _show(status, name, options.json)
    return OK if status else DIFFERS


def _names_config(options: argparse.Namespace) -> bool:
    """Whether a config is named, or lies in this folder; the system's counts as neither."""
    named = options.config or os.environ.get("DBQ_CONFIG")
    return bool(named) or os.path.exists(DEFAULT_CONFIG)


def _show_all(tool: _Tool, options: argparse.Namespace, site: Site) -> int:
    """Show every installation of this kind."""
    if _is_other(site):
        _become(site)
    target = tool.target(site)
    names = [found.name for found in manifests(site) if found.kind == target.kind]
    found = [survey(target, name, _installed_config(target, name)) for name in names]
    there = [status for status in found if status is not None]
    if options.json:
        records = [dataclasses.asdict(status) for status in there]
        print(json.dumps(records, indent=2, default=str))
    for status in () if options.json else there:
        _show(status, status.name, as_json=False)
        print()
    if not there and not options.json:
        print(f"{tool.name}: nothing is installed")
    return OK if there else DIFFERS


def _installed_config(target: Target, name: str) -> configs.Config | None:
    """The config that an installation was made from, if it is still there and sound."""
    manifest = load_manifest(target.site, name, target.kind)
    if manifest is None:
        return None
    try:
        return _load(target.site.below(Path(manifest.config)), target.site)
    except QueueError:
        return None


# --- Where and as which user --------------------------------------------------------------------


def _config(options: argparse.Namespace, site: Site) -> configs.Config:
    return _load(config_path(options.config), site)


def _load(path: str | Path, site: Site) -> configs.Config:
    """The config; one that lies below `--root` has the path that it will have in that system."""
    absolute = given_path(path)
    if site.live or not absolute.is_relative_to(site.root):
        return configs.load(path)
    configs.load(path)  # whose faults are told with the path as it was given
    return configs.parse(absolute.read_text("utf-8"), "/" / absolute.relative_to(site.root))


def _site(options: argparse.Namespace) -> Site:
    user = getattr(options, "user", None)
    root = Path(os.path.abspath(options.root)) if options.root is not None else Path("/")
    if not root.is_dir():
        raise InstallError(f"--root {options.root}: no such folder")
    if user is None and not options.system and hasattr(options, "user"):
        user = "" if options.root is None and os.geteuid() != 0 else None
    if user is None:
        return Site(root=root)
    return Site(user or _own_name(), root)


def _own_name() -> str:
    return user_name(os.geteuid())


def _is_other(site: Site) -> bool:
    return site.live and site.user is not None and site.user != _own_name()


def _need_permission(site: Site) -> None:
    if os.geteuid() == 0 or not site.live:
        return
    if site.user is None:
        raise InstallError("installing for the whole machine needs root (only --user does not)")
    if _is_other(site):
        raise InstallError(f"only root can install for another user ({site.user})")


def _become(site: Site) -> None:
    """Become the user whose site it is: root writes nothing into a user's folders."""
    if os.geteuid() != 0:
        raise InstallError(f"only root can do this for another user ({site.user})")
    site.home_folder()
    entry = pwd.getpwnam(str(site.user))
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    runtime = f"/run/user/{entry.pw_uid}"
    os.environ.update(
        HOME=entry.pw_dir, USER=entry.pw_name, LOGNAME=entry.pw_name, XDG_RUNTIME_DIR=runtime
    )
    os.environ["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={runtime}/bus"
    for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        os.environ.pop(variable, None)
    os.chdir("/")


def _neighbours(target: Target, config: configs.Config) -> list[str]:
    """What else the user should know: double scheduling, a missing interpreter, a former name."""
    site = target.site
    sites = [*likely_sites(config.worker.user, site.root), site]
    found = [] if target.kind == "logrotate" else double_scheduled(config.name, sites)
    with contextlib.suppress(InstallError):  # a link that leads out of --root
        if not os.path.exists(site.below(Path(config.worker.python))):
            found.append(f"[worker].python: {config.worker.python} does not exist yet")
    if site.live and (said := _other_name(config.path)):
        found.append(said)
    for name in former_names(config, target):
        undo = removal_command(site, name, target.kind)
        found.append(f"this config is installed under its former name, {name}, too; remove: {undo}")
    return found


def _other_name(config: Path) -> str | None:
    """Say so if a link nearby leads to the config's folder, as `current` leads to a release.

    The next deployment turns the link, and what names the folder itself stays behind.
    """
    folder = config.parent
    if os.path.realpath(folder) != str(folder):
        return None
    for above in (folder.parent, folder.parent.parent):
        with contextlib.suppress(OSError), os.scandir(above) as entries:
            for entry in itertools.islice(entries, _MOST_ENTRIES):
                if entry.is_symlink() and os.path.realpath(entry.path) == str(folder):
                    name = shlex.quote(os.path.join(entry.path, config.name))
                    return (
                        f"{entry.path} is a link to {folder}. If deployments turn it to another "
                        f"folder, install by its name: --config {name}"
                    )
    return None


# --- What is printed ----------------------------------------------------------------------------


def _report(plan: Plan, notes: Sequence[str], as_json: bool, idle: str) -> None:
    if as_json:
        changes = [{"path": str(c.path), "action": c.action} for c in plan.work]
        record = {"name": plan.name, "kind": plan.kind, "changes": changes, "notes": list(notes)}
        print(json.dumps(record, indent=2))
        return
    for change in plan.work:
        print(f"{change.action}d {change.path!s}")
    if not plan.work:
        print(f"{plan.name}: {'activated' if plan.inactive else idle}")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _show(status: Status | None, name: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(dataclasses.asdict(status) if status else None, indent=2, default=str))
        return
    if status is None:
        print(f"{name}: not installed")
        return
    lines = [f"{status.name}, by {status.kind}, from {status.config}"]
    lines += [f"  {path}: {state}" for path, state in status.files.items()]
    rows = [("what", "schedule", "next run", "last run", "")]
    for entry in status.entries:
        when = (_time(entry.next_run), _time(entry.last_run))
        rows.append((entry.label, entry.schedule, *when, entry.note))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines.append("")
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  " + "  ".join(cells).rstrip())
    lines.append("")
    if status.running is None:
        lines.append("running now: unknown, as the config or its queue cannot be read")
    else:
        lines.append("running now:" if status.running else "running now: nothing")
        lines += [f"  {sentence}" for sentence in status.running]
    for line in lines:  # with another user's words in them: types of jobs, a manifest's paths
        print(escape_control(line))


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "-"


if __name__ == "__main__":
    sys.exit({"cron": cron, "systemd": systemd, "logrotate": logrotate}[sys.argv[1]](sys.argv[2:]))
