"""The shim: it stands between the engine and the kernel, one step a system call.

Why a shim over `os` and `fcntl`: table/, claims.py and files.py make all their system calls
through these two modules, one call each, so that a step of the shim is a system call; it stops in
the middle of a write, at any byte, which strace cannot; it knows what was written, from which the
disk states after a power cut are built; and a case takes 10 milliseconds rather than 300. That it
misses no call is not believed but checked: traced.py runs the same scenarios under strace and
compares.

A plan says what happens at a step:

    Count      nothing; notes the steps
    Kill       SIGKILL before the call, after it, or in the middle of what it writes
    Fail       an error instead of the call, once or from then on; or half of a write, then errors
    Record     the call, and what it changed is noted
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
from collections.abc import Callable
from typing import Any, NamedTuple

BY_FD = (
    "close",
    "pread",
    "pwrite",
    "pwritev",
    "read",
    "write",
    "lseek",
    "ftruncate",
    "fdatasync",
    "fsync",
    "fstat",
    "fchmod",
    "fchown",
    "flock",
    "fcntl",
)
BY_PATH = ("open", "stat", "mkdir", "rename", "link", "unlink", "chmod")
BY_EITHER = ("utime", "listxattr", "setxattr", "getxattr")
WRITES = ("write", "pwrite", "pwritev")
SYNCS = ("fdatasync", "fsync")
# What may fail for want of space or of a sound disk.
FAILING = (*WRITES, *SYNCS, "ftruncate", "open", "mkdir", "rename", "link", "unlink")


def may_fail(step: Step) -> bool:
    """Whether a disk that is full or broken can refuse this step."""
    return step.name in FAILING and (step.creates or step.name not in ("open", "mkdir"))


class Step(NamedTuple):
    """One system call on a file of the queue."""

    number: int
    name: str
    path: str  # below the root
    length: int  # bytes that it would write, 0 for other calls
    offset: int  # where in the file it would write them; -1: at the end
    creates: bool  # an open that makes a file, a mkdir that makes a folder
    creating: bool = False  # an open that would make a file if there were none

    def __str__(self) -> str:
        size = f", {self.length} bytes" if self.length else ""
        return f"{self.number}: {self.name}({self.path}{size})"


class Plan:
    """What to do at each step: here, the call."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def around(self, step: Step, call: Call) -> Any:
        """Make the call, or do something else about it."""
        self.steps.append(step)
        return call.make()

    def acknowledged(self, names: dict[str, str]) -> None:
        """The engine has promised that these jobs are in these states."""

    def lift(self) -> None:
        """Remove whatever was in the way."""


class Call:
    """A call that is about to be made, and the ways to make it."""

    def __init__(
        self, name: str, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.name = name
        self.args = args
        self._real = real
        self.kwargs = kwargs

    @property
    def data(self) -> bytes:
        """What it would write."""
        if self.name == "pwritev":
            return b"".join(bytes(part) for part in self.args[1])
        return bytes(self.args[1]) if self.name in WRITES else b""

    def make(self) -> Any:
        """Make the call."""
        return self._real(*self.args, **self.kwargs)

    def make_partly(self, length: int) -> Any:
        """Make a write of its first bytes only."""
        part: Any = self.data[:length]
        if self.name == "pwritev":
            part = [part]
        return self._real(self.args[0], part, *self.args[2:], **self.kwargs)


class Strayed(BaseException):
    """A run makes other steps than the recorded one, so its case is not the one meant."""


class Kill(Plan):
    """Die at one step: `before`, `after`, or `torn-N`, after N bytes of a write.

    Raises `Strayed` at a step that is not the recorded one, which no code between may catch.
    """

    def __init__(self, steps: list[Step], number: int, how: str) -> None:
        super().__init__()
        self._recorded = steps
        self._number = number
        self._how = how

    def around(self, step: Step, call: Call) -> Any:
        if step != self._recorded[step.number - 1]:
            raise Strayed(f"step {step}, and when recorded {self._recorded[step.number - 1]}")
        if step.number != self._number:
            return call.make()
        if self._how == "after":
            call.make()
        elif self._how.startswith("torn-"):
            call.make_partly(int(self._how.removeprefix("torn-")))
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("alive after SIGKILL")


class Fail(Plan):
    """Refuse a step with an error: `once`, `on` (each such call from then on), or `short`.

    `short` writes half and refuses from then on, as a disk that has just become full does:
    what makes files longer, or makes files, is refused, what changes them in place is not.
    """

    def __init__(self, number: int, how: str, error: int) -> None:
        super().__init__()
        self._number = number
        self._how = how
        self._error = error
        self._armed = True
        self.hit: Step | None = None

    def lift(self) -> None:
        """The disk has space again, and works."""
        self._armed = False

    def around(self, step: Step, call: Call) -> Any:
        if not self._armed or step.number < self._number:
            return call.make()
        if step.number == self._number:
            self.hit = step
            if self._how == "short" and step.length > 1:
                return call.make_partly(step.length // 2)
            raise self._refusal()
        assert self.hit is not None
        alike = step.name in FAILING if self._how == "on" else _grows(step, call)
        if self._how != "once" and alike and may_fail(step):
            raise self._refusal()
        return call.make()

    def _refusal(self) -> OSError:
        return OSError(self._error, os.strerror(self._error))


def _grows(step: Step, call: Call) -> bool:
    if step.name in ("write", "pwritev"):
        return True
    if step.name == "pwrite":
        return bool(step.offset + step.length > _REAL["fstat"](call.args[0]).st_size)
    return step.creates or step.name == "link"


class Change(NamedTuple):
    """What a call changed: see cuts.py, which takes these apart."""

    kind: str  # write, truncate, sync, create, link, rename, unlink, mkdir, syncdir, ack
    path: str = ""
    other: str = ""  # the new path of a link or rename
    inode: int = 0
    offset: int = 0
    data: bytes = b""
    promised: tuple[tuple[str, str], ...] = ()  # ack: id and status


class Record(Plan):
    """Note what changes, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[Change] = []
        self._root = ""

    def acknowledged(self, names: dict[str, str]) -> None:
        self.changes.append(Change("ack", promised=tuple(names.items())))

    def around(self, step: Step, call: Call) -> Any:
        self.steps.append(step)
        size = _REAL["fstat"](call.args[0]).st_size if step.name in WRITES else 0
        answer = call.make()
        change = self._change(step, call, size, answer)
        if change is not None:
            self.changes.append(change)
        return answer

    def _change(self, step: Step, call: Call, size: int, answer: Any) -> Change | None:
        name, args = step.name, call.args
        if name in WRITES:
            at = args[2] if name == "pwrite" else size  # the others append
            return Change("write", step.path, inode=_inode(args[0]), offset=at, data=call.data)
        if name == "ftruncate":
            return Change("truncate", step.path, inode=_inode(args[0]), offset=args[1])
        if name in SYNCS:
            is_folder = stat.S_ISDIR(_REAL["fstat"](args[0]).st_mode)
            return Change("syncdir" if is_folder else "sync", step.path, inode=_inode(args[0]))
        if name == "open" and step.creates:
            return Change("create", step.path, inode=_inode(answer))
        if name in ("rename", "link"):
            other = _place(args[1], call.kwargs.get("dst_dir_fd"))
            inode = _REAL["stat"](other).st_ino
            return Change(name, step.path, other=_below(self._root, other), inode=inode)
        if name in ("unlink", "mkdir"):
            return Change(name, step.path)
        return None

    def below(self, root: str) -> Record:
        """Paths are noted below `root`."""
        self._root = root
        return self


_REAL: dict[str, Callable[..., Any]] = {
    name: getattr(fcntl if name in ("flock", "fcntl") else os, name)
    for name in (*BY_FD, *BY_PATH, *BY_EITHER)
}


def _inode(fd: int) -> int:
    return int(_REAL["fstat"](fd).st_ino)


def _place(path: Any, folder: int | None) -> str:
    """The whole path of what may be named relative to an open folder."""
    place = os.fsdecode(path)
    if folder is not None:
        place = os.path.normpath(os.path.join(os.readlink(f"/proc/self/fd/{folder}"), place))
    return place


def _below(root: str, path: Any) -> str:
    return os.path.relpath(os.fspath(path), root)


# What fcntl(2) does that neither locks nor changes a file.
LOOKS = (fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_GETFD, fcntl.F_DUPFD_CLOEXEC)


class Shim:
    """Installed in a child process for the rest of its life."""

    def __init__(self, root: str, plan: Plan) -> None:
        self._root = root.rstrip("/") + "/"
        self._plan = plan
        self._open: dict[int, str] = {}
        self._count = 0

    def install(self) -> None:
        """Put a wrapper in the place of each call."""
        for name, real in _REAL.items():
            module = fcntl if name in ("flock", "fcntl") else os
            setattr(module, name, self._wrapper(name, real))

    def _wrapper(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            path = self._path_of(name, args, kwargs)
            if path is None:
                answer = real(*args, **kwargs)
                if name == "open":
                    self._open.pop(answer, None)  # one of ours was closed past the shim
                if name == "fcntl" and args[1] == fcntl.F_DUPFD_CLOEXEC and args[0] in self._open:
                    self._open[answer] = self._open[args[0]]
                return answer
            call = Call(name, real, args, kwargs)
            answer = self._plan.around(self._step(name, path, call), call)
            if name == "open":
                self._open[answer] = path
            elif name == "close":
                self._open.pop(args[0], None)
            return answer

        return wrapper

    def _path_of(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """The path below the root that a call is about; None: not one of ours."""
        first = args[0]
        if name == "fcntl" and args[1] in LOOKS:
            return None
        if name == "open" and args[1] & os.O_TMPFILE == os.O_TMPFILE:
            return None  # a file without a name goes with its process
        if isinstance(first, int):
            return self._open.get(first)
        if name in BY_FD:
            return None
        path = _place(first, kwargs.get("dir_fd", kwargs.get("src_dir_fd")))
        if path + "/" == self._root:
            return "."
        return path[len(self._root) :] if path.startswith(self._root) else None

    def _step(self, name: str, path: str, call: Call) -> Step:
        self._count += 1
        creating = name == "mkdir" or (name == "open" and bool(call.args[1] & os.O_CREAT))
        creates = creating and not _exists(self._root + path)
        offset = call.args[2] if name == "pwrite" else -1
        return Step(self._count, name, path, len(call.data), offset, creates, creating)


def _exists(path: Any) -> bool:
    try:
        _REAL["stat"](path)
    except FileNotFoundError:
        return False
    return True
