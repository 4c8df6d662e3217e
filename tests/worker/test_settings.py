"""The environment, resource limits, locale and switches of Python are the same for each job."""

from __future__ import annotations

import functools
import logging
import os
import resource
import tempfile
from pathlib import Path
from typing import Any

import pytest
from actors import script
from parties import ROOT, as_user, needs_root, open_place, own
from parties import WORKER as WORKERS_USER
from tables import TESTS
from working import WORKER

from dbbasic_queue import Queue
from dbbasic_queue.support.account import Account
from dbbasic_queue.worker.settings import Environment

HABITS = {
    "environ-set": "os.environ['CHOSEN'] = 'other'",
    "environ-added": "os.environ['NEW'] = '1'",
    "environ-taken": "del os.environ['CHOSEN']",
    "environ-cleared": "os.environ.clear()",
    "environ-updated": "os.environ.update(CHOSEN='other', NEW='1')",
    "environ-by-bytes": "os.environb[b'CHOSEN'] = b'\\xff'",
    "environ-exchanged": "os.environ = {'CHOSEN': 'other'}",
    "time-zone": "os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()",
    "locale": "import locale; locale.setlocale(locale.LC_ALL, 'C')",
    "soft-limit": "import resource as r; r.setrlimit(7, (100, r.getrlimit(7)[1]))",
    "core-files": "import resource as r; r.setrlimit(4, (0, r.getrlimit(4)[1]))",
    "recursion": "sys.setrecursionlimit(5000)",
    "collector": "import gc; gc.disable()",
    "time-out": "import socket; socket.setdefaulttimeout(3)",
}
LOOKS = """
def looks(payload):
    import gc, locale, resource, socket, subprocess
    told = "import os; print(os.environ.get('CHOSEN'), os.environ.get('NEW'))"
    return [
        sorted(os.environ.items()), time.localtime(0)[:5],
        subprocess.check_output([sys.executable, "-c", told], text=True),
        locale.setlocale(locale.LC_ALL), [resource.getrlimit(n) for n in range(16)],
        sys.getrecursionlimit(), gc.isenabled(), socket.getdefaulttimeout(),
    ]
"""


def environment(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "CHOSEN": "mine", "TZ": "UTC", **more}


@functools.cache
def usual(code: str) -> Any:
    """What a job of a new worker finds."""
    with tempfile.TemporaryDirectory(prefix=TESTS) as folder:
        return found_by_the_last(Queue(Path(folder) / "queue.tsv", "normal"), code, "looks")


def found_by_the_last(queue: Queue, code: str, *jobs: str) -> Any:
    """Let one worker run these jobs; returns the last one's result."""
    *_, job_id = queue.enqueue_many([(each, {}) for each in jobs])
    with script(code, queue.path, env=environment()) as worker:
        assert worker.end() == 0, worker.err
    return queue.get_job(job_id)["result"]


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("late", [False, True], ids=["known", "loaded-by-the-handler"])
def test_settings_are_for_the_next_job_what_they_were(queue: Queue, habit: str, late: bool) -> None:
    """Also for the programs that it starts, and whether or not the module was loaded before."""
    imports = "" if late else "import resource, locale, socket\n"
    work = "queue.process_jobs({{'habit': {}, 'looks': looks}})\n"
    before = usual(WORKER + LOOKS + imports + work.format("looks"))
    habits = f"\ndef habit(payload): {HABITS[habit]}\n"
    code = WORKER + LOOKS + habits + imports + work.format("habit")
    assert found_by_the_last(queue, code, "habit", "looks") == before
    assert before[2] == "mine None\n"


def test_the_worker_itself_goes_on_in_its_time_zone(queue: Queue) -> None:
    """The times that it logs are those of the zone that it was started in."""
    code = WORKER + (
        "def moves(payload): os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()\n"
        "queue.process_jobs({'moves': moves})\n"
        "print(time.localtime(0).tm_hour)\n"
    )
    queue.enqueue("moves", {})
    with script(code, queue.path, env=environment(TZ="Europe/Berlin")) as worker:
        worker.end()
    assert worker.out == "1\n"


@needs_root
def test_a_hard_limit_that_cannot_be_raised_again_ends_the_run_after_its_job() -> None:
    """The next job begins in a process whose limits are whole; the log says why."""

    def works(folder: Path) -> tuple[list[int], list[str], list[str]]:
        told: list[str] = []
        log = logging.getLogger("dbbasic_queue")
        log.addHandler(Remembers(told))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 4096))
        lowers = {"lowers": lambda payload: resource.setrlimit(resource.RLIMIT_CORE, (0, 0))}
        queue = Queue(folder / "queue.tsv", "normal")
        queue.enqueue_many([("lowers", {})] * 2)
        done = queue.process_jobs(lowers, linger=50).completed
        return [done], [job["status"] for job in queue.list_jobs()], told

    with open_place() as place:
        folder = place / "data"
        folder.mkdir()
        own(folder, WORKERS_USER, 0o750)
        done, statuses, told = as_user(WORKERS_USER, lambda: works(folder))
    assert done == [1]
    assert statuses == ["completed", "pending"]
    assert any("lowered the hard limit RLIMIT_CORE" in line for line in told)


@pytest.mark.parametrize("habit", ["tempfile.tempdir = own", "os.environ['TMPDIR'] = own"])
def test_temporary_files_are_where_the_environment_says(queue: Queue, habit: str) -> None:
    """A folder that was that of one job, and is gone, is not that of the next one."""
    code = f"""{WORKER}
import tempfile

def habit(payload):
    own = tempfile.mkdtemp()
    tempfile.tempdir = None
    {habit}
    with tempfile.TemporaryFile():
        os.rmdir(own)

def looks(payload):
    with tempfile.TemporaryFile():
        return tempfile.gettempdir()

queue.process_jobs({{"habit": habit, "looks": looks}})
"""
    ids = queue.enqueue_many([(each, {}) for each in ("habit", "looks", "habit", "looks")])
    with script(code, queue.path, env=environment(TMPDIR=str(queue.path.parent))) as worker:
        assert worker.end() == 0, worker.err
    results = [(queue.get_job(each) or {})["result"] for each in ids[1::2]]
    assert results == [str(queue.path.parent)] * 2


@needs_root
def test_a_handler_that_gives_up_root_does_so_for_itself() -> None:
    """The worker writes down how the job ended, and the next job is root's again."""
    code = f"""{WORKER}
def habit(payload):
    os.setgroups([{WORKERS_USER.gid}])
    os.setegid({WORKERS_USER.gid})
    os.seteuid({WORKERS_USER.uid})
def looks(payload): return [os.geteuid(), os.getegid(), os.getgroups()]
queue.process_jobs({{"habit": habit, "looks": looks}})
"""
    with open_place() as folder:
        queue = Queue(folder / "queue.tsv", "normal")
        ids = queue.enqueue_many([(each, {}) for each in ("looks", "habit", "looks")])
        with script(code, queue.path) as worker:
            assert worker.end() == 0, worker.err
        first, _, last = [(queue.get_job(each) or {})["result"] for each in ids]
    assert first is not None
    assert first == last


@needs_root
@pytest.mark.parametrize("user", [ROOT, WORKERS_USER], ids=["root", "user"])
def test_a_handler_that_stands_back_does_so_for_itself(user: Account) -> None:
    """`os.nice` is undone after the job; only root can do that, so others are told, once."""

    def works(folder: Path) -> tuple[list[int], list[str]]:
        seen: list[int] = []
        told: list[str] = []
        logging.getLogger("dbbasic_queue").addHandler(Remembers(told))

        def handler(payload: dict[str, Any]) -> None:
            seen.append(os.getpriority(os.PRIO_PROCESS, 0))
            if payload:
                os.nice(3)

        queue = Queue(folder / "queue.tsv", "normal")
        queue.enqueue_many([("x", {"nice": 3}), ("x", {}), ("x", {})])
        assert queue.process_jobs({"x": handler}).completed == 3
        return [each - seen[0] for each in seen], told

    with open_place() as place:
        folder = place / "data"
        folder.mkdir()
        own(folder, user, 0o750)
        seen, told = as_user(user, lambda: works(folder))
    assert seen == ([0, 0, 0] if user is ROOT else [0, 3, 3])
    assert sum("raised the niceness" in line for line in told) == (user is not ROOT)


class Remembers(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, told: list[str]) -> None:
        super().__init__()
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        self._told.append(record.getMessage())


def test_what_a_handler_imports_keeps_its_own_environment(queue: Queue) -> None:
    """A variable that the program itself sets, between two runs, is not put back."""
    seen: list[Any] = []
    handlers = {"x": lambda payload: seen.append(os.environ.get("SET_BETWEEN"))}
    try:
        for value in ("one", "two"):
            os.environ["SET_BETWEEN"] = value
            queue.enqueue("x", {})
            queue.process_jobs(handlers)
    finally:
        del os.environ["SET_BETWEEN"]
    assert seen == ["one", "two"]


def test_two_that_note_the_environment_do_not_disturb_one_another() -> None:
    """As where a handler runs a worker of its own: each goes back to what it has seen."""
    outer = Environment()
    os.environ["OUTER"] = "1"
    inner = Environment()
    os.environ["INNER"] = "1"
    inner.restore()
    assert (os.environ.get("OUTER"), os.environ.get("INNER")) == ("1", None)
    outer.restore()
    assert os.environ.get("OUTER") is None
    assert os.getenvb(b"OUTER") is None
