"""What each job may be after a run was cut short.

One undisturbed run of a scenario is recorded, and the table read after each change: that gives the
states that each job passes through, and where among them the engine promised something. A run cut
short may leave any state of that list, but none before the last promise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from .reader import FINISHED, Seen, View, parse
from .scenarios import (
    ASIDE,
    COUNTED,
    FILE,
    HEARD,
    RATED,
    TABLE,
    TORN,
    UNSYNCED,
    digest_of,
    used_up,
)
from .shim import Change, Step


class Moment(NamedTuple):
    """From which change on a job was in a state."""

    change: int  # its number; -1: before the first
    state: Seen | None  # None: not in the table


class Disk:
    """The files as the processes see them, while the recorded changes are played again."""

    def __init__(self, files: dict[str, bytes], inodes: dict[str, int]) -> None:
        self.content = {inodes[path]: data for path, data in files.items()}
        self.names = {path: inodes[path] for path in files}

    def play(self, change: Change) -> None:
        """Do what one change did."""
        kind, path = change.kind, change.path
        if kind == "write":
            old = self.content[change.inode].ljust(change.offset, b"\0")
            end = change.offset + len(change.data)
            self.content[change.inode] = old[: change.offset] + change.data + old[end:]
        elif kind == "truncate":
            old = self.content[change.inode].ljust(change.offset, b"\0")
            self.content[change.inode] = old[: change.offset]
        elif kind == "create":
            self.names[path] = change.inode
            self.content[change.inode] = b""
        elif kind == "link":
            self.names[change.other] = self.names[path]
        elif kind == "rename":
            self.names[change.other] = self.names.pop(path)
        elif kind == "unlink":
            del self.names[path]

    def table(self) -> bytes:
        """The table's bytes."""
        return self.content[self.names[TABLE]] if TABLE in self.names else b""


class History:
    """The recorded run of one scenario."""

    def __init__(
        self,
        files: dict[str, bytes],
        inodes: dict[str, int],
        folders: list[str],
        changes: list[Change],
        steps: list[Step],
        groups: list[list[str]],
    ) -> None:
        self.files = files
        self.inodes = inodes
        self.folders = folders
        self.changes = changes
        self.steps = steps
        self.groups = groups
        self.states: dict[str, list[Moment]] = {}
        self.acks: list[int] = []  # numbers of the changes that are promises
        # What a file may hold, by its path: from which change on, and a digest of it.
        self.kept: dict[str, list[tuple[int, str]]] = {}
        self.unsynced: set[str] = set()  # of these, those that a power cut may take
        # From which change on a file perhaps lacks what workers have heard: its path, a digest.
        self.heard: list[tuple[int, str, str]] = []
        self.counted: list[tuple[int, int]] = [(-1, 0)]  # from which change on: attempts
        disk = Disk(files, inodes)
        self.malformed = parse(disk.table()).malformed
        self._look(-1, parse(disk.table()))
        for number, change in enumerate(changes):
            if change.kind == "ack":
                self.acks.append(number)
                self._require_kept(number, change, parse(disk.table()))
            else:
                disk.play(change)
                self._look(number, parse(disk.table()))
        self.loose = self._loose(parse(disk.table()))

    def _loose(self, last: View) -> list[bytes]:
        """Lines that no job is left of: they have to be in the table still, or set aside."""
        table = self.files.get(TABLE, b"")
        first = parse(table)
        ended = {name for number in self.acks for name, _ in self.changes[number].promised}
        lost = first.jobs.keys() - last.jobs.keys() - ended
        lines = [line for line in table.split(b"\n") if line.split(b"\t")[0].decode() in lost]
        return [line for line in (*lines, *first.malformed, first.torn) if line]

    def _look(self, number: int, view: View) -> None:
        for name in view.jobs:
            if name not in self.states:
                self.states[name] = [Moment(-1, None)] if number >= 0 else []
        for name, moments in self.states.items():
            state = view.jobs.get(name)
            if not moments or moments[-1].state != state:
                moments.append(Moment(number, state))

    def _require_kept(self, number: int, change: Change, view: View) -> None:
        """A promise has to be true already in the undisturbed run."""
        for name, promised in change.promised:
            if name == COUNTED:
                self.counted.append((number, int(promised)))
                continue
            if name.startswith(HEARD):
                self.heard.append((number, name.removeprefix(HEARD), promised))
                continue
            if name.startswith((FILE, UNSYNCED)):
                path = name.removeprefix(FILE).removeprefix(UNSYNCED)
                if name.startswith(UNSYNCED):
                    self.unsynced.add(path)
                before = [(-1, digest_of(self.files.get(path), path))]
                self.kept.setdefault(path, before).append((number, promised))
                continue
            seen = view.jobs.get(name)
            status = seen.status if seen else "absent"
            ok = status == promised or (
                promised == "finished" and status in (*FINISHED, "pending", "processing")
            )
            if not ok:
                raise AssertionError(f"{name} was said to be {promised}, and is {status}")

    def misplaced(
        self, read: Callable[[str], bytes | None], acks: int, *, power_cut: bool
    ) -> list[str]:
        """Say which files beside the table are not as promised, after so many promises.

        A file is as it was when its last promise was made, or as it became later; and what was set
        aside is there. `read` returns what is in the file of a name, None where there is none.
        """
        made = self.acks[acks - 1] if acks else -1
        found = []
        if not power_cut:
            for change, path, digest in self.heard:
                if change <= made and digest_of(read(path), path) == digest:
                    found.append(f"{path} says what workers have heard")
        for path, contents in self.kept.items():
            if power_cut and path in self.unsynced:
                continue
            first = max(i for i, (change, _) in enumerate(contents) if change <= made)
            if digest_of(read(path), path) not in [digest for _, digest in contents[first:]]:
                found.append(f"{path} is not as it was said to be")
        there = b"".join(read(name) or b"" for name in (TABLE, TORN, ASIDE))
        return found + [
            f"gone without a trace: {line!r}" for line in self.loose if line not in there
        ]

    def miscounted(self, counted: int, acks: int, *, power_cut: bool) -> list[str]:
        """Say if the history has not the attempts that it had at its last promise, or at the next.

        A power cut may take what was not synced.
        """
        made = self.acks[acks - 1] if acks else -1
        at = max(i for i, (change, _) in enumerate(self.counted) if change <= made)
        least = 0 if power_cut else self.counted[at][1]
        most = self.counted[min(at + 1, len(self.counted) - 1)][1]
        fits = least <= counted <= most
        return [] if fits else [f"{counted} attempts are counted, not {least} to {most}"]

    def uncounted(self, rates: bytes, floors: dict[str, int]) -> list[str]:
        """Say of which types fewer jobs are counted for their rate than were begun by then."""
        begun: Counter[str] = Counter()
        for name, floor in floors.items():
            state = [moment.state for moment in self.states[name] if moment.change <= floor][-1:]
            if state and state[0] and state[0].type.startswith(RATED):
                begun[state[0].type] += state[0].attempts
        counted = used_up(rates)
        return [
            f"{number} jobs of {job_type} were begun, and {counted.get(job_type, 0)} are counted"
            for job_type, number in begun.items()
            if counted.get(job_type, 0) < number
        ]

    def floors(self, acks: int) -> dict[str, int]:
        """For each job the change up to which its state was promised, after so many promises."""
        floors: dict[str, int] = {}
        for number in self.acks[:acks]:
            for name, _ in self.changes[number].promised:
                if not name.startswith((FILE, UNSYNCED, HEARD, COUNTED)):
                    floors[name] = number
        return floors

    def problems(
        self, view: View, floors: dict[str, int], *, without_result: bool = False
    ) -> list[str]:
        """What in a table contradicts this history.

        `without_result`: a state may lack its error and result, or the places in its error, which a
        claim drops; a claim that was refused is undone without them.
        """
        found = []
        for name in view.jobs.keys() | self.states.keys():
            seen = view.jobs.get(name)
            moments = self.states.get(name, [])
            floor = floors.get(name, -1)
            first = max((i for i, m in enumerate(moments) if m.change <= floor), default=0)
            allowed = [moment.state for moment in moments[first:]]
            if without_result:
                states = [state for state in allowed if state]
                allowed += [state._replace(error="", result="") for state in states]
                allowed += [state._replace(error=_first_line(state.error)) for state in states]
            if seen not in (allowed or [None]):
                found.append(f"{name} is {seen}, and may be {allowed}")
        return found


def _first_line(error: str) -> str:
    return error.partition("\\n")[0]
