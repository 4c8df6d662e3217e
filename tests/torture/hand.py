"""What the soak has for an editor: a person who changes, adds and removes a few lines.

python hand.py TOLD SEED FILE edits FILE, and writes into TOLD what it has done, a line each:
changed ID EDIT, removed ID, added ID. It knows nothing of the engine.
"""

from __future__ import annotations

import random
import re
import sys
import time
from pathlib import Path


def main(told: str, seed: str, file: str) -> None:
    """Edit the file, taking some time over it."""
    chance = random.Random(seed)
    path = Path(file)
    lines = path.read_text().splitlines(keepends=True)
    done: list[str] = []
    chosen = _some(lines, "pending", chance, 3)
    for number in chosen:
        name = lines[number].split("\t")[0]
        lines[number], edited = re.subn(r'"edit": \d+', f'"edit": {seed}', lines[number])
        done += [f"changed {name} {seed}"] * edited
    # Not one with a key, which its producer may be about to enqueue a second time.
    finished = [line if not line.startswith("key-") else "" for line in lines]
    status = chance.choice(["completed", "completed", "cancelled"])
    for number in _some(finished, status, chance, chance.randint(0, 60)):
        done.append(f"removed {lines[number].split()[0]}")
        lines[number] = ""
    done.append(f"added hand-{seed}")
    now = int(time.time())
    new = f'hand-{seed}\tquick\t{{"edit": 0}}\tpending\t{now}\t{now}\t0\t\t\n'
    lines.insert(chance.randint(1, len(lines)), new)
    time.sleep(chance.random() * 0.4)
    path.write_text("".join(lines))
    Path(told).write_text("\n".join(done))


def _some(lines: list[str], status: str, chance: random.Random, count: int) -> list[int]:
    """The numbers of some lines of jobs in that state."""
    found = [number for number, line in enumerate(lines) if f"\t{status}\t" in line]
    return chance.sample(found, min(count, len(found)))


if __name__ == "__main__":
    main(*sys.argv[1:])
