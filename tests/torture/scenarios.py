"""The operations that are tortured, each on a table made for it.

A scenario has two halves: `prepare` makes the table, undisturbed; `act` is what is cut short. All
that is random in it comes from the seed, its clock stands still, and nothing hangs on how long a
step takes, where objects lie in memory, or the folder that the torture was started in; so step 17
of one run is step 17 of the next. `act` says aloud what the engine has promised: from then on it
has to be true.
"""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import random
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from dbbasic_queue import Policy, Queue, Rate, StorageError, current_job
from dbbasic_queue.engines.interface import Outcome, Policies
from dbbasic_queue.engines.tsv import backup, hint, rates
from dbbasic_queue.engines.tsv.edit import hand_out, take_back
from dbbasic_queue.engines.unique import key_of
from dbbasic_queue.health import notify
from dbbasic_queue.install.site import PlainFiles, Site, Wanted
from dbbasic_queue.job import CANCELLED, COMPLETED, PENDING
from dbbasic_queue.schedule import marks
from dbbasic_queue.table import ending, renewing
from dbbasic_queue.table.compat import JobTable
from dbbasic_queue.table.line import HEADER
from dbbasic_queue.worker import current
from dbbasic_queue.worker.signals import PutBack

from .still import hold_still

NOW = 1_700_000_000
TABLE = "data/queue.tsv"  # below the root of a case
TORN = "data/queue.torn"
RATES = "data/queue.rates"
HINTED = 64  # bytes that a worker passes over by a hint, instead of megabytes
FILE = "file:"  # before the path in a promise about a file, as others are about a job
UNSYNCED = "unsynced:"  # instead, for a file of which a power cut may take what was written
HEARD = "heard:"  # instead, for a file that must not hold any more what workers have heard
COUNTED = "counted:"  # instead, in a promise of how many attempts the history has
Say = Callable[[dict[str, str]], None]


def digest_of(data: bytes | None, path: str | Path = "") -> str:
    """Return what tells one content of a file from another; "" for a file that is not there.

    Of the pauses, it is what is paused: a line that was cut off says nothing. Of what workers are
    to hear and of a copy of a queue, it is what does not tell the time.
    """
    if data is not None and str(path).endswith(".restart"):
        return data[-9:].decode(errors="replace")
    if data is not None and str(path).endswith(".tar"):
        return digest_of(repr(_members(data)).encode())
    if str(path).endswith(".paused"):
        return " ".join(paused_in(data or b""))
    return "" if data is None else hashlib.blake2b(data).hexdigest()


def _members(data: bytes) -> list[tuple[str, bytes]]:
    """What is in a tar file; nothing if it is not one."""
    with suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(each.name, (tar.extractfile(each) or io.BytesIO()).read()) for each in tar]
    return []


class Stage:
    """Where a scenario plays: the queue, and the ear for what is promised."""

    def __init__(self, root: Path, seed: int, durability: str, say: Say) -> None:
        self.root = root
        self.random = random.Random(seed)
        hold_still(self.random)
        self.durability = durability
        self.say = say
        self.groups: list[list[str]] = []  # ids that are there all or none
        self.clock = NOW
        self._queue: Queue | None = None

    @property
    def path(self) -> Path:
        """The table file."""
        return self.root / TABLE

    @property
    def queue(self) -> Queue:
        """The one queue object of the process."""
        if self._queue is None:
            self._queue = Queue(self.path, self.durability, clock=lambda: self.clock)
        return self._queue

    def keep(self, *paths: Path) -> None:
        """Promise that these files are as they are now, or gone if they are."""
        self.say(
            {
                FILE + str(path.relative_to(self.root)): digest_of(
                    path.read_bytes() if path.exists() else None, path
                )
                for path in paths
            }
        )

    def payload(self, longest: int = 300) -> dict[str, Any]:
        """A payload of any length, so that rows fall on sectors in every way."""
        return {"text": "ä" + "x" * self.random.randint(0, longest)}

    def fill(self, count: int = 6) -> list[str]:
        """Add pending jobs; returns their ids."""
        return self.queue.enqueue_many([("work", self.payload()) for _ in range(count)])

    def add_last(self) -> None:
        """Add a job whose id and payload are the same however much was drawn at random before."""
        self.say({self.queue.enqueue("work", {"n": 3}, job_id="last-one"): "pending"})

    def line(
        self, name: str, status: str, attempts: int = 0, error: str = "", moved: str = ""
    ) -> bytes:
        """A row without reserve, as dbbasic-queue 1.0.0 or a person writes it."""
        text = f'{name}\twork\t{moved}{{"n": 1}}\t{status}\t{NOW}\t{NOW}\t{attempts}\t{error}\t'
        return text.encode() + (b" \n" if moved else b"\n")

    def append(self, *lines: bytes) -> None:
        """Append to the table as a program without any lock does."""
        with self.path.open("ab") as file:
            file.writelines(lines)

    def work(
        self,
        handler: Callable[[Any], Any],
        max_attempts: int = 3,
    ) -> None:
        """Drain the queue; what is promised about each job is said as soon as it is."""
        before: list[str] = []

        def handle(payload: Any) -> Any:
            job = current_job()
            self.say({job.id: "processing"})
            if before:
                self.say({before[-1]: "finished"})
            before.append(job.id)
            return handler(payload)

        self.queue.process_jobs({"work": handle}, max_attempts, backoff=lambda attempts: 0)
        self.say(dict.fromkeys(before, "finished"))


class Scenario(NamedTuple):
    """An operation, and the table that it is done to."""

    name: str
    prepare: Callable[[Stage], Any]
    act: Callable[[Stage], Any]


SCENARIOS: dict[str, Scenario] = {}


def scenario(prepare: Callable[[Stage], Any]) -> Callable[[Callable[[Stage], Any]], Scenario]:
    """Register an act, under its name, with what prepares it."""

    def register(act: Callable[[Stage], Any]) -> Scenario:
        made = Scenario(act.__name__.replace("_", "-"), prepare, act)
        SCENARIOS[made.name] = made
        return made

    return register


def _say_all(stage: Stage, ids: Iterable[str], status: str) -> None:
    stage.say(dict.fromkeys(ids, status))


# -- adding ----------------------------------------------------------------------------------


def _nothing(stage: Stage) -> None:
    """No table, no folder."""


def _some(stage: Stage) -> None:
    stage.fill()


@scenario(_nothing)
def create(stage: Stage) -> None:
    """The first job makes the table and its folder."""
    _say_all(stage, [stage.queue.enqueue("work", stage.payload())], "pending")


@scenario(_some)
def enqueue(stage: Stage) -> None:
    """Jobs short and long, with and without a key, and one a second time."""
    for longest, key in ((300, None), (300, "key-1"), (4000, None), (0, "key-2"), (300, None)):
        name = stage.queue.enqueue("work", stage.payload(longest), job_id=key)
        _say_all(stage, [name], "pending")
    payload = {"n": 1}
    for _ in range(2):
        _say_all(stage, [stage.queue.enqueue("work", payload, job_id="key-3")], "pending")


def _keyed(stage: Stage) -> None:
    stage.fill(1)
    for number in range(3):  # of which the first is completed, and the second has failed
        stage.queue.enqueue("work", {"n": number}, unique="sync-42")
        if number < 2:
            end = [bool, [].pop][number]
            stage.queue.process_jobs({"work": lambda payload, end=end: end()}, 1)


@scenario(_keyed)
def enqueue_unique(stage: Stage) -> None:
    """Jobs with a key: added, there already, begun and added again, failed, put back by hand."""
    queue = stage.queue
    for key, until in (("sync-42", "end"), ("sync-7", "start"), ("sync-7", 60), ("sync-7", "end")):
        name = queue.enqueue("work", stage.payload(), unique=key, unique_until=until)
        stage.say({name: "pending"})
    seat = queue.engine.seat()
    outcome, again = None, {"sync-42", "sync-7"}
    try:
        while (attempt := seat.turn(outcome)) is not None:
            job = attempt.job
            stage.say({job.id: "processing"})
            if (key := key_of(job.id)) in again:
                again.remove(key)
                name = queue.enqueue("work", {"n": 7}, unique=key, unique_until="start")
                stage.say({name: "pending"})
            failed = bool(key) and job.attempts == 1
            outcome = Outcome(attempt, PENDING if failed else COMPLETED, NOW, "E: no" * failed)
    finally:
        seat.leave()
    for job_id in queue.retry_jobs():
        stage.say({job_id: "pending"})


@scenario(_some)
def enqueue_many(stage: Stage) -> None:
    """Two batches, all or none each; the second is longer than one write."""
    for count, longest in ((5, 200), (60, 4000)):
        jobs = [("work", stage.payload(longest)) for _ in range(count)]
        names = stage.queue.enqueue_many(jobs)
        stage.groups.append(names)
        _say_all(stage, names, "pending")


def _torn(stage: Stage) -> None:
    stage.fill(2)
    stage.append(b'0123456789abcdef\twork\t{"text": "' + b"y" * stage.random.randint(1, 900))


@scenario(_torn)
def torn_line(stage: Stage) -> None:
    """A last line that a crash has cut off is set aside before anything is added."""
    for _ in range(3):
        _say_all(stage, [stage.queue.enqueue("work", stage.payload(900))], "pending")


def _half_batch(stage: Stage) -> None:
    stage.fill(2)
    table = stage.queue.engine.table
    size = stage.path.stat().st_size
    stage.append(stage.line("half-1", "pending"), stage.line("half-2", "pending"), b"half-3\two")
    with table.lock_file.open("wb") as file:
        note = (stage.path.stat().st_ino, size, 5000, ending._boot_id())
        file.write(b"append %d %d %d %s\n" % note)


@scenario(_half_batch)
def half_batch(stage: Stage) -> None:
    """What a process that died in enqueue_many has written of its batch is set aside."""
    stage.groups.append(["half-1", "half-2", "half-3"])
    for _ in range(2):
        _say_all(stage, [stage.queue.enqueue("work", stage.payload())], "pending")


def _empty(stage: Stage) -> None:
    stage.path.parent.mkdir(parents=True)
    stage.path.write_bytes(b"")


@scenario(_empty)
def empty_file(stage: Stage) -> None:
    """An empty file, as 1.0.0 leaves it behind, becomes a table."""
    for _ in range(3):
        _say_all(stage, [stage.queue.enqueue("work", stage.payload(900))], "pending")


# -- working ---------------------------------------------------------------------------------


@scenario(_some)
def claim_and_finish(stage: Stage) -> None:
    """Jobs are claimed and finished one after the other."""
    stage.work(lambda payload: {"done": True})


@scenario(lambda stage: stage.fill(3))
def retry_later(stage: Stage) -> None:
    """Jobs fail, are put back, and fail for good with their last attempt."""

    def fail(payload: Any) -> None:
        raise ValueError("no such user")

    stage.work(fail)


@scenario(lambda stage: stage.fill(3))
def put_back(stage: Stage) -> None:
    """A job that is broken off goes back with its attempt refunded."""
    broken_off: set[str] = set()

    def handler(payload: Any) -> str:
        name = current_job().id
        if name not in broken_off:
            broken_off.add(name)
            raise PutBack
        return "ok"

    stage.work(handler)


@scenario(lambda stage: stage.fill(6))
def cancel_running(stage: Stage) -> None:
    """A person asks for the end of jobs that run; then they are broken off, fail or complete."""
    seat = stage.queue.engine.seat()
    outcome = None
    try:
        for end in itertools.cycle([CANCELLED, PENDING, COMPLETED]):
            attempt = seat.turn(outcome)
            if outcome is not None:
                stage.say({outcome.attempt.job.id: "finished"})
            if attempt is None:
                break
            stage.say({attempt.job.id: "processing"})
            if stage.queue.cancel_job(attempt.job.id, running=True):
                stage.say({attempt.job.id: "processing"})
            outcome = Outcome(attempt, end, NOW, "" if end == COMPLETED else "ValueError: no")
    finally:
        seat.leave()


def _old_rows(stage: Stage) -> None:
    stage.fill(2)
    stage.append(*(stage.line(f"old-{n}", "pending") for n in range(3)))
    stage.fill(1)


@scenario(_old_rows)
def relocate(stage: Stage) -> None:
    """Rows of 1.0.0, which have no reserve, and long results have to move."""
    stage.work(lambda payload: "r" * stage.random.randint(0, 400))


@scenario(_old_rows)
def tell_progress(stage: Stage) -> None:
    """Jobs tell how far they are, some twice, and end; rows of 1.0.0 have no room for that."""
    current.EVERY = 0.0  # type: ignore[misc]

    def handler(payload: Any) -> str:
        for number in range(stage.random.randint(1, 2)):
            current_job().progress(number / 3, "page" * stage.random.randint(0, 30))
        return "ok"

    stage.work(handler)


@scenario(lambda stage: stage.queue.enqueue_many([("work", {"t": "x" * 2000})] * 2))
def tombstone(stage: Stage) -> None:
    """A line that spans several sectors is killed after its successor is written."""
    stage.work(lambda payload: "r" * 700)


def _two_lines(stage: Stage) -> None:
    stage.fill(1)
    stage.append(stage.line("twin", "processing", 1))
    stage.fill(1)
    stage.append(stage.line("twin", "pending", 1, moved=" "))
    stage.append(stage.line("done", "processing", 1))
    stage.append(stage.line("done", "completed", 1, moved=" "))


@scenario(_two_lines)
def two_lines(stage: Stage) -> None:
    """A move that a crash has interrupted: two lines of one job, of which the later one counts."""
    stage.work(lambda payload: None)


def _orphans(stage: Stage) -> None:
    names = stage.fill(4)
    seat = stage.queue.engine.seat()
    for _ in names[:2]:
        seat.turn()  # this process ends without finishing them
    stage.append(stage.line("orphan-1", "processing", 1), stage.line("orphan-3", "processing", 3))


@scenario(_orphans)
def rescue(stage: Stage) -> None:
    """Jobs of a dead worker are taken back; the one that has used up its attempts fails."""
    stage.work(lambda payload: None)


def _hinted(stage: Stage) -> None:
    hint.LEAST = HINTED  # type: ignore[misc]
    stage.queue.enqueue_many([("work", stage.payload(60)) for _ in range(8)])
    ends = iter([[].pop, *[bool] * 5])  # of which the first one fails
    stage.queue.process_jobs({"work": lambda payload: next(ends)()}, 1, limit=6)


@scenario(_hinted)
def begin_by_the_hint(stage: Stage) -> None:
    """A worker begins behind all that has ended; meanwhile the oldest job is put back; again."""
    hint.LEAST = HINTED  # type: ignore[misc]
    queue = stage.queue
    if not hint.read(queue.engine.table):
        raise AssertionError("there is no hint to begin by")
    (oldest,) = [job["id"] for job in queue.list_jobs("failed")]
    seat = queue.engine.seat()
    outcome = None
    try:
        while True:
            attempt = seat.turn(outcome)
            if outcome is not None:
                stage.say({outcome.attempt.job.id: "finished"})
            if attempt is None:
                break
            stage.say({attempt.job.id: "processing"})
            if queue.retry_job(oldest):
                stage.say({oldest: "pending"})
            result = '"%s"' % ("r" * 3 * len(attempt.job.payload["text"]))
            outcome = Outcome(attempt, COMPLETED, NOW, "", result)
    finally:
        seat.leave()
    stage.say({oldest: "finished"})
    _say_all(stage, stage.fill(3), "pending")
    stage.work(lambda payload: "ok")


# -- pauses ----------------------------------------------------------------------------------------


def paused_in(data: bytes) -> list[str]:
    """What a file of pauses says is paused, by a reader that shares no code with the engine."""
    found: set[str] = set()
    for line in data.decode(errors="replace").split("\n"):
        words = line.split("\t")
        if words[0] == "paused" and len(words) == 6:
            found.add(words[1])
        elif words[0] == "resumed" and len(words) == 4 and words[3]:
            found = set() if words[1] == "*" else found - {words[1]}
    return sorted(found)


def _paused(stage: Stage) -> None:
    stage.fill(2)
    stage.queue.pause("other", why="w" * stage.random.randint(0, 200))


@scenario(_paused)
def pause(stage: Stage) -> None:
    """A type is paused while a worker has a job in hand; then all that is paused is resumed."""
    queue, path = stage.queue, stage.path.with_suffix(".paused")
    seat = queue.engine.seat()
    try:
        attempt = seat.turn()
        stage.say({attempt.job.id: "processing"})
        queue.pause("work")
        stage.keep(path)
        if seat.turn(Outcome(attempt, COMPLETED, NOW)) is not None:
            raise AssertionError("a job of a paused type was begun")
        stage.say({attempt.job.id: "finished"})
    finally:
        seat.leave()
    queue.resume()
    stage.keep(path)


# -- rates -----------------------------------------------------------------------------------------

RATED = "rated-"  # so begin the types that have a rate
STEP = 60  # seconds in which one job of them may be begun, or else some at once
BURST = 3


def used_up(data: bytes) -> dict[str, int]:
    """How many jobs of each type are counted, by a reader that shares no code with the engine."""
    lines = re.findall(rb"^([0-9.]+)\t([^\t\n]+)\n", data, re.MULTILINE)
    return {name.decode(errors="replace"): round(float(at) - NOW) // STEP for at, name in lines}


def _rated(stage: Stage) -> None:
    stage.queue.enqueue_many([(f"{RATED}{n % 2}", stage.payload()) for n in range(10)])
    stage.path.with_suffix(".rates").write_bytes(b"%d.000000\told\n%d.00" % (NOW - STEP, NOW))


@scenario(_rated)
def rate(stage: Stage) -> None:
    """Jobs of two types are begun until each has used up its rate; the file is written anew.

    What cannot be counted is not begun, of which the engine tells in its log.
    """
    rates.LONG = 20  # type: ignore[misc]
    for job_type in (f"{RATED}0", f"{RATED}1"):
        seat = stage.queue.engine.seat()
        seat.govern(Policies({job_type: Policy(rate=Rate(60, 60 * STEP, BURST))}))
        outcome, begun = None, 0
        try:
            while (attempt := seat.turn(outcome, types=[job_type])) is not None:
                if outcome is not None:
                    stage.say({outcome.attempt.job.id: "finished"})
                stage.say({attempt.job.id: "processing"})
                outcome, begun = Outcome(attempt, COMPLETED, NOW), begun + 1
            if outcome is not None:
                stage.say({outcome.attempt.job.id: "finished"})
        finally:
            seat.leave()
        if begun < BURST:
            raise StorageError(errno.EIO, "a job was not begun, as it could not be counted")


# -- by hand ---------------------------------------------------------------------------------


def _for_hands(stage: Stage) -> None:
    stage.fill(3)
    stage.append(
        stage.line("failed-1", "failed", 3, "ValueError: no"), stage.line("old", "pending")
    )
    stage.queue.enqueue("work", {"n": 2}, job_id="last")


@scenario(_for_hands)
def cancel_and_retry(stage: Stage) -> None:
    """Jobs are cancelled and put back by a person."""
    queue = stage.queue
    for name in ("last", "old"):
        if queue.cancel_job(name):
            stage.say({name: "cancelled"})
    for name in ("failed-1", "last"):
        if queue.retry_job(name):
            stage.say({name: "pending"})


def _for_an_editor(stage: Stage) -> None:
    _for_hands(stage)
    stage.append(b"a note of another's\n", stage.line("mended", "pending"))
    stage.queue.enqueue("work", {"text": "x" * 700}, job_id="gone")
    stage.fill(2)


@scenario(_for_an_editor)
def edit(stage: Stage) -> None:
    """Jobs are changed, removed and added in an editor, all of it or nothing; twice."""
    before = hand_out(stage.queue.engine)
    lines = [line for line in before.splitlines(True) if not line.startswith((b"old", b"gone"))]
    added = [f"new-{number}" for number in range(3)]
    stage.groups.append(added)
    lines += [stage.line(name, "pending") for name in added]
    after = b"".join(lines).replace(b"failed\t", b"cancelled\t")
    after = after.replace(b'{"n": 2}', b'{"n": 2, "text": "%s"}' % (b"y" * 900))
    take_back(stage.queue.engine, before, after)
    _say_all(stage, ["old", "gone"], "absent")
    stage.say({"failed-1": "cancelled", **dict.fromkeys([*added, "last"], "pending")})
    before = hand_out(stage.queue.engine)
    take_back(stage.queue.engine, before, before.replace(b'{"n": 1}', b'{"n": 17}'))
    stage.say({"failed-1": "cancelled", **dict.fromkeys([*added, "mended"], "pending")})
    stage.add_last()


def _finished(stage: Stage) -> None:
    stage.fill(4)
    results = iter(["short", "r" * 600, "r" * 100])
    stage.queue.process_jobs({"work": lambda payload: next(results)}, limit=3)
    stage.append(b"a note of another's\n", stage.line("old-1", "completed", 1))
    stage.append(stage.line("old-2", "pending"), b"\n")
    stage.fill(3)


@scenario(_finished)
def prune(stage: Stage) -> None:
    """Finished jobs are removed; a malformed line stays."""
    old = [job["id"] for job in stage.queue.list_jobs("completed")]
    stage.queue.prune_jobs(0)
    _say_all(stage, old, "absent")
    stage.add_last()


def _half_dead(stage: Stage) -> None:
    _finished(stage)
    stage.append(b" " * 16_000 + b"\n")


def _compact(stage: Stage) -> None:
    """Compact by a call of its own: a worker's, at its end, only warns when it finds no space."""
    renewing.WORTH_COMPACTING = 0  # type: ignore[misc]
    if not stage.queue.engine.table.compact():
        raise AssertionError("the table was not compacted: too little of it is dead")


@scenario(_half_dead)
def compact(stage: Stage) -> None:
    """A table that is full of dead lines is written anew, between two changes."""
    stage.work(lambda payload: "r" * 900)
    _compact(stage)
    stage.add_last()


def _twins(stage: Stage) -> None:
    _two_lines(stage)
    stage.append(stage.line("old-1", "completed", 1))


@scenario(_twins)
def rewrite_twins(stage: Stage) -> None:
    """A table with an interrupted move in it is pruned."""
    stage.queue.prune_jobs(0)
    stage.say({"old-1": "absent", "done": "absent", "twin": "pending"})


def _twins_half_dead(stage: Stage) -> None:
    _twins(stage)
    stage.append(b" " * 16_000 + b"\n")


@scenario(_twins_half_dead)
def compact_twins(stage: Stage) -> None:
    """A table with an interrupted move in it is compacted."""
    _compact(stage)
    stage.say({"twin": "pending", "done": "finished"})


# -- other files -----------------------------------------------------------------------------------


def _marked(stage: Stage) -> None:
    _some(stage)
    with marks.locked(marks.marks_file(stage.path)) as held:
        held.save()


@scenario(_marked)
def mark(stage: Stage) -> None:
    """The mark of a recurring job is set, again and again."""
    path = marks.marks_file(stage.path)
    for slot in range(NOW, NOW + 240, 60):
        with marks.locked(path) as held:
            held.all["shop", "nightly"] = marks.Mark(slot, "* * * * *")
            held.save()
        stage.keep(path)


@scenario(_some)
def history(stage: Stage) -> None:
    """What workers did is added, one line or many, and what is old of it put together."""
    counted = 0
    for number, many in enumerate((1, 40, 0, 2, 0)):
        if many:
            at = NOW + 3600 * number
            noted = [(f"{n}-" + "x" * 100, "completed", at, NOW, 0.5) for n in range(many)]
            stage.queue.engine.add_history(noted, str(number))
        else:
            stage.queue.engine.fold_history(NOW + 3600 * number)
        counted += many
        stage.say({COUNTED: str(counted)})


def _etc(stage: Stage) -> None:
    _some(stage)
    folder = stage.root / "etc/cron.d"
    folder.mkdir(parents=True)
    (folder / ".placeholder").write_text("as packages leave it\n")


@scenario(_etc)
def install(stage: Stage) -> None:
    """Files are put into force together, replaced, and taken away."""
    files = PlainFiles(Site(root=stage.root))
    one, two = Path("/etc/cron.d/one"), Path("/etc/cron.d/two")
    places = [stage.root / path.relative_to("/") for path in (one, two)]
    for text in (b"first\n", b"second\n" * 99):
        files.write([Wanted(one, text), Wanted(two, text)])
        stage.keep(*places)
    files.delete(one)
    stage.keep(*places)


@scenario(_some)
def restart(stage: Stage) -> None:
    """Workers are asked to begin anew, twice: each that has heard the word before knows it."""
    engine, path = stage.queue.engine, stage.path.with_suffix(".restart")
    for _ in range(2):
        heard = path.read_bytes() if path.exists() else None
        engine.ask_restart()
        stage.say({f"{HEARD}{path.relative_to(stage.root)}": digest_of(heard, path)})
    stage.add_last()


@scenario(_some)
def notified(stage: Stage) -> None:
    """What the health check has said is written down, again and again."""
    path = stage.path.with_suffix(".notified")
    for at, state in enumerate(("WARNING", "CRITICAL", "OK")):
        said = {**notify.read(path), f"command {at}": notify.Said(state, NOW + at)}
        notify.remember(path, said)
        stage.say({f"{UNSYNCED}{path.relative_to(stage.root)}": digest_of(path.read_bytes())})
    stage.add_last()


# -- a copy of the queue ---------------------------------------------------------------------------

COPY = "copy.tar"
STAMP = "20231114T221320Z"
ASIDE = f"data/queue.{STAMP}.tsv"


def scratch(root: Path) -> Path:
    """The folder for temporary files of a case, which go with it if it is killed."""
    return root.with_name(f"scratch-{root.name}")


class _OneMoment:
    """What stands for the module `time` in backup.py, which names files by it."""

    time = staticmethod(lambda: NOW)
    gmtime = staticmethod(lambda: None)
    strftime = staticmethod(lambda form, moment: STAMP)


def _marked_and_paused(stage: Stage) -> None:
    _marked(stage)
    stage.queue.pause("other")
    stage.queue.enqueue("work", stage.payload(2000), job_id="last")


@scenario(_marked_and_paused)
def back_up(stage: Stage) -> None:
    """A copy of the queue is written, and another in its place."""
    path = stage.root / COPY
    for number in range(2):
        stage.queue.backup(path)
        stage.keep(path)
        stage.say({stage.queue.enqueue("work", {"n": number}, job_id=f"n{number}"): "pending"})


def _copied(stage: Stage) -> None:
    _marked_and_paused(stage)
    stage.queue.backup(stage.root / COPY)
    stage.queue.cancel_job("last")
    stage.queue.resume()
    stage.fill(3)


@scenario(_copied)
def restore(stage: Stage) -> None:
    """A copy is put in the place of the queue, which stays beside it."""
    backup.time = _OneMoment()  # type: ignore[assignment]
    scratch(stage.root).mkdir(exist_ok=True)
    tempfile.tempdir = str(scratch(stage.root))
    stage.queue.restore(stage.root / COPY)
    stage.say({"last": "pending"})
    stage.keep(stage.root / ASIDE, stage.path.with_suffix(".paused"))
    stage.add_last()


# -- the interface of dbbasic-tsv --------------------------------------------------------------


@scenario(_for_hands)
def table_update(stage: Stage) -> None:
    """Rows are updated through the methods of the plain table."""
    table = JobTable(stage.queue.path, stage.queue.engine.table.durability)
    table.update({"id": "last"}, {"status": "cancelled"})
    stage.say({"last": "cancelled"})
    table.delete(id="last")
    stage.say({"last": "absent"})


def _backed_up(stage: Stage) -> None:
    stage.fill(2)
    JobTable(stage.queue.path).backup(stage.root / "backup")
    stage.fill(2)


@scenario(_backed_up)
def table_restore(stage: Stage) -> None:
    """A backup is put in the place of the table."""
    table = JobTable(stage.queue.path, stage.queue.engine.table.durability)
    before = {row["id"] for row in table.all()}
    table.restore(stage.root / "backup")
    after = {row["id"] for row in table.all()}
    stage.say({**dict.fromkeys(before, "absent"), **dict.fromkeys(after, "pending")})


assert HEADER.count(b"\t") == 8
