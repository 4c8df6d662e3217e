"""Recurring jobs: at most one a slot, and what was missed once."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import threading
import zoneinfo
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import dbbasic_queue
from dbbasic_queue.config.sections import Config, parse
from dbbasic_queue.errors import ConfigError, JobExists, StorageError, TableError
from dbbasic_queue.schedule import clock as machine_time
from dbbasic_queue.schedule import marks as slot_marks
from dbbasic_queue.schedule import recurring
from dbbasic_queue.schedule.marks import Mark, locked, marks_file, read
from dbbasic_queue.schedule.recurring import Verdict, job_id, offset, slot
from dbbasic_queue.schedule.schedule import Schedule

HOUR, DAY = 3600, 86_400


class Queue:
    """A queue as far as recurring jobs see it: it ignores an id that it holds."""

    def __init__(self) -> None:
        self.jobs: dict[str, tuple[str, dict[str, Any], Any]] = {}
        self.calls = 0
        self.lock = threading.Lock()

    def enqueue(
        self,
        job_type: str,
        payload: dict[str, Any],
        run_at: Any = None,
        *,
        job_id: str | None = None,
    ) -> str:
        assert job_id is not None
        with self.lock:
            self.calls += 1
            held = self.jobs.setdefault(job_id, (job_type, payload, run_at))
        if held[:2] != (job_type, payload):
            raise JobExists(job_id)
        return job_id


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' machine is in UTC."""
    monkeypatch.setattr(recurring, "machine_zone", lambda: UTC)


def at(text: str) -> int:
    """Unix seconds of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def config(folder: Path, *jobs: str, name: str = "myapp") -> Config:
    """A config whose recurring jobs are these tables."""
    tables = "".join(f"[[recurring]]\n{job}\n" for job in jobs)
    text = f'name = "{name}"\n[queue]\nfile = "queue.tsv"\n[worker]\nhandlers = "a:B"\n{tables}'
    return parse(text, folder / "dbq.toml")


NIGHTLY = 'name = "report"\ntype = "generate"\npayload = { of = "sales" }\nschedule = "0 2 * * *"\n'
CATCH_UP = NIGHTLY + "catch_up = true\n"
JITTER = CATCH_UP + 'jitter = "10min"\n'
NIGHT = at("2024-05-02 02:00")


def enqueue_slot(
    configured: Config, name: str, queue: Queue | dbbasic_queue.Queue, now: int
) -> recurring.SlotResult:
    return recurring.enqueue_slot(configured.recurring_jobs, name, queue.enqueue, now)


def catch_up(
    configured: Config, queue: Queue | dbbasic_queue.Queue, now: int
) -> list[recurring.SlotResult]:
    return recurring.catch_up(configured.recurring_jobs, queue.enqueue, now)


def run(configured: Config, queue: Queue | dbbasic_queue.Queue, now: int) -> Verdict:
    return enqueue_slot(configured, "report", queue, now).verdict


def test_slot() -> None:
    """A slot is the last time of the schedule, the present second included."""
    schedule = Schedule.parse("*/15 * * * *")
    assert slot(schedule, at("2024-05-02 10:14:59")) == at("2024-05-02 10:00")
    assert slot(schedule, at("2024-05-02 10:15:00")) == at("2024-05-02 10:15")


def test_slot_is_of_the_machines_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`$TZ`, meant for handlers, does not move the slots, which cron and systemd know as local."""
    berlin = [Path(folder, "Europe/Berlin") for folder in zoneinfo.TZPATH]
    monkeypatch.setattr(machine_time, "LOCAL_TIME", next(filter(Path.exists, berlin)))
    monkeypatch.setattr(recurring, "machine_zone", machine_time.machine_zone)
    monkeypatch.setenv("TZ", "America/New_York")
    assert slot(Schedule.parse("0 2 * * *"), at("2024-05-02 12:00")) == at("2024-05-02 00:00")
    monkeypatch.setattr(machine_time, "LOCAL_TIME", Path("/nowhere"))
    assert machine_time.machine_zone() is UTC
    monkeypatch.delenv("TZ")
    assert machine_time.machine_zone() is None


def test_time_that_the_clock_skips_is_a_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cron runs 02:30 at 03:00 when the clock is put forward; under systemd a worker catches up."""
    monkeypatch.setattr(recurring, "machine_zone", lambda: zoneinfo.ZoneInfo("Europe/Berlin"))
    queue, configured = Queue(), config(tmp_path, CATCH_UP.replace("0 2", "30 2"))
    run(configured, queue, at("2024-03-30 01:30"))
    jump = at("2024-03-31 01:00")
    assert run(configured, queue, jump - 1) is Verdict.KNOWN
    assert [each.slot for each in catch_up(configured, queue, jump + HOUR)] == [jump]
    assert run(configured, queue, at("2024-04-01 00:30")) is Verdict.ENQUEUED


def test_entry_enqueues_its_slot(tmp_path: Path) -> None:
    """An entry that is started at its slot enqueues type and payload under the slot's id."""
    queue = Queue()
    result = enqueue_slot(config(tmp_path, NIGHTLY), "report", queue, NIGHT + 1)
    assert result == recurring.SlotResult(
        "report", NIGHT, Verdict.ENQUEUED, "myapp_report_20240502T0200Z"
    )
    assert queue.jobs == {result.job_id: ("generate", {"of": "sales"}, None)}


def test_second_entry_and_restart_do_not_double(tmp_path: Path) -> None:
    """Asking again in the same slot enqueues nothing, pruned job or not."""
    queue, configured = Queue(), config(tmp_path, CATCH_UP)
    assert run(configured, queue, NIGHT) is Verdict.ENQUEUED
    queue.jobs.clear()  # done and pruned
    assert run(configured, queue, NIGHT + 1) is Verdict.KNOWN
    assert run(configured, queue, NIGHT + DAY - 1) is Verdict.KNOWN
    assert catch_up(configured, queue, NIGHT + HOUR) == []
    assert queue.calls == 1


def test_what_is_off_is_neither_caught_up_nor_missed(tmp_path: Path) -> None:
    """When it is on again, only the last time is caught up."""
    queue, on = Queue(), config(tmp_path, CATCH_UP)
    off = config(tmp_path, CATCH_UP + "enabled = false\n")
    assert run(on, queue, NIGHT) is Verdict.ENQUEUED
    later = NIGHT + 3 * DAY + HOUR
    assert catch_up(off, queue, later) == []
    assert recurring.missed_slots(off.recurring_jobs, later, NIGHT) == []
    assert recurring.missed_slots(on.recurring_jobs, later, NIGHT) == [("report", NIGHT + 3 * DAY)]
    assert recurring.last_slots(off.recurring_jobs, later) == {"report": NIGHT}
    assert len(catch_up(on, queue, later)) == 1


def test_every_slot_once(tmp_path: Path) -> None:
    """A week of entries every minute enqueues seven nightly jobs."""
    queue, configured = Queue(), config(tmp_path, CATCH_UP)
    for minute in range(0, 7 * DAY, 600):
        run(configured, queue, NIGHT + minute)
    assert len(queue.jobs) == queue.calls == 7


def test_first_install_leaves_the_past_alone(tmp_path: Path) -> None:
    """What was due before a job was first seen is never enqueued; its next slot is."""
    queue, configured = Queue(), config(tmp_path, CATCH_UP)
    assert run(configured, queue, NIGHT + HOUR) is Verdict.PAST
    assert run(configured, queue, NIGHT + 2 * HOUR) is Verdict.KNOWN
    assert catch_up(configured, queue, NIGHT + 3 * HOUR) == []
    assert not queue.jobs
    assert run(configured, queue, NIGHT + DAY) is Verdict.ENQUEUED


def test_worker_start_notes_a_new_job(tmp_path: Path) -> None:
    """A worker that ran before the first slot makes sure that this slot can be caught up."""
    queue, configured = Queue(), config(tmp_path, CATCH_UP)
    assert catch_up(configured, queue, NIGHT - HOUR) == []
    assert [each.slot for each in catch_up(configured, queue, NIGHT + HOUR)] == [NIGHT]


@pytest.mark.parametrize("by_worker", [True, False])
def test_missed_slot_is_caught_up_once(tmp_path: Path, by_worker: bool) -> None:
    """After three missed nights one job is enqueued, by the entry at boot or the worker."""
    queue, configured = Queue(), config(tmp_path, CATCH_UP)
    run(configured, queue, NIGHT)
    back = NIGHT + 3 * DAY + 5 * HOUR
    for _ in range(3):
        if by_worker:
            catch_up(configured, queue, back)
        else:
            run(configured, queue, back)
    assert list(queue.jobs) == ["myapp_report_20240502T0200Z", "myapp_report_20240505T0200Z"]
    assert queue.calls == 2
    assert run(configured, queue, NIGHT + 4 * DAY) is Verdict.ENQUEUED


def test_worker_catches_up_only_where_told(tmp_path: Path) -> None:
    """Without `catch_up` a worker leaves a missed slot alone."""
    queue, configured = Queue(), config(tmp_path, NIGHTLY)
    run(configured, queue, NIGHT)
    assert catch_up(configured, queue, NIGHT + DAY + HOUR) == []
    assert queue.calls == 1


def test_worker_leaves_a_slot_on_time_to_its_entry(tmp_path: Path) -> None:
    """A worker that starts together with the entry does not take the slot from it."""
    queue, configured = Queue(), config(tmp_path, JITTER)
    run(configured, queue, NIGHT)
    limit = recurring.ON_TIME + 600
    assert catch_up(configured, queue, NIGHT + DAY + limit) == []
    assert len(catch_up(configured, queue, NIGHT + DAY + limit + 1)) == 1


def test_changed_schedule_has_no_past(tmp_path: Path) -> None:
    """A slot that only the new schedule has had is not made up for."""
    queue = Queue()
    run(config(tmp_path, CATCH_UP), queue, NIGHT)
    changed = config(tmp_path, CATCH_UP.replace("0 2", "0 10"))
    assert catch_up(changed, queue, at("2024-05-02 12:00")) == []
    assert run(changed, queue, at("2024-05-03 10:00")) is Verdict.ENQUEUED
    assert queue.calls == 2


def test_clock_that_goes_back_doubles_nothing(tmp_path: Path) -> None:
    """A slot that was enqueued is not enqueued again when the clock is put back over it."""
    queue, configured = Queue(), config(tmp_path, CATCH_UP)
    run(configured, queue, NIGHT)
    assert run(configured, queue, NIGHT - 2) is Verdict.KNOWN
    assert run(configured, queue, NIGHT) is Verdict.KNOWN
    assert queue.calls == 1


def test_mark_of_a_wrong_clock_does_not_stop_the_job(tmp_path: Path) -> None:
    """Slots enqueued in a wrong future do not keep the job from running for years."""
    queue, configured = Queue(), config(tmp_path, CATCH_UP)
    run(configured, queue, at("2099-05-02 02:00"))
    assert run(configured, queue, NIGHT) is Verdict.ENQUEUED


@pytest.mark.parametrize("ahead", [23 * HOUR, HOUR, 10 * 60, 30 * DAY])
def test_a_clock_that_was_ahead_silences_no_job(tmp_path: Path, ahead: int) -> None:
    """Once the clock is right again, each slot that it had not seen is enqueued, and none twice."""
    queue, configured = Queue(), config(tmp_path, CATCH_UP.replace("0 2 * * *", "*/5 * * * *"))
    run(configured, queue, NIGHT)
    run(configured, queue, NIGHT + 60 + ahead)
    done = len(queue.jobs)
    for second in range(120, HOUR, 20):
        assert run(configured, queue, NIGHT + second) is not Verdict.PAST
    slots = {f"myapp_report_20240502T02{minute:02}Z" for minute in range(0, 60, 5)}
    assert slots <= queue.jobs.keys()
    assert len(queue.jobs) <= done + 12


def test_jitter_delays_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jitter is the job's `run_at`, the same every day, until the offset is over."""
    monkeypatch.setattr(recurring, "_host", lambda: "host")
    delay = offset("myapp", "report", 600, "host")
    assert 0 < delay <= 600
    queue, configured = Queue(), config(tmp_path, JITTER)
    run(configured, queue, NIGHT)
    run(configured, queue, NIGHT + DAY + delay)
    assert [job[2] for job in queue.jobs.values()] == [NIGHT + delay, None]


def test_offset() -> None:
    """Offsets are stable, spread from zero to the jitter, and differ by host, config and name."""
    hosts = [offset("myapp", "report", 9, f"host{number}") for number in range(200)]
    assert set(hosts) == set(range(10))
    assert hosts == [offset("myapp", "report", 9, f"host{number}") for number in range(200)]
    assert offset("myapp", "report", 0, "host") == 0
    different = {
        offset(*names, 10**9, "host") for names in [("a", "b-c"), ("a-b", "c"), ("a", "c")]
    }
    assert len(different) == 3


def test_host_is_told_by_name_and_machine_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clones that share the machine's id, or its name, still have offsets of their own."""
    monkeypatch.setattr(recurring, "MACHINE_ID", tmp_path / "machine-id")
    without = recurring._host()
    (tmp_path / "machine-id").write_text("abc\n")
    assert recurring._host() == f"{without}abc"


def test_job_ids() -> None:
    """Ids are readable, fit the queue however long the names are, and never collide."""
    assert job_id("myapp", "nightly-report", 1_704_067_200) == "myapp_nightly-report_20240101T0000Z"
    long = "a" * 32
    ids = {
        job_id(one, two, when)
        for one, two in [("a", "b-c"), ("a-b", "c"), (long, long), (long, f"{long[:-1]}b")]
        for when in (NIGHT, NIGHT + 60)
    }
    assert len(ids) == 8
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,64}", each) for each in ids)


def test_with_a_real_queue(tmp_path: Path) -> None:
    """A slot's job, run and pruned from the table, is not enqueued again; the next slot's is."""
    configured = config(tmp_path, CATCH_UP)
    queue = dbbasic_queue.Queue(configured.queue.file, "normal")
    first = enqueue_slot(configured, "report", queue, NIGHT)
    assert queue.get_job(first.job_id) is not None
    assert queue.process_jobs({"generate": lambda payload: payload["of"]}).completed == 1
    assert queue.prune_jobs(0) == 1
    assert queue.get_job(first.job_id) is None
    for ask in range(3):
        assert run(configured, queue, NIGHT + ask) is Verdict.KNOWN
        assert catch_up(configured, queue, NIGHT + HOUR) == []
    assert run(configured, queue, NIGHT + DAY) is Verdict.ENQUEUED
    assert [job["id"] for job in queue.list_jobs()] == ["myapp_report_20240503T0200Z"]


def test_unknown_name(tmp_path: Path) -> None:
    """A name that the config lacks is refused with those it has, and no file is made."""
    with pytest.raises(ConfigError, match=r"dbq.toml: has no recurring job 'no'.* report"):
        enqueue_slot(config(tmp_path, NIGHTLY), "no", Queue(), NIGHT)
    assert not list(tmp_path.iterdir())


def test_crash_between_job_and_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash after the enqueue repeats it under the same id, which the queue ignores."""
    queue, configured = Queue(), config(tmp_path, NIGHTLY)

    def crash(self: slot_marks.Marks) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(slot_marks.Marks, "save", crash)
        with pytest.raises(KeyboardInterrupt):
            run(configured, queue, NIGHT)
    run(configured, queue, NIGHT + 1)
    assert list(queue.jobs) == ["myapp_report_20240502T0200Z"]


def test_failed_enqueue_leaves_no_mark(tmp_path: Path) -> None:
    """When the queue refuses, the slot stays open for the next try."""
    configured = config(tmp_path, NIGHTLY)

    class Full(Queue):
        def enqueue(self, *args: Any, **kwargs: Any) -> str:
            raise StorageError(28, "no space")

    with pytest.raises(StorageError):
        run(configured, Full(), NIGHT)
    assert run(configured, Queue(), NIGHT + 1) is Verdict.ENQUEUED


def test_job_of_the_slot_with_another_payload(tmp_path: Path) -> None:
    """A payload changed after the slot's job was enqueued does not stop the entry."""
    queue, configured = Queue(), config(tmp_path, NIGHTLY)
    run(configured, queue, NIGHT)
    marks_file(configured.queue.file).unlink()
    changed = config(tmp_path, NIGHTLY.replace("sales", "costs"))
    assert run(changed, queue, NIGHT + 1) is Verdict.KNOWN
    assert [job[1] for job in queue.jobs.values()] == [{"of": "sales"}]


def test_configs_on_one_queue_keep_their_marks(tmp_path: Path) -> None:
    """Two configs share a queue's file of marks; jobs that a config has dropped leave it."""
    queue = Queue()
    one = config(tmp_path, NIGHTLY, NIGHTLY.replace("report", "other"))
    enqueue_slot(one, "other", queue, NIGHT)
    run(config(tmp_path, NIGHTLY, name="second"), queue, NIGHT)
    run(config(tmp_path, NIGHTLY), queue, NIGHT)
    marks = read(marks_file(one.queue.file))
    assert marks == {
        ("myapp", "report"): Mark(NIGHT, "0 2 * * *"),
        ("second", "report"): Mark(NIGHT, "0 2 * * *"),
    }
    assert len(queue.jobs) == 3


def test_marks_of_other_names_in_another_config_stay(tmp_path: Path) -> None:
    """A config drops the marks of its own jobs only, whatever the other config's are called."""
    queue = Queue()
    other = config(tmp_path, NIGHTLY.replace('"report"', '"other"'), name="second")
    enqueue_slot(other, "other", queue, NIGHT)
    run(config(tmp_path, NIGHTLY), queue, NIGHT)
    assert ("second", "other") in read(marks_file(other.queue.file))


def test_a_mark_remembers_the_one_before(tmp_path: Path) -> None:
    """The slot before the last is in the file, for when the clock turns out to have been ahead."""
    queue, configured = Queue(), config(tmp_path, NIGHTLY)
    run(configured, queue, NIGHT)
    run(configured, queue, NIGHT + DAY)
    marks = read(marks_file(configured.queue.file))
    assert marks["myapp", "report"] == Mark(NIGHT + DAY, "0 2 * * *", NIGHT)


def test_threads_and_processes_at_once(tmp_path: Path) -> None:
    """Of many that ask at the same moment, in threads and processes, one enqueues."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_recurring import *\n"
        "recurring.machine_zone = lambda: UTC\n"
        "print(run(config(Path(sys.argv[1]), NIGHTLY), Queue(), NIGHT))"
    )
    command = [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(4)
    ]
    queue, configured = Queue(), config(tmp_path, NIGHTLY)
    verdicts: list[str] = []
    threads = [
        threading.Thread(target=lambda: verdicts.append(run(configured, queue, NIGHT)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdicts += [process.communicate()[0].strip() for process in running]
    assert sorted(verdicts) == sorted(["enqueued", *["enqueued before"] * 11])


def test_lock_waits_for_a_file_that_was_replaced(tmp_path: Path) -> None:
    """Who waited for the lock of a file that was renamed over takes the new file's lock."""
    path = tmp_path / "queue.recurring"
    entered, seen = threading.Event(), []

    def second() -> None:
        entered.set()
        with locked(path) as marks:
            seen.append(dict(marks.all))

    with locked(path) as marks:
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait()
        marks.all["a", "b"] = Mark(5, "* * * * *")
        marks.save()
    thread.join()
    assert seen == [{("a", "b"): Mark(5, "* * * * *")}]


def test_a_lock_of_a_file_that_was_replaced_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marks that are renamed over between opening and locking are locked in their new file."""
    path, new = tmp_path / "queue.recurring", tmp_path / "new"
    with locked(path):
        pass
    lock = fcntl.flock

    def late(fd: int, operation: int) -> None:
        if not new.exists():
            new.touch()
            os.rename(new, path)
            new.touch()
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(path), path.open("rb") as other, pytest.raises(BlockingIOError):
        lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_marks_of_endless_length_are_refused(tmp_path: Path) -> None:
    """A file that grew out of hand is told, and is not read into memory."""
    path = tmp_path / "queue.recurring"
    with path.open("wb") as file:
        file.truncate(slot_marks.LARGEST + 1)
    with pytest.raises(TableError, match="larger than"):
        read(path)


def test_marks_are_readable_and_written_whole(tmp_path: Path) -> None:
    """The file is text with a heading, has the table's mode, and no temporary file stays."""
    configured = config(tmp_path, NIGHTLY)
    configured.queue.file.touch()
    configured.queue.file.chmod(0o640)
    run(configured, Queue(), NIGHT)
    path = marks_file(configured.queue.file)
    assert path.read_text() == f"{slot_marks.HEADING}{NIGHT}\tmyapp\treport\t0 2 * * *\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(each.name for each in tmp_path.iterdir()) == ["queue.recurring", "queue.tsv"]


def test_failed_write_keeps_the_old_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk refuses, the old marks stay as they were and no temporary file is left."""
    path = tmp_path / "queue.recurring"
    with locked(path) as marks:
        marks.all["a", "b"] = Mark(5, "* * * * *")
        marks.save()

    def refuse(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with locked(path) as marks, pytest.raises(StorageError, match=r"cannot write .*: No space"):
        marks.save()
    assert read(path) == {("a", "b"): Mark(5, "* * * * *")}
    assert [each.name for each in tmp_path.iterdir()] == ["queue.recurring"]


@pytest.mark.parametrize("line", ["x", "1\ta\tb", "1\ta b\tc\t* * * * *", "-1\ta\tb\t* * * * *"])
def test_damaged_marks_are_refused(tmp_path: Path, line: str) -> None:
    """A line that not a mark is told with its number, and nothing is enqueued or written."""
    configured, queue = config(tmp_path, CATCH_UP), Queue()
    path = marks_file(configured.queue.file)
    path.write_text(f"# by hand\n\n{line}\n")
    with pytest.raises(TableError, match=r"queue\.recurring:3: not a mark"):
        run(configured, queue, NIGHT)
    with pytest.raises(TableError):
        catch_up(configured, queue, NIGHT)
    assert not queue.jobs
    assert path.read_text() == f"# by hand\n\n{line}\n"


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "folder"])
def test_what_another_user_puts_in_place_of_the_marks(tmp_path: Path, kind: str) -> None:
    """No link is followed and no pipe waited for: it is an error that names the file."""
    configured, other = config(tmp_path, CATCH_UP), tmp_path / "other"
    other.write_text("mine")
    path = marks_file(configured.queue.file)
    {
        "link": lambda: path.symlink_to(other),
        "dangling": lambda: path.symlink_to(tmp_path / "nowhere"),
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }[kind]()
    for ask in (run, catch_up):
        with pytest.raises(StorageError, match=r"queue\.recurring: it is a"):
            ask(configured, Queue(), NIGHT)
    assert other.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root")
def test_marks_that_root_makes_are_the_folders_owners(tmp_path: Path) -> None:
    """What root enqueues by hand does not keep the worker's user out; in a shared folder 0640."""
    folder = tmp_path / "queue"
    folder.mkdir()
    os.chown(folder, 4711, 4712)
    folder.chmod(0o2750)
    configured = config(folder, NIGHTLY)
    run(configured, Queue(), NIGHT)
    status = marks_file(configured.queue.file).stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (4711, 4712, 0o640)


def test_folder_that_cannot_be_used(tmp_path: Path) -> None:
    """A file of marks that cannot be opened is a StorageError that names it."""
    configured = config(tmp_path, NIGHTLY)
    marks_file(configured.queue.file).mkdir()
    with pytest.raises(StorageError, match=r"cannot lock .*queue\.recurring: "):
        run(configured, Queue(), NIGHT)


def test_marks_lie_beside_the_table_itself(tmp_path: Path) -> None:
    """A queue that is reached by a link has its marks beside the table, as its other files."""
    (tmp_path / "real").mkdir()
    (tmp_path / "queue.tsv").symlink_to("real/queue.tsv")
    assert marks_file(tmp_path / "queue.tsv") == tmp_path.resolve() / "real/queue.recurring"
