"""Root's Python is one that only root can read: nothing is imported once root is another user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from house import House
from parties import PRODUCER, as_user

import dbbasic_queue

CHECKOUT = Path(dbbasic_queue.__file__).parent.parent
# The rest of Python's library is another in each version.
WATCHED = ("dbbasic_queue", "encodings", "tarfile", "gzip", "bz2", "lzma")
CLOSED = f"""
import os, sys
class Closed:
    def find_spec(self, name, path=None, target=None):
        if os.geteuid() and name.partition(".")[0] in {WATCHED!r}:
            raise SystemExit(f"{{name}} is imported as another user")
sys.meta_path.insert(0, Closed())
sys.path.insert(0, {str(CHECKOUT)!r})
from dbbasic_queue.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
# A job that a producer has written by hand: text that has to be escaped is in every field.
ROW = 's1\t\x1b]0;owned\x07\t{"a": "\x9b"}\tpending\t1\t1\t0\t\x1b[2J\t\n'


@pytest.mark.parametrize(
    "words",
    [
        *("list", "list --where a=1", "show s1", "errors --status pending", "stats", "report"),
        *("history", "fsck --repair", "enqueue ok", "retry s1", "defer s1 --in 1h", "cancel s1"),
        *("pause ok", "restart", "prune --older-than 0", "wait s1 --timeout 0s", "completion ids"),
        *("backup {folder}/b.tar.gz", "restore {backup}", "edit s1"),
    ],
    ids=lambda words: words.split()[0] + words.count("-") * "-",
)
def test_nothing_is_imported_as_another_user(house: House, words: str) -> None:
    """Else the command would end in a traceback; an escape needs a module, too."""
    as_user(PRODUCER, lambda: _append(house))
    copy = house.folder / "copy.tar.gz"
    if words.startswith("restore"):
        _dbq(house, ["backup", str(copy)])
    ran = _dbq(house, words.format(folder=house.folder, backup=copy).split())
    assert ran.returncode in (0, 1, 3), ran.stderr
    assert "as another user" not in ran.stderr
    assert "Traceback" not in ran.stderr, ran.stderr


def _append(house: House) -> None:
    with house.table.open("a") as table:
        table.write(ROW)


def _dbq(house: House, words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CLOSED, *words, "--file", str(house.table)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"EDITOR": "true", "PATH": "/usr/bin:/bin"},
        check=False,
    )
