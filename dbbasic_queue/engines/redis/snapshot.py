"""A queue in numbers, for a person or a health check: reads only, whatever it finds.

The list of a type is in the order in which its jobs were due, so that how many are overdue is found
by halving.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ...job import CANCELLED, COMPLETED, FAILED, PROCESSING, Job
from ..answers import Limits, Running, Snapshot, Stats, Stuck
from ..interface import AHEAD
from ..pausing import Held, paused_at
from . import identity, paused, rates
from .link import Link
from .looking import Looking
from .records import KEEP, Lane, Record, Records, to_job
from .transitions import own_part


class _Begun(NamedTuple):
    """A job that is processing, and when its lease ends."""

    record: Record
    ends: float


def stats(link: Link, records: Records, looking: Looking) -> Stats:
    """The state of a queue in numbers."""
    now = int(link.look_at_clock())
    lanes = looking.lanes()
    ready, oldest = _ready(link, records, looking, lanes, now)
    last_run, info, pauses = link.ask(
        lambda pipe: (pipe.get(records.run), pipe.info("memory"), pipe.hvals(records.paused))
    )
    return Stats(
        jobs=looking.counts(lanes),
        ready=ready,
        latency=max(0, now - oldest) if oldest is not None else 0,
        last_run=float(last_run) if last_run else None,
        size=int(info["used_memory"]),
        paused=tuple(paused_at(paused.parse(pauses), now)),
    )


def running(link: Link, records: Records, looking: Looking) -> list[Running]:
    """The jobs that are processing, and whether their workers live."""
    now = link.look_at_clock()
    return [
        Running(
            to_job(begun.record),
            not _is_orphaned(begun, now),
            identity.process_of(begun.record.worker),
        )
        for begun in _begun(link, records, looking)
    ]


def _begun(link: Link, records: Records, looking: Looking) -> list[_Begun]:
    lanes = looking.lanes()
    answers = link.ask(
        lambda pipe: [pipe.zrange(lane.started, 0, -1, withscores=True) for lane in lanes]
    )
    ends = {
        records.own_id(member): (member.decode().partition(":")[2], score)
        for some in answers
        for member, score in some
    }
    return [
        _Begun(record, ends[record.id][1])
        for record in looking.records(list(ends))
        if record.status == PROCESSING and record.holder == ends[record.id][0]
    ]


def _is_orphaned(begun: _Begun, now: float) -> bool:
    """Say whether the worker of a job is dead, as far as can be told from here."""
    return begun.ends <= now or identity.is_dead(begun.record.worker)


def _ready(
    link: Link, records: Records, looking: Looking, lanes: list[Lane], now: int
) -> tuple[int, int | None]:
    """How many jobs are due, and since when the first of them is."""
    if not lanes:
        return 0, None

    def questions(pipe: Any) -> None:
        for lane in lanes:
            pipe.llen(lane.queue)
            pipe.zcount(lane.scheduled, "-inf", now)
            pipe.zrange(lane.scheduled, 0, 0, withscores=True)
            pipe.lindex(lane.queue, 0)

    answers = link.ask(questions)
    ready, dues, heads = 0, [], []
    for place in range(0, len(answers), 4):
        listed, timed, first, head = answers[place : place + 4]
        ready += listed + timed
        dues += [int(score) for _, score in first if score <= now]
        heads += [records.own_id(head)] if head else []
    dues += [record.run_at for record in looking.records(heads)]
    return ready, min(dues, default=None)


# -- the whole of it -------------------------------------------------------------------------------


def take(link: Link, records: Records, looking: Looking, limits: Limits) -> Snapshot:
    """The numbers of a queue, and the first few jobs of each kind to report."""
    lanes = looking.lanes()
    ready, oldest = _ready(link, records, looking, lanes, limits.now)
    pauses = paused_at(
        paused.parse(link.run(lambda client: client.hvals(records.paused))), limits.now
    )
    held = Held(pauses)
    going = _going([lane for lane in lanes if lane.type not in held], link, records, limits)
    overdue, overdue_jobs = _overdue(link, records, looking, going, limits)
    begun = _begun(link, records, looking)
    now = link.look_at_clock()
    orphaned = [each for each in begun if _is_orphaned(each, now)]
    long = [e for e in begun if e not in orphaned and e.record.run_at < limits.stuck_before]
    stuck = sorted(orphaned + long, key=lambda each: each.record.run_at)
    failed, failed_jobs, failed_first = _failed(link, looking, records, lanes, limits)
    ahead, ahead_jobs = _ahead(link, looking, records, lanes, begun, limits)
    ends = _last_ends(link, lanes)
    last_run, info = link.ask(lambda pipe: (pipe.get(records.run), pipe.info("memory")))
    return Snapshot(
        counts=looking.counts(lanes),
        ready=ready,
        oldest_ready=oldest,
        overdue=overdue,
        overdue_jobs=overdue_jobs,
        stuck=len(stuck),
        stuck_jobs=tuple(
            Stuck(to_job(each.record), each in orphaned) for each in stuck[: limits.names]
        ),
        running=len(begun) - len(orphaned),
        unknown="",
        failed=failed,
        failed_jobs=failed_jobs,
        failed_first=failed_first,
        ahead=ahead,
        ahead_jobs=ahead_jobs,
        malformed=0,
        bad_lines=(),
        last_success=ends.get(COMPLETED),
        last_run=float(last_run) if last_run else None,
        written=max([*ends.values(), float(last_run or 0)]),
        size=int(info["used_memory"]),
        paused=tuple(pauses),
    )


def _going(lanes: list[Lane], link: Link, records: Records, limits: Limits) -> list[Lane]:
    """Those of the types that their rate and limit do not hold back, or not since long ago."""
    answers = link.ask(
        lambda pipe: [
            (pipe.get(records.rate(lane.type)), pipe.zcard(lane.started)) for lane in lanes
        ]
    )
    going = []
    for lane, text, count in zip(lanes, answers[::2], answers[1::2], strict=True):
        policy = limits.policies.of(lane.type)
        opened = rates.opened(policy.rate, text, limits.now)
        full = policy.concurrency is not None and count >= policy.concurrency
        if not full and (opened is None or opened < limits.overdue_before):
            going.append(lane)
    return going


def _overdue(
    link: Link, records: Records, looking: Looking, lanes: list[Lane], limits: Limits
) -> tuple[int, tuple[Job, ...]]:
    number, ids = 0, []
    before = f"({limits.overdue_before}"
    for lane in lanes:
        timed, first = _first_in(link, lane.scheduled, "-inf", before, limits.names)
        listed = _due_before(link, records, lane, limits.overdue_before)
        number += timed + listed
        ids += [records.own_id(entry) for entry in first]
        if listed and limits.names:
            ids += _listed(link, records, lane, min(listed, limits.names))
    jobs = sorted(looking.fetch(ids), key=lambda job: job.run_at)
    return number, tuple(jobs[: limits.names])


def _first_in(
    link: Link, key: str, least: float | str, most: float | str, names: int
) -> tuple[int, list[bytes]]:
    """How many members of a sorted set have such a score, and the first few of them."""
    count, first = link.ask(
        lambda pipe: (
            pipe.zcount(key, least, most),
            pipe.zrangebyscore(key, least, most, start=0, num=names),
        )
    )
    return count, first


def _listed(link: Link, records: Records, lane: Lane, count: int) -> list[str]:
    """The ids of the first jobs of a type's list."""
    entries = link.run(lambda client: client.lrange(lane.queue, 0, count - 1))
    return [records.own_id(entry) for entry in entries]


def _due_before(link: Link, records: Records, lane: Lane, before: int) -> int:
    """How many jobs at the beginning of a type's list were due before that time."""

    def due_at(place: int) -> int:
        entry = link.run(lambda client: client.lindex(lane.queue, place))
        if entry is None:
            return before  # taken meanwhile: those after it are later
        key = records.key(records.own_id(entry))
        return int(own_part(link.run(lambda client: client.hget(key, "dbq"))).get("run_at", before))

    return _first_not(lambda place: due_at(place) < before, link.run(lambda c: c.llen(lane.queue)))


def _first_not(holds: Callable[[int], bool], end: int) -> int:
    """The first place from 0 to `end` of which `holds` is false, if it is from there on."""
    start = 0
    while start < end:
        middle = (start + end) // 2
        if holds(middle):
            start = middle + 1
        else:
            end = middle
    return start


def _failed(
    link: Link, looking: Looking, records: Records, lanes: list[Lane], limits: Limits
) -> tuple[int, tuple[Job, ...], int | None]:
    since = limits.failed_since + KEEP
    number, ids, first = 0, [], []
    for lane in lanes:
        count, last, one = _last_failed(link, lane, since, limits.names)
        number += count
        ids += [records.own_id(entry) for entry in last]
        first += [int(score) - KEEP for _, score in one]
    jobs = sorted(looking.fetch(ids), key=lambda job: -job.run_at)
    return number, tuple(jobs[: limits.names]), min(first, default=None)


def _last_failed(link: Link, lane: Lane, since: int, names: int) -> list[Any]:
    key = lane.failed
    return link.ask(
        lambda pipe: (
            pipe.zcount(key, since, "+inf"),
            pipe.zrevrangebyscore(key, "+inf", since, start=0, num=names),
            pipe.zrangebyscore(key, since, "+inf", start=0, num=1, withscores=True),
        )
    )


def _ahead(
    link: Link,
    looking: Looking,
    records: Records,
    lanes: list[Lane],
    begun: list[_Begun],
    limits: Limits,
) -> tuple[int, tuple[Job, ...]]:
    """The jobs with the time of an event that is yet to come, as a wrong clock leaves them."""
    later = limits.now + AHEAD
    odd = [to_job(each.record) for each in begun if each.record.run_at > later]
    number, ids = len(odd), []
    for lane in lanes:
        for status in (COMPLETED, FAILED, CANCELLED):
            least = f"({later + KEEP}"
            count, some = _first_in(link, lane.ended(status), least, "+inf", limits.names)
            number += count
            ids += [records.own_id(entry) for entry in some]
    return number, tuple([*odd, *looking.fetch(ids)][: limits.names])


def _last_ends(link: Link, lanes: list[Lane]) -> dict[str, int]:
    """When the last job ended in each state in which one did."""
    last: dict[str, int] = {}
    for status in (COMPLETED, FAILED, CANCELLED):
        keys = [lane.ended(status) for lane in lanes]
        answers = _ask_last(link, keys)
        ends = [int(score) - KEEP for some in answers for _, score in some]
        if ends:
            last[status] = max(ends)
    return last


def _ask_last(link: Link, keys: list[str]) -> list[Any]:
    return link.ask(lambda pipe: [pipe.zrevrange(key, 0, 0, withscores=True) for key in keys])
