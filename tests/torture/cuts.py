"""Every state of the disk that a power cut may leave, in the manner of ALICE and CrashMonkey.

The changes of an undisturbed run are replayed onto a model of a disk, and the power is cut after
each. What was not synced by then may be on the disk or not:

* **data**: each sector of 512 bytes by itself, as it was at the last sync of its file or after any
  write since; where nothing was ever written there are zeros;
* **size**: any that the file had since its last sync, whatever became of the data;
* **names**: any subset of the files made, linked, renamed and removed since the last sync of their
  folder, folders made included. A rename by itself is atomic.

These are more states than a journalling file system leaves. Up to LIMIT states a cut all of them
are built; where there are more, the corners (all old, all new, sizes old and data new and the
other way round, each single difference from all old and from all new) and a random choice, LIMIT
in all.

What must hold: in "full" whatever was acknowledged is there; in both, whatever was synced is
there; no line is read as a job, or as a state of a job, that there never was; the engine's readers
agree with the file; and the table works on, damaged lines in it or not. Not asked is that a batch
be there whole: that holds for a crash of processes only.
"""

from __future__ import annotations

import math
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from . import play
from .check import check
from .history import Disk, History
from .play import Case, Failure
from .reader import parse
from .scenarios import RATES, SCENARIOS, TABLE
from .shim import Change

PART = "cuts"
SECTOR = 512
LIMIT = 150  # states a cut

Files = dict[str, bytes]


class Platter:
    """What is on the disk for sure, and what may be."""

    def __init__(self, history: History) -> None:
        self.now = Disk(history.files, history.inodes)  # as the processes see it
        self.contents = {inode: [data] for inode, data in self.now.content.items()}
        self.names = dict(self.now.names)  # on the disk for sure
        self.folders = {"", ".", *history.folders}
        self.pending: list[Change] = []  # changes of names
        self.synced: dict[int, int] = {}  # inode -> number of the change that last synced it

    def play(self, number: int, change: Change) -> None:
        """Do one change."""
        kind = change.kind
        self.now.play(change)
        if kind in ("write", "truncate"):
            self.contents[change.inode].append(self.now.content[change.inode])
        elif kind == "sync":
            self.contents[change.inode] = [self.now.content[change.inode]]
            self.synced[change.inode] = number
        elif kind in ("create", "link", "rename", "unlink", "mkdir"):
            if kind == "create":
                self.contents[change.inode] = [b""]
            self.pending.append(change)
        elif kind == "syncdir":
            self._sync_folder(change.path)

    def _sync_folder(self, folder: str) -> None:
        stays = []
        for change in self.pending:
            if os.path.dirname(change.path) == ("" if folder == "." else folder):
                self._rename(change, self.names, self.folders)
            else:
                stays.append(change)
        self.pending = stays

    @staticmethod
    def _rename(change: Change, names: dict[str, int], folders: set[str]) -> None:
        kind, path = change.kind, change.path
        if kind == "mkdir":
            folders.add(path)
        elif kind == "create":
            names[path] = change.inode
        elif kind == "unlink":
            names.pop(path, None)
        elif kind == "link":
            names[change.other] = change.inode
        elif path in names:
            names[change.other] = names.pop(path)
        else:  # a rename of a file whose making has not reached the disk, as the journal has it
            names[change.other] = change.inode

    def table_synced(self) -> int:
        """The change by which the table was last synced, name included; -1 if it was not."""
        inode = self.now.names.get(TABLE)
        if inode is None or self.names.get(TABLE) != inode or not self._is_there(TABLE):
            return -1
        return self.synced.get(inode, -1)

    def _is_there(self, path: str) -> bool:
        return all(str(parent) in self.folders for parent in Path(path).parents)

    def states(self, chance: random.Random) -> Iterator[Files]:
        """The states that a cut may leave now."""
        inodes = sorted(inode for inode, contents in self.contents.items() if len(contents) > 1)
        wheels = [2] * len(self.pending)
        for inode in inodes:
            wheels += self._wheels(inode)
        for turns in _turns(wheels, chance):
            yield self._state(turns, inodes)

    def _wheels(self, inode: int) -> list[int]:
        """In how many ways the size may be, and each sector."""
        contents = self.contents[inode]
        return [len(_sizes(contents)), *(len(ways) for ways in _sectors(contents))]

    def _state(self, turns: Sequence[int], inodes: Sequence[int]) -> Files:
        names, folders = dict(self.names), set(self.folders)
        for change, done in zip(self.pending, turns, strict=False):
            if done:
                self._rename(change, names, folders)
        at = len(self.pending)
        contents = {inode: versions[0] for inode, versions in self.contents.items()}
        for inode in inodes:
            sizes, sectors = _sizes(self.contents[inode]), _sectors(self.contents[inode])
            size = sizes[turns[at]]
            chosen = turns[at + 1 : at + 1 + len(sectors)]
            data = b"".join(ways[way] for ways, way in zip(sectors, chosen, strict=True))
            contents[inode] = data[:size].ljust(size, b"\0")
            at += 1 + len(sectors)
        return {
            path: contents[inode]
            for path, inode in names.items()
            if all(str(parent) in folders for parent in Path(path).parents)
        }


def _sizes(contents: Sequence[bytes]) -> list[int]:
    return list(dict.fromkeys(map(len, contents)))


def _sectors(contents: Sequence[bytes]) -> list[list[bytes]]:
    """For each sector of a file what may stand in it."""
    end = max(map(len, contents))
    return [
        list(dict.fromkeys(data[at : at + SECTOR].ljust(SECTOR, b"\0") for data in contents))
        for at in range(0, end, SECTOR)
    ]


def _turns(wheels: Sequence[int], chance: random.Random) -> Iterator[tuple[int, ...]]:
    """All positions of the wheels, or the corners and a random choice."""
    if math.prod(wheels) <= LIMIT:
        yield from _all_turns(wheels)
        return
    old, new = [0] * len(wheels), [ways - 1 for ways in wheels]
    corners = [old, new]
    for number, ways in enumerate(wheels):
        if ways > 1:
            corners.append([*old[:number], ways - 1, *old[number + 1 :]])
            corners.append([*new[:number], 0, *new[number + 1 :]])
    if len(corners) > LIMIT // 2:
        corners = corners[:2] + chance.sample(corners[2:], LIMIT // 2)
    yield from map(tuple, corners)
    for _ in range(LIMIT - len(corners)):
        # Few or many new ones, as an even choice would hardly ever leave long runs.
        share = chance.random()
        yield tuple(
            chance.randrange(ways)
            if chance.random() < 0.2
            else (ways - 1) * (chance.random() < share)
            for ways in wheels
        )


def _all_turns(wheels: Sequence[int]) -> Iterator[tuple[int, ...]]:
    turns = [0] * len(wheels)
    while True:
        yield tuple(turns)
        for number, ways in enumerate(wheels):
            turns[number] += 1
            if turns[number] < ways:
                break
            turns[number] = 0
        else:
            return


def scenarios() -> list[str]:
    """A name for each task: one scenario under one durability."""
    return [f"{name}/{durability}" for name in SCENARIOS for durability in ("full", "normal")]


def run(task: str, seed: int, stride: int = 1) -> tuple[int, list[Failure]]:
    """The states of a task, or every `stride`-th: how many there were, and what failed."""
    base = Case.parse(task)
    history = play.record(base, seed)
    tester = _Tester(history, base, seed)
    for count, state in enumerate(_states(base, history, seed), 1):
        if count % stride == 0:
            tester.test(state)
    return tester.tested, tester.failures


class State(NamedTuple):
    """A state of the disk, under its name, with what has been promised by then."""

    case: Case
    files: Files
    acks: int  # promises, which files beside the table have to keep in any durability
    floors: dict[str, int]  # what jobs have to keep


def _states(base: Case, history: History, seed: int) -> Iterator[State]:
    """Yield each state after each change."""
    platter = Platter(history)
    chance = random.Random(seed)
    acks = 0
    synced = -1
    for number, change in enumerate(history.changes):
        if change.kind == "ack":
            acks += 1
            continue  # the states are those of the change before, of which more is required now
        platter.play(number, change)
        # A promise that follows is required of the states that are possible when it is made.
        promised = acks
        for later in history.changes[number + 1 :]:
            if later.kind != "ack":
                break
            promised += 1
        synced = max(synced, platter.table_synced())
        floors = history.floors(promised if base.durability == "full" else 0)
        floors = {
            name: max(floors.get(name, -1), synced)
            for name in floors.keys() | history.states.keys()
        }
        for choice, files in enumerate(platter.states(chance)):
            case = base._replace(step=number + 1, how=f"state-{choice}")
            yield State(case, files, promised, floors)


class _Tester:
    """Tests states; each content of the disk is given to a fresh process once."""

    def __init__(self, history: History, base: Case, seed: int) -> None:
        self._history = history
        self._full = base.durability == "full"
        self._seen: set[int] = set()
        self.tested = 0
        self.failures: list[Failure] = []

    def test(self, state: State) -> None:
        """Test one state, unless it is like one that was tested."""
        case, files, acks, floors = state
        self.tested += 1
        problems = self._history.problems(parse(files.get(TABLE, b"")), floors)
        problems += self._history.misplaced(files.get, acks, power_cut=True)
        if self._full:
            problems += self._history.uncounted(files.get(RATES, b""), floors)
        known = hash(tuple(sorted(files.items())))
        if not problems and known not in self._seen:
            self._seen.add(known)
            with play.folder() as root:
                _lay_out(root, files)
                problems = check(root, self._history, acks, floors, power_cut=True)
        if problems:
            change = self._history.changes[case.step - 1]
            where = f"after {change.kind} {change.path} {change.other}".strip()
            self.failures.append(Failure(PART, str(case), problems, where))


def _lay_out(root: Path, files: Files) -> None:
    for path, data in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def run_case(case: Case, seed: int) -> Failure | None:
    """One state, laid out and tested again; the folder is kept when something is wrong."""
    history = play.record(case, seed)
    base = case._replace(step=0, how="")
    for state in _states(base, history, seed):
        if state.case == case:
            tester = _Tester(history, base, seed)
            tester.test(state)
            if not tester.failures:
                return None
            kept = Path(f"/tmp/dbq-{str(case).replace('/', '-')}")
            shutil.rmtree(kept, ignore_errors=True)
            _lay_out(kept, state.files)
            failure = tester.failures[0]
            return failure._replace(where=f"{failure.where}; the state is kept in {kept}")
    raise ValueError(f"with the seed {seed} there is no state {case}")
