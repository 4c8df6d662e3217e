"""The reading as one HTML page that needs nothing else: `dbq report`, and the page with buttons.

The template (`views/page.html.j2`) has no script and loads nothing; its Content-Security-Policy
forbids both, whatever a job's type or error says. What strangers wrote is cut and made visible by
`clean` and escaped by jinja2.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..health.advice import Advice, parted
from ..health.report import STATES
from ..install.templates import template_folder
from ..support.files import NewFile, refusing, replace
from ..version import VERSION
from .reading import HOURS, Hour, Reading
from .words import age, clean, size, stamp

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
MODE: Final = 0o640  # of a report: it names jobs, so it is for the group, such as a web server's
# How many of each are shown, so that the page stays small and is read to its end.
LIMITS: Final = {"named": 3, "failures": 12, "running": 40, "types": 40, "schedules": 40}
WIDTH: Final = 10  # of an hour's bar with the gap after it
LABELS: Final = 4  # below the bars, as many as style.css.j2 has columns for


@dataclass(frozen=True, slots=True)
class Buttons:
    """What the page has beside the report: forms, which say to the queue what a person clicks.

    Args:
        action: where they are sent.
        token: proves that they come from this page.
        acts: what may be done; the others have no button.
        why: why there are none, in a sentence, if there are none.
    """

    action: str
    token: str
    acts: frozenset[str]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars of the hours, as paths of an SVG that is 100 high."""

    width: int
    paths: tuple[tuple[str, str], ...]  # class and path
    labels: tuple[str, ...]
    completed: int
    retried: int
    failed: int
    most: int
    said: str  # the same in words


def report(
    reading: Reading,
    advice: Advice,
    *,
    payloads: bool = False,
    page: Buttons | None = None,
    said: str = "",
) -> str:
    """Return the HTML of a reading.

    Args:
        reading: what is shown.
        advice: the commands to type next.
        payloads: whether it shows those that the reading has.
        page: the buttons; None for a report, which has none.
        said: what the last click has done, for the page.
    """
    commands = {
        "errors": advice.dbq("errors"),
        "running": advice.dbq("list", "--status", "processing"),
        "types": advice.dbq("stats"),
    }
    text = _template().render(
        it=reading,
        state=STATES[reading.health.state],
        states=STATES,
        place=reading.health.url or str(reading.health.path.absolute()),
        commands=commands,
        limits=LIMITS,
        hours=HOURS,
        chart=chart(reading.hours),
        payloads=payloads,
        page=page,
        said=said,
        policy=POLICY,
        version=VERSION,
    )
    return "\n".join(line for each in text.splitlines() if (line := each.strip())) + "\n"


def write_report(path: Path, html: str) -> None:
    """Put a report into a file, whole or not at all. Raises `StorageError`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "queue.html"
    >>> write_report(path, "<!doctype html>")
    >>> path.read_text()
    '<!doctype html>'
    """
    with refusing(path, "cannot write"):
        replace(NewFile(path, html.encode(), MODE, synced=False))


def chart(hours: Sequence[Hour]) -> Chart | None:
    """Return the bars of some hours; None where no attempt ended in any.

    >>> chart([Hour(0, completed=3), Hour(3600, completed=1, failed=1)]).paths
    (('done', 'M0 0h8v100h-8zM10 66.7h8v33.3h-8z'), ('lost', 'M10 33.3h8v33.3h-8z'))
    """
    most = max((hour.completed + hour.retried + hour.failed for hour in hours), default=0)
    if not most:
        return None
    paths = {"done": "", "again": "", "lost": ""}
    for number, hour in enumerate(hours):
        below = 0
        for name, count in zip(paths, (hour.completed, hour.retried, hour.failed), strict=True):
            if count:
                below += count
                top, high = 100 - 100 * below / most, 100 * count / most
                left, wide = number * WIDTH, WIDTH - 2
                paths[name] += f"M{left} {_short(top)}h{wide}v{_short(high)}h-{wide}z"
    completed = sum(hour.completed for hour in hours)
    retried = sum(hour.retried for hour in hours)
    failed = sum(hour.failed for hour in hours)
    said = (
        f"Bars, an hour each: {completed:,} attempts completed, {retried:,} tried again,"
        f" {failed:,} failed; at most {most:,} in one hour. The table below has the same numbers."
    )
    every = max(1, len(hours) // LABELS)
    return Chart(
        len(hours) * WIDTH,
        tuple((name, path) for name, path in paths.items() if path),
        tuple(stamp(hour.start)[5:] for hour in hours[::every]),
        *(completed, retried, failed, most),
        said,
    )


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _exact(moment: float) -> str:
    """A point in time with its seconds and its zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(moment))


def _iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(moment))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _limit(share: float) -> float:
    """A percentage that a bar can show."""
    return min(100.0, max(0.0, share))


@cache
def _template() -> Any:
    filters: Mapping[str, Any] = {
        "clean": clean,
        "age": age,
        "stamp": stamp,
        "size": size,
        "json": _json,
        "exact": _exact,
        "iso": _iso,
        "limit": _limit,
        "parted": parted,
    }
    environment = Environment(
        loader=FileSystemLoader(template_folder() / "views"),
        undefined=StrictUndefined,
        autoescape=True,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template("page.html.j2")
