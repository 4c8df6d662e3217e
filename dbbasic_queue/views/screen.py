"""A reading as a screen of lines, for `dbq top`: what stands where, and nothing of a terminal yet.

The first three lines say how the queue is, the last one which keys there are, or asks. Between them
are the entries, in four groups, one of which may be chosen; where they are more than fit, those
around the chosen one are shown. What strangers wrote is escaped here, once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ..health.report import STATES
from ..support.columns import cut, fitted, width_of
from .reading import Failing, Reading, RunningJob, TypeSeen, WaitingJob
from .words import age, clean

HEAD: Final = 3  # lines
GAP: Final = "  "
KEYS: Final = "q quit  ↑↓ choose  / filter  r retry  c cancel  p pause, resume"
VERDICTS: Final = ("good", "warn", "bad", "warn")  # styles, by the state of the check
RUNNING, FAILED, TYPES, NEXT = "RUNNING", "FAILED, BY TYPE AND ERROR", "TYPES", "NEXT"


class Span(NamedTuple):
    """A text of one style: title, dim, bold, good, warn, bad, running or plain."""

    text: str
    style: str = "plain"


Line = list[Span]


@dataclass(frozen=True, slots=True)
class Entry:
    """A line that can be chosen, and what it is about."""

    key: tuple[str, ...]  # by which it is known in the next reading
    about: RunningJob | Failing | WaitingJob | TypeSeen
    type: str
    line: Line
    words: str  # that a filter is looked for in


@dataclass(slots=True)
class View:
    """What the person at the terminal has chosen."""

    chosen: tuple[str, ...] | None = None
    filter: str = ""
    foot: str = ""  # in place of the keys: a question, an answer
    warning: bool = False  # the foot is one
    entries: list[Entry] = field(default_factory=list)  # as they were drawn last

    def entry(self) -> Entry | None:
        """Return the entry that is chosen."""
        return next((each for each in self.entries if each.key == self.chosen), None)

    def move(self, by: int) -> None:
        """Choose another entry, so many lines further down."""
        keys = [each.key for each in self.entries]
        if not keys:
            return
        at = keys.index(self.chosen) + by if self.chosen in keys else 0
        self.chosen = keys[min(max(at, 0), len(keys) - 1)]


def drawn(reading: Reading, view: View, columns: int, lines: int) -> list[tuple[Line, bool]]:
    """Return the lines of the screen, each with whether it is the chosen one.

    There are exactly `lines` of them, and none is wider than `columns`.
    """
    body = _body(reading, view, columns)
    if view.entry() is None:
        view.chosen = view.entries[0].key if view.entries else None
    room = max(0, lines - HEAD - 1)
    at = next((n for n, (_, key) in enumerate(body) if key is not None and key == view.chosen), 0)
    first = max(0, min(at - room // 2, len(body) - room))
    shown = [(line, key is not None and key == view.chosen) for line, key in body[first:][:room]]
    shown += [([], False)] * (room - len(shown))
    head = [(line, False) for line in _head(reading, view, columns)]
    screen = [*[*head, *shown][: lines - 1], (_foot(view), False)]
    return [(_cut(line, columns), chosen) for line, chosen in screen]


def _cut(line: Line, columns: int) -> Line:
    spans = []
    for text, style in line:
        part = cut(text, columns)
        spans.append(Span(part, style))
        columns -= width_of(part)
    return spans


# -- above and below -------------------------------------------------------------------------------


def _head(reading: Reading, view: View, columns: int) -> Iterator[Line]:
    health = reading.health
    verdict = STATES[health.state]
    clock = time.strftime("%H:%M:%S", time.localtime(reading.at))
    left = columns - len(verdict) - len(clock) - 2 * len(GAP)
    yield [
        Span(fitted(clean(reading.queue), left) + GAP, "bold"),
        Span(verdict, VERDICTS[health.state]),
        Span(GAP + clock),
    ]
    yield _counts(reading)
    why = health.findings[0].summary if health.findings else ""
    filtered = f"filter: {clean(view.filter)}" if view.filter else ""
    paused = f"paused: {', '.join(map(clean, reading.paused))}" if reading.paused else ""
    notes = [Span(filtered, "bold"), Span(paused, "warn"), Span(clean(why), VERDICTS[health.state])]
    said = [each for each in notes if each.text] or [Span(_last_run(reading), "dim")]
    yield [span for each in said for span in (each, Span(GAP))]


def _counts(reading: Reading) -> Line:
    counts = reading.counts
    ready = f" ({reading.ready:,} ready, {_short(reading.waited)})" if reading.ready else ""
    failed, cancelled = counts.get("failed", 0), counts.get("cancelled", 0)
    return [
        Span(f"{counts.get('pending', 0):,} pending{ready}{GAP}"),
        Span(f"{counts.get('processing', 0):,} running{GAP}", "running"),
        Span(f"{failed:,} failed{GAP}", "bad" if failed else "plain"),
        Span(f"{counts.get('completed', 0):,} completed{GAP}"),
        Span(f"{cancelled:,} cancelled" if cancelled else "", "dim"),
    ]


def _last_run(reading: Reading) -> str:
    if reading.last_run is None:
        return "no worker has run yet"
    return f"last worker run {_short(reading.at - reading.last_run)} ago"


def _foot(view: View) -> Line:
    if view.foot:
        return [Span(clean(view.foot), "warn" if view.warning else "bold")]
    return [Span(KEYS, "dim")]


# -- the entries -----------------------------------------------------------------------------------


def _body(reading: Reading, view: View, columns: int) -> list[tuple[Line, tuple[str, ...] | None]]:
    """The lines between head and foot, each with the key of its entry; None for a title."""
    width = min(24, max([8, *(width_of(clean(each.type)) for each in reading.types)]))
    groups = (
        (RUNNING, [_running(each, reading, width) for each in reading.running]),
        (FAILED, [_failing(each, reading, width) for each in reading.failures]),
        (TYPES, [_type(each, width) for each in reading.types]),
        (NEXT, [_waiting(each, reading, width) for each in reading.waiting]),
    )
    wanted = view.filter.lower()
    body: list[tuple[Line, tuple[str, ...] | None]] = []
    view.entries = []
    for title, entries in groups:
        found = [each for each in entries if wanted in each.words.lower()]
        if found:
            body.append(([Span(fitted(title, columns), "title")], None))
            body += [(each.line, each.key) for each in found]
            view.entries += found
    if not body:
        none = "nothing is like the filter" if wanted else "nothing runs, waits or has failed"
        body.append(([Span(none if reading.health.snapshot else "", "dim")], None))
    return body


def _short(seconds: float) -> str:
    """A length of time in its largest unit.

    >>> _short(7500), _short(-3)
    ('2 h', '0 s')
    """
    return " ".join(age(max(0, int(seconds))).split()[:2])


def _running(job: RunningJob, reading: Reading, width: int) -> Entry:
    since = fitted(_short(reading.at - job.since), 6, right=True)
    share = f"{job.share * 100:.0f} %" if job.share is not None else ""
    words = ", ".join(each for each in (share, clean(job.words)) if each)
    if job.alive is False:
        words = "its worker is dead: the next run takes it back"
    process = f"process {job.process}" if job.process else ""
    line = [
        Span(f"{GAP}{fitted(clean(job.type), width)}{GAP}{job.id:16}{GAP}{since}{GAP}"),
        Span(words + (GAP if words else ""), "bad" if job.alive is False else "running"),
        Span(process, "dim"),
    ]
    return Entry(("running", job.id), job, job.type, line, f"{job.type} {job.id} {words}")


def _failing(each: Failing, reading: Reading, width: int) -> Entry:
    kind = each.kind
    last = "" if kind.last is None else f"{_short(reading.at - kind.last)} ago"
    waiting = f"{kind.waiting:,} wait" if kind.waiting else ""
    line = [
        Span(f"{GAP}{fitted(clean(kind.type), width)}{GAP}"),
        Span(f"{kind.number:>6,}", "bad"),
        Span(GAP + fitted(", ".join(it for it in (last, waiting) if it), 16) + GAP),
        Span(clean(kind.error)),
    ]
    key = ("failed", kind.type, kind.glob)
    return Entry(key, each, kind.type, line, f"{kind.type} {kind.error} failed")


def _waiting(job: WaitingJob, reading: Reading, width: int) -> Entry:
    late = reading.at - job.due
    due = f"due {_short(late)} ago" if late >= 0 else f"in {_short(-late)}"
    error = f"after {job.attempts}: {clean(job.error)}" if job.error else ""
    text = f"{GAP}{fitted(clean(job.type), width)}{GAP}{job.id:16}{GAP}{fitted(due, 14)}{GAP}"
    line = [Span(text), Span(error, "dim")]
    return Entry(("waiting", job.id), job, job.type, line, f"{job.type} {job.id} {job.error}")


def _type(each: TypeSeen, width: int) -> Entry:
    line = [
        Span(f"{GAP}{fitted(clean(each.type), width)}{GAP}"),
        Span(f"{each.pending:>9,} pending{GAP}{each.processing:>5,} running{GAP}"),
        Span(f"{each.failed:>7,} failed{GAP}", "bad" if each.failed else "plain"),
        Span("paused" if each.paused else "", "warn"),
    ]
    return Entry(("type", each.type), each, each.type, line, each.type)
