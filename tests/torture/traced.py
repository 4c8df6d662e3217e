"""The same from outside: strace watches, kills and refuses, and a tmpfs is really full.

What is done here is slower than the shim and less exact, but takes nothing for granted of how the
engine makes its system calls:

* **calls**: a scenario runs under strace, and every call that changes or locks a file of the queue
  has to be a step that the shim knows, in the same order;
* **kills**: strace kills the process as it enters each of these calls;
* **errors**: strace makes each write and sync fail;
* **full**: jobs are added to a table on a small tmpfs until it is full, and worked off there.
"""

from __future__ import annotations

import errno
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import faults, play
from .check import check
from .history import History
from .play import Case, Failure
from .reader import parse, read
from .scenarios import SCENARIOS, TABLE
from .shim import Step

PART = "traced"
CHECKOUT = Path(__file__).resolve().parents[2]
ERRORS = ("EIO", "ENOSPC", "EDQUOT")

# The shim's names of the calls that change or lock something, by the kernel's.
CALLS = {
    "openat": "open",
    "mkdir": "mkdir",
    "write": "write",
    "pwrite64": "pwrite",
    "pwritev2": "pwritev",
    "ftruncate": "ftruncate",
    "truncate": "ftruncate",
    "fdatasync": "fdatasync",
    "fsync": "fsync",
    "rename": "rename",
    "renameat": "rename",
    "link": "link",
    "linkat": "link",
    "unlink": "unlink",
    "unlinkat": "unlink",
    "mkdirat": "mkdir",
    "fchmod": "fchmod",
    "fchown": "fchown",
    "chmod": "chmod",
    "utimensat": "utime",
    "flock": "flock",
    "fcntl": "fcntl",
    # Calls that the engine has no business to make; seen here, they are steps the shim misses.
    "pwritev": "?",
    "writev": "?",
    "sendfile": "?",
    "copy_file_range": "?",
    "fallocate": "?",
    "renameat2": "?",
    "symlink": "?",
    "open": "?",
    "creat": "?",
    "rmdir": "?",
}
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$")


class Traced(NamedTuple):
    """A system call that strace saw."""

    call: str  # the kernel's name
    ordinal: int  # how many of that name the process had made by then
    name: str  # the shim's name
    path: str  # below the root


def require() -> list[str]:
    """What is missing on this machine, in words; [] when nothing is."""
    missing = [name for name in ("strace", "unshare", "mount") if shutil.which(name) is None]
    return [
        f"{', '.join(missing)}: not installed (apt-get install strace util-linux mount)"
    ] * bool(missing)


def scenarios() -> list[str]:
    """A name for each task."""
    return [f"{name}/full" for name in SCENARIOS] + ["full-tmpfs/full", "full-tmpfs/normal"]


def run(task: str, seed: int, stride: int = 1) -> tuple[int, list[Failure]]:
    """All cases of a task, or every `stride`-th: how many there were, and what failed."""
    missing = require()
    if missing:
        return 1, [Failure(PART, task, missing)]
    if task.startswith("full-tmpfs"):
        problems = fill_a_disk(task.partition("/")[2])
        return 1, [Failure(PART, task, problems)] if problems else []
    base = Case.parse(task)
    history = play.record(base, seed)
    calls = trace(base, seed)
    failures = (
        [Failure(PART, task, problems)] if (problems := _compare(calls, history.steps)) else []
    )
    cases = list(_cases(base, calls))[::stride]
    failures += [failure for case in cases if (failure := run_case(case, seed, history))]
    return len(cases) + 1, failures


def _cases(base: Case, calls: list[Traced]) -> Iterator[Case]:
    """Each call that changes a file killed; each write and sync refused, the errors by turns."""
    for number, call in enumerate(calls, 1):
        if call.name in ("flock", "fcntl", "utime"):
            continue  # as if the call before had been the last
        yield base._replace(step=number, how=f"kill:{call.call}:{call.ordinal}")
        if call.name in ("write", "pwrite", "pwritev", "fsync", "fdatasync"):
            error = ERRORS[number % len(ERRORS)]
            yield base._replace(step=number, how=f"{error}:{call.call}:{call.ordinal}")


def run_case(case: Case, seed: int, history: History | None = None) -> Failure | None:
    """One kill or error by strace, and what is found then."""
    history = history or play.record(case, seed)
    what, call, ordinal = case.how.split(":")
    effect = "signal=SIGKILL" if what == "kill" else f"error={what}"
    with play.folder() as root, tempfile.TemporaryFile() as told:
        play.prepare(root, case, seed)
        inject = f"inject={call}:{effect}:when={ordinal}"
        done = _strace(["-e", f"trace={call}", "-e", inject], root, case, seed, told)
        told.seek(0)
        words = list(_unpickle(told))
        if what == "kill":
            floors = history.floors(len(words))
            problems = check(root, history, len(words), floors)
            if done.returncode not in (-9, 137, 0):
                problems.append(f"exit code {done.returncode}: {done.stderr[-500:]}")
        else:
            problems = _after_error(words, root, history, call, done)
    return Failure(PART, str(case), problems, f"{call} number {ordinal}") if problems else None


def _after_error(
    words: list[Any],
    root: Path,
    history: History,
    call: str,
    done: subprocess.CompletedProcess[str],
) -> list[str]:
    if not words or not isinstance(words[-1], faults.Suffered):
        return [f"exit code {done.returncode}: {done.stderr[-1000:]}"]
    name = CALLS[call]
    suffered = words[-1]._replace(hit=Step(0, name, "", 0, 0, False))
    problems = list(faults.problems(suffered, history, len(words) - 1, "full"))
    at_once, final = parse(suffered.at_once), read(root / TABLE)
    return problems + faults.final_problems(at_once, final, suffered, history)


def _unpickle(file: Any) -> Iterator[Any]:
    while True:
        try:
            yield pickle.load(file)
        except EOFError:
            return


def _strace(
    options: list[str], root: Path, case: Case, seed: int, told: Any
) -> subprocess.CompletedProcess[str]:
    victim = [sys.executable, "-m", "tests.torture.victim", str(root), str(case), str(seed)]
    return subprocess.run(
        ["strace", "-f", "-qq", "-o", "/dev/null", *options, *victim],
        stdout=told,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
        check=False,
        timeout=120,
    )


def trace(case: Case, seed: int) -> list[Traced]:
    """The calls of an undisturbed run that change or lock a file of the queue."""
    with play.folder() as root, tempfile.NamedTemporaryFile("r") as output:
        play.prepare(root, case, seed)
        names = ",".join(name for name in CALLS)
        options = ["-y", "-s", "0", "-e", f"trace={names}", "-o", output.name]
        with tempfile.TemporaryFile() as told:
            done = _strace(options, root, case, seed, told)
        if done.returncode:
            raise RuntimeError(f"strace: {done.stderr[-1000:]}")
        return list(_read_trace(output.read(), str(root)))


def _read_trace(text: str, root: str) -> Iterator[Traced]:
    counts: Counter[str] = Counter()
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or "resumed>" in line:
            continue
        call, rest = match.groups()
        counts[call] += 1
        place = _place(rest, root)
        if place is None or (call == "openat" and "O_CREAT" not in rest):
            continue
        if call == "fcntl" and "LK" not in rest.partition(">")[2]:
            continue  # neither locks nor changes a file: F_GETFL, F_DUPFD_CLOEXEC, F_SETFD
        yield Traced(call, counts[call], CALLS[call], place)


def _place(arguments: str, root: str) -> str | None:
    """The path below the root that a call is about: a descriptor's, or named relative to one."""
    if re.search(rf"<{re.escape(root)}/#\d+", arguments):
        return None  # a file without a name
    inside = re.match(rf"\d+<{re.escape(root)}/?([^>\"]*)>, \"([^/\"][^\"]*)\"", arguments)
    if inside is not None:
        return os.path.normpath(os.path.join(*inside.groups()))
    place = re.search(rf"[<\"]{re.escape(root)}/?([^>\"]*)[>\"]", arguments)
    return None if place is None else place[1] or "."


def _compare(calls: list[Traced], steps: list[Step]) -> list[str]:
    """What strace saw and the shim did not, or the other way round."""
    seen = [(call.name, call.path) for call in calls]
    # The shim counts an open as a step whatever it is for; strace is asked for those that create.
    known = [
        (step.name, step.path)
        for step in steps
        if step.name in CALLS.values() and (step.name != "open" or step.creating)
    ]
    if seen == known:
        return []
    at = next(
        (i for i, (a, b) in enumerate(zip(seen, known, strict=False)) if a != b),
        min(len(seen), len(known)),
    )
    return [f"call {at}: strace saw {seen[at : at + 3]}, the shim {known[at : at + 3]}"]


# -- a disk that is full ---------------------------------------------------------------------------


def fill_a_disk(durability: str) -> list[str]:
    """On a tmpfs of 256 KiB: what goes wrong there, found by victim.py's `fill`."""
    with play.folder() as root:
        script = 'mount -t tmpfs -o size=256k none "$1" && shift && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", str(root)]
        command += [
            sys.executable,
            "-m",
            "tests.torture.victim",
            str(root),
            f"full-tmpfs/{durability}",
            "0",
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=CHECKOUT, check=False, timeout=120
        )
    if done.returncode:
        return [f"exit code {done.returncode}: {done.stderr[-1500:]}"]
    return done.stdout.splitlines()


assert all(hasattr(errno, name) for name in ERRORS)
_Tell = Callable[[Any], None]
