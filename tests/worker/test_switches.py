"""What a handler switches on in its interpreter and leaves on is off again for the next job."""

from __future__ import annotations

import pytest
from actors import script
from working import WORKER

from dbbasic_queue import Queue

HABITS = {
    "profile": "sys.setprofile(lambda *args: None)",
    "trace": "sys.settrace(lambda *args: None)",
    "switches": "sys.setswitchinterval(5)",
    "collector-often": "gc.set_threshold(1, 1, 1)",
    "collector-debug": "gc.set_debug(gc.DEBUG_SAVEALL)",
    "one-processor": "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
    "policy": "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))",
    "profiler-by-a-timer": "signal.signal(27, print); signal.setitimer(signal.ITIMER_PROF, 60)",
    "window": "signal.signal(signal.SIGWINCH, print)",
    "threads-profile": "threading.setprofile(print)",
    "threads-trace": "threading.settrace(print)",
    "deep-threads": "threading.stack_size(1 << 22)",
    "long-numbers": "sys.set_int_max_str_digits(0)",
    "wakeup": "signal.set_wakeup_fd(sockets[0].fileno())",
    "start-method": "import multiprocessing as m; m.set_start_method('forkserver', force=True)",
}
CODE = """
import gc, socket, threading, time
sockets = socket.socketpair()
sockets[0].setblocking(False)

def looks(payload):
    import multiprocessing
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return [
        repr(sys.getprofile()), repr(sys.gettrace()), sys.getswitchinterval(), wakeup,
        gc.get_threshold(), gc.get_debug(), sorted(os.sched_getaffinity(0)),
        os.sched_getscheduler(0), multiprocessing.get_start_method(allow_none=True),
        signal.getitimer(signal.ITIMER_PROF), signal.getsignal(signal.SIGPROF).__name__,
        repr(signal.getsignal(signal.SIGWINCH)), repr(threading.getprofile()),
        repr(threading.gettrace()), threading.stack_size(), sys.get_int_max_str_digits(),
    ]
"""
# After a job this long the worker looks at all of them.
LONG = "; time.sleep(0.01)"


@pytest.mark.parametrize("habit", HABITS)
def test_what_a_handler_leaves_on_is_off_for_the_next_job(queue: Queue, habit: str) -> None:
    """Profilers, the collector's settings, pinning, and how processes are started."""
    code = f"{WORKER}{CODE}\ndef habit(payload): {HABITS[habit]}{LONG}\n"
    code += "queue.process_jobs({'habit': habit, 'looks': looks})\n"
    found = []
    for jobs in (["looks"], ["habit", "looks"]):
        *_, job_id = queue.enqueue_many([(each, {}) for each in jobs])
        with script(code, queue.path) as worker:
            assert worker.end() == 0, worker.err
        job = queue.get_job(job_id)
        assert job is not None
        found.append(job["result"])
    before, after = found
    assert before is not None
    assert before == after


LOOPS = {
    "policy": "asyncio.set_event_loop_policy(Refusing())",
    "policy-and-coroutine": "asyncio.set_event_loop_policy(Refusing()); return works(payload)",
    "closed": "loop = asyncio.new_event_loop(); asyncio.set_event_loop(loop); loop.close()",
    "taken-away": "asyncio.run(works(payload))",
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("habit", LOOPS)
def test_the_event_loops_of_a_handler_are_its_own(queue: Queue, habit: str) -> None:
    """The next job makes loops as before, by a policy of the program, and may ask for one."""
    code = f"""{WORKER}
import asyncio

class Refusing(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        raise RuntimeError("not now")

async def works(payload): return "worked"
def asks(payload): return asyncio.get_event_loop().run_until_complete(works(payload))
def runs(payload): return asyncio.run(works(payload))
def habit(payload): {LOOPS[habit]}
handlers = {{"habit": habit, "works": works, "asks": asks, "runs": runs}}
queue.process_jobs(handlers, max_attempts=1)
"""
    after = ["asks", "runs", "asks", "works", "habit", "works", "asks"]
    queue.enqueue_many([(each, {}) for each in ("habit", *after)])
    with script(code, queue.path) as worker:
        assert worker.end() == 0, worker.err
    results = [job["result"] for job in queue.list_jobs() if job["type"] != "habit"]
    assert results == ["worked"] * (len(after) - 1)


def test_a_policy_of_the_program_makes_the_loops_of_its_jobs(queue: Queue) -> None:
    """What was chosen before the first job stays, whatever a handler chooses."""
    code = f"""{WORKER}
import asyncio
class Own(asyncio.DefaultEventLoopPolicy): pass
asyncio.set_event_loop_policy(Own())
def habit(payload): asyncio.set_event_loop_policy(None)
def looks(payload): return type(asyncio.get_event_loop_policy()).__name__
queue.process_jobs({{"habit": habit, "looks": looks}})
"""
    ids = queue.enqueue_many([(each, {}) for each in ("looks", "habit", "looks")])
    with script(code, queue.path) as worker:
        assert worker.end() == 0, worker.err
    assert [(queue.get_job(ids[n]) or {})["result"] for n in (0, 2)] == ["Own", "Own"]


def test_a_profiler_that_was_left_on_keeps_no_job_from_its_own(queue: Queue) -> None:
    """There can be one only, so that the jobs after a failed one could not profile themselves."""
    code = f"""{WORKER}
import cProfile
kept = []

def profiles(payload):
    kept.append(cProfile.Profile())
    kept[-1].enable()
    time.sleep(0.01)
    if payload:
        raise ValueError("before it was disabled")
    kept[-1].disable()

queue.process_jobs({{"profiles": profiles}}, max_attempts=1)
"""
    ids = queue.enqueue_many([("profiles", {"fail": 1}), ("profiles", {})])
    with script(code, queue.path) as worker:
        assert worker.end() == 0, worker.err
    found = [queue.get_job(each) for each in ids]
    assert [job and job["status"] for job in found] == ["failed", "completed"]


@pytest.mark.parametrize("loaded", ["before", "by-the-handler"])
def test_a_forgotten_watchdog_does_not_end_the_worker(queue: Queue, loaded: str) -> None:
    """The timer of faulthandler, which ends the process, is that of its job alone."""
    known = "import faulthandler" if loaded == "before" else ""
    code = f"""{WORKER}
{known}

def guarded(payload):
    import faulthandler
    faulthandler.dump_traceback_later(0.2, exit=True)

def slow(payload):
    time.sleep(0.6)

queue.process_jobs({{"guarded": guarded, "slow": slow}})
"""
    ids = queue.enqueue_many([("guarded", {}), ("slow", {})])
    with script(code, queue.path) as worker:
        assert worker.end() == 0, worker.err
    found = [queue.get_job(each) for each in ids]
    assert [job and job["status"] for job in found] == ["completed", "completed"]


def test_a_watchdog_from_before_a_fork_holds_no_worker_up(queue: Queue) -> None:
    """Python would wait in the child for the timer's thread, which is not there."""
    code = f"""{WORKER}
import faulthandler
faulthandler.dump_traceback_later(60, exit=True)
if os.fork() == 0:
    queue.process_jobs({{"x": lambda payload: time.sleep(0.01)}})
    os._exit(0)
os.wait()
"""
    job_id = queue.enqueue("x", {})
    with script(code, queue.path) as worker:
        assert worker.end() == 0, worker.err
    job = queue.get_job(job_id)
    assert job is not None
    assert job["status"] == "completed"
