"""The command `dbq stats`: the queue in numbers, by type, and who works now."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from ..engines.answers import Running, Stats
from ..engines.pausing import matches
from ..engines.progress import progress_of
from ..job import FAILED, PENDING, PROCESSING
from ..queue import Queue
from ..support.columns import fitted, width_of
from ..support.durations import format_duration
from ..support.text import dump_json, escape_control
from .common import DONE, Command, json_option, queue_of
from .look import local_time
from .pausing import fields_of

STATES: Final = (PENDING, PROCESSING, FAILED)  # of which each type has its numbers
NUMBER: Final = 12  # columns of one

Types = dict[str, dict[str, int]]


def _stats(args: argparse.Namespace) -> int:
    queue = queue_of(args)
    stats, types, running = queue.stats(), _by_type(queue), queue.engine.running()
    if args.json:
        more = {
            "paused": [fields_of(pause) for pause in stats.paused],
            "types": types,
            "running": [_fields(each) for each in running],
        }
        print(dump_json(stats._asdict() | more))
        return DONE
    for line in (*_numbers(stats), *_types(types, stats), *_workers(queue, running)):
        print(line.rstrip())
    return DONE


def _by_type(queue: Queue) -> Types:
    """How many jobs of each type wait, run and have failed; types by name."""
    counts = Counter((job.type, job.status) for job in queue.engine.jobs(STATES))
    return {
        name: {status: counts[name, status] for status in STATES}
        for name in sorted({name for name, _ in counts})
    }


def _fields(each: Running) -> dict[str, Any]:
    job = each.job
    known = {"id": job.id, "type": job.type, "since": job.run_at}
    return {**known, "alive": each.alive, "process": each.process}


def _numbers(stats: Stats) -> Iterator[str]:
    for status, number in stats.jobs.items():
        yield f"{status:11}{number:>12,}"
    last_run = "never" if stats.last_run is None else local_time(stats.last_run)
    yield f"{'ready':11}{stats.ready:>12,}  (pending and due)"
    yield f"{'latency':11}{stats.latency:>10,} s  (since the oldest of them was due)"
    yield f"{'last run':11}{last_run:>23}  (of a worker)"
    yield f"{'size':11}{stats.size:>12,}  bytes"
    for pause in stats.paused:
        yield f"{'paused':11}{escape_control(str(pause))}"


def _types(types: Types, stats: Stats) -> Iterator[str]:
    """A table of the types, below an empty line."""
    if not types:
        return
    width = max(11, *(width_of(escape_control(name)) for name in types))
    yield ""
    yield f"{'TYPE':{width}}" + "".join(f"{status.upper():>{NUMBER}}" for status in STATES)
    for name, counts in types.items():
        paused = any(matches(name, pause.type) for pause in stats.paused)
        numbers = "".join(f"{counts[status]:>{NUMBER},}" for status in STATES)
        yield fitted(escape_control(name), width) + numbers + ("  paused" if paused else "")


def _workers(queue: Queue, running: list[Running]) -> Iterator[str]:
    """What runs now, a line each, below an empty line: by which process, for how long, how far."""
    now = int(queue.now())
    if running:
        yield ""
    for job, alive, process in running:
        words = [f"for {format_duration(max(0, now - job.run_at))}"]
        if process is not None:
            words.append(f"by process {process}")
        if alive is False:
            words.append("its worker is dead")
        progress = progress_of(job.status, job.result)
        if progress is not None:
            words.append(escape_control(str(progress)))
        yield f"{'running':11}{escape_control(job.type)} {job.id} {', '.join(words)}"


STATS: Final = Command(
    "stats",
    "show the queue in numbers, by type, and who works now",
    _stats,
    "dbq stats\ndbq stats --json",
    (json_option("a JSON object"),),
)
