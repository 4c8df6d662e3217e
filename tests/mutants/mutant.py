"""A fault to be put into the code, and the lists of them: `WING.txt` in this folder.

    @@ table/line.py
    A job is not begun before it is due.
    tests/table/test_line.py::test_begin
    <<<
    the text that stands in dbbasic_queue/table/line.py, once
    ===
    what takes its place
    >>>

The newline before `===` and `>>>` is not part of the text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parent
_ENTRY: Final = re.compile(
    r"^@@ (?P<file>\S+)\n(?P<promise>[^\n]+)\n(?P<test>\S*)\n"
    r"<<<\n(?P<old>.+?)\n===\n(?P<new>.*?)\n?>>>$",
    re.DOTALL | re.MULTILINE,
)


class Mutant(NamedTuple):
    """A fault, the promise that it breaks, and the test that has to notice.

    Args:
        file: below dbbasic_queue/.
        promise: what does not hold any more, in one sentence.
        test: a file of tests/, with `::` and the test's name.
        old: a text that stands in the file once.
        new: what takes its place.
    """

    file: str
    promise: str
    test: str
    old: str
    new: str


def load(wing: str) -> list[Mutant]:
    """Return the mutants of a wing. Raises `ValueError` for a list that is not well formed."""
    text = (FOLDER / f"{wing}.txt").read_text()
    found = [Mutant(**match.groupdict()) for match in _ENTRY.finditer(text)]
    if len(found) != len(re.findall("^@@ ", text, re.MULTILINE)):
        raise ValueError(f"{wing}.txt: an entry is not well formed")
    return found
