"""The lists of `make mutants`: each entry is a fault that can be put into the code as it is now."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from mutants.__main__ import WINGS
from mutants.mutant import FOLDER, load

LIBRARY = Path(__file__).parents[2] / "dbbasic_queue"


@pytest.mark.parametrize("wing", sorted(path.stem for path in FOLDER.glob("*.txt")))
def test_each_fault_fits(wing: str) -> None:
    """A fault's old text stands in its file once, its new text leaves Python, its test is there."""
    wrong = []
    for mutant in load(wing):
        path = LIBRARY / mutant.file
        text = path.read_text() if path.exists() else ""
        if text.count(mutant.old) != 1:
            wrong.append(f"{mutant.file}: not there once: {mutant.old!r}")
            continue
        if path.suffix == ".py":
            try:
                ast.parse(text.replace(mutant.old, mutant.new))
            except SyntaxError as error:
                wrong.append(f"{mutant.file}: {mutant.promise} ({error})")
        file, _, test = mutant.test.partition("::")
        name = test.partition("[")[0].rpartition("::")[2]
        tests = LIBRARY.parent / file
        if not tests.exists() or (test and f"def {name}(" not in tests.read_text()):
            wrong.append(f"{mutant.promise}: there is no test {mutant.test}")
    assert not wrong, "\n".join(wrong)


def test_each_list_is_run() -> None:
    """`make mutants` knows each list in its folder, and no other."""
    assert sorted(WINGS) == sorted(path.stem for path in FOLDER.glob("*.txt"))
