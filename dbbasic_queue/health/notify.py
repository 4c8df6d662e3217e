"""Who is told when the verdict of the scheduled check changes: a program, services by Apprise.

Theory of operation
-------------------
Each of them is told on its own when the verdict is another one than it was told last, when it has
cleared, and again after `repeat` while something is wrong. What was said stands in a plain-text
file, a line each, and is written after the telling: what did not arrive is tried again by the next
check. A process of its own tells, in bounded time, as the worker's user.

The file also keeps when the queue's server was last reached, so that a later check knows for how
long it has been away.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..config.notify import NotifyConfig
from ..errors import StorageError
from ..support.account import Account
from ..support.child import ChildDied, ChildTimeout, call
from ..support.files import NewFile, read_regular, refusing, replace
from ..support.text import dump_json, escape_control
from . import formats
from .report import OK, STATES, HealthReport

log = logging.getLogger("dbbasic_queue")

SECONDS: Final = 15.0  # that each of them may take
LARGEST: Final = 1 << 16  # bytes of what is remembered
NOTE: Final = "# What [notify] of dbq.toml has said last, by name. Without this it is said anew.\n"
SERVER, REACHED = "the queue's server", "REACHED"  # its line, beside those of who is told
_MODE: Final = 0o640

CHANGED, CLEARED, AGAIN = "changed", "cleared", "again"


class Said(NamedTuple):
    """What was said last: the verdict's name, and when, in Unix seconds."""

    state: str
    at: int


def occasion(state: str, last: Said | None, now: int, repeat: int) -> str:
    """Return why something is to be said: `changed`, `cleared` or `again`; empty for no reason.

    >>> occasion("CRITICAL", None, 0, 60), occasion("OK", Said("CRITICAL", 0), 5, 60)
    ('changed', 'cleared')
    """
    good = STATES[OK]
    if state != (last.state if last else good):
        return CLEARED if state == good else CHANGED
    if state != good and last is not None and not 0 <= now - last.at < repeat:
        return AGAIN
    return ""


def message(report: HealthReport, why: str, before: str, payloads: Mapping[str, Any]) -> str:
    """Return what a program is told: one JSON object.

    Args:
        report: of the check.
        why: the occasion.
        before: the verdict that was told last.
        payloads: of the jobs that are named, by id; none unless the config says so.
    """
    findings = [asdict(finding) for finding in report.findings]
    for finding in findings:
        for named in finding["named"]:
            if named["id"] in payloads:
                named["payload"] = payloads[named["id"]]
    return dump_json(
        {
            "queue": report.queue,
            "state": STATES[report.state],
            "before": before,
            "why": why,
            "at": report.at,
            "headline": formats.headline(report),
            "findings": findings,
        }
    )


def tell(
    notify: NotifyConfig,
    report: HealthReport,
    file: Path,
    payload_of: Callable[[str], Any],
    user: Account | None = None,
) -> None:
    """Tell all that have not heard of this verdict; what fails is logged, and tried again later.

    Before that, it is written down when the queue's server was reached, if it was.

    Args:
        notify: the program and the services, and how often to tell them.
        report: of the check.
        file: what was said last; made anew.
        payload_of: the payload of a job by its id, asked only if the config says so.
        user: who tells; None: this user.
    """
    channels = {"command": notify.command} if notify.command else {}
    channels |= {_name(url): (url,) for url in notify.urls}
    parts = {
        name: partial(_tell, name, words, notify, report, file, payload_of)
        for name, words in channels.items()
    }
    if report.server is not None and report.contact is not None:
        parts = {SERVER: partial(_keep_contact, file, report.contact), **parts}
    for name, part in parts.items():
        try:
            fault = call(part, SECONDS, user=user)
        except ChildTimeout:
            fault = f"it did not end within {SECONDS:g} s"
        except ChildDied as error:
            fault = f"the process that told it {error}"
        except StorageError as error:
            fault = str(error)
        if fault:
            log.warning("[notify] %s: %s", name, fault, extra={"event": "notify"})


def _name(url: str) -> str:
    """A name for a service without the secrets of its URL."""
    scheme = url.partition(":")[0][:20]
    return f"{scheme} {blake2b(url.encode(), digest_size=4).hexdigest()}"


def _keep_contact(file: Path, at: int) -> str:
    """Write down when the server was reached. Returns the empty text, as nothing went wrong."""
    remember(file, {**read(file), SERVER: Said(REACHED, at)})
    return ""


def last_contact(file: Path) -> int | None:
    """Return when the queue's server was last reached, in Unix seconds.

    None if the file does not tell, or cannot be read.
    """
    with suppress(StorageError):
        if SERVER in (known := read(file)):
            return known[SERVER].at
    return None


def _tell(
    name: str,
    words: tuple[str, ...],
    notify: NotifyConfig,
    report: HealthReport,
    file: Path,
    payload_of: Callable[[str], Any],
) -> str:
    """Tell one of them if there is a reason; return what went wrong. Runs in a child process."""
    known = read(file)
    state, now = STATES[report.state], int(time.time())
    why = occasion(state, known.get(name), now, notify.repeat)
    if not why:
        return ""
    before = known[name].state if name in known else STATES[OK]
    payloads = {}
    if notify.payloads:
        ids = {named.id for finding in report.findings for named in finding.named if named.id}
        payloads = {each: payload_of(each) for each in sorted(ids)}
    if name == "command":
        fault = _run(words, message(report, why, before, payloads))
    else:
        fault = _send(words[0], report, payloads)
    if not fault:
        remember(file, {**known, name: Said(state, now)})
    return fault


def _run(words: tuple[str, ...], text: str) -> str:
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return f"cannot start {words[0]}: {error.strerror}"
    try:
        _, errors = process.communicate(text.encode() + b"\n", timeout=SECONDS - 2)
    except subprocess.TimeoutExpired:
        return f"{words[0]} did not end within {SECONDS - 2:g} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        said = escape_control(errors.decode("utf-8", "replace").strip()[-200:])
        return f"{words[0]} ended with exit status {process.returncode}: {said}"
    return ""


def _send(url: str, report: HealthReport, payloads: Mapping[str, Any]) -> str:
    try:
        import apprise
    except ModuleNotFoundError:
        return f"Apprise is not there: {sys.executable} -m pip install 'dbbasic-queue[notify]'"
    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it would log the URL's secrets
    told = apprise.Apprise()
    if not told.add(url):
        return "Apprise does not know such a URL"
    body = formats.text(report)
    body += "".join(f"payload of {each}: {dump_json(text)}\n" for each, text in payloads.items())
    kind = ("success", "warning", "failure", "failure")[report.state]
    title = f"dbq {report.queue}: {STATES[report.state]}"
    sent = told.notify(body=body, title=title, notify_type=kind, body_format="text")
    return "" if sent else "the service did not take it"


def _lines(file: Path) -> list[str]:
    try:
        return read_regular(file, LARGEST).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(error.errno or 5, f"{file}: {error.strerror}") from error


def read(file: Path) -> dict[str, Said]:
    """Return what was said last, by name; a line that says nothing is passed over."""
    return dict(filter(None, map(_parse, _lines(file))))


def _parse(line: str) -> tuple[str, Said] | None:
    """What a line tells: the name, and what was said; None if it says nothing."""
    words = line.split("\t")
    if len(words) == 4 and words[0].isdecimal() and words[2] in (*STATES, REACHED):
        return words[3], Said(words[2], int(words[0][:12]))
    return None


def bad_lines(file: Path) -> list[tuple[int, str]]:
    """Return the number of each line that says nothing, from 1, and why. Raises `StorageError`."""
    return [
        (at, "tells nothing, so that it is said anew: it is not a time, a date, a verdict, a name")
        for at, line in enumerate(_lines(file), 1)
        if line.strip() and not line.startswith("#") and _parse(line) is None
    ]


def mend(file: Path, set_aside: Callable[[bytes], None]) -> None:
    """Take out the lines that say nothing, which `set_aside` is given before.

    Raises `StorageError`.
    """
    lines, bad = _lines(file), {at for at, _ in bad_lines(file)}
    set_aside("".join(f"{lines[at - 1]}\n" for at in sorted(bad)).encode())
    remember(file, read(file))


def remember(file: Path, said: Mapping[str, Said]) -> None:
    """Write down what was said. Raises `StorageError`."""
    lines = [
        f"{at}\t{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))}\t{state}\t{name}\n"
        for name, (state, at) in sorted(said.items())
    ]
    with refusing(file, "cannot write"):
        replace(NewFile(file, (NOTE + "".join(lines)).encode(), _MODE, synced=False))
