"""docs/operations.md: its blocks run, its config keys and commands are there, none is left out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dbbasic_queue import Queue
from dbbasic_queue.cli import options as parsers
from dbbasic_queue.health.judge import check_health
from dbbasic_queue.health.report import Thresholds

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^\| `((?:dbq|check_dbq)[^`]*)` \|(.*)\|$", re.MULTILINE)


def test_backup_restore_and_moving_keep_every_job(tmp_path: Path) -> None:
    """The shell blocks, in their order, say nothing on standard error and lose no job."""
    Queue(tmp_path / "queue.tsv").enqueue("greet", {"name": "Zoë"})
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LANG": "C.UTF-8"}
    blocks = [text for kind, text in BLOCK.findall(PAGE) if kind == "sh" and "make " not in text]
    for text in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, ""), f"{text}\n{done.stdout}"
    assert '"Zoë"' in done.stdout
    assert [job["type"] for job in Queue(tmp_path / "elsewhere/queue.tsv").list_jobs()] == ["greet"]


def test_the_table_names_every_command() -> None:
    """Each command of the project has a row, and no row is of a command that is not there."""
    wanted = set()
    for name, parser in parsers.parsers().items():
        own = parsers.subcommands(parser)
        wanted |= {f"{name} {each}" for each in own} or {name}
    assert {row[0] for row in ROW.findall(PAGE)} == wanted


@pytest.mark.parametrize(("command", "cells"), ROW.findall(PAGE))
def test_the_table_tells_the_exit_codes_of_the_help(command: str, cells: str) -> None:
    """A code is told only if --help of that command has it, and every code of an own help is."""
    name, _, own = command.partition(" ")
    parser = parsers.parsers()[name]
    text = (parsers.subcommands(parser)[own] if own else parser).format_help()
    codes = set(re.findall(r"^  (\d)  ", re.split(r"\nexit (?:codes|status).*:\n", text)[1], re.M))
    told = {str(code) for code, cell in enumerate(cells.split("|")) if cell.strip()}
    assert told <= codes
    assert own or told == codes


def test_every_command_of_the_page_is_one() -> None:
    """What the page tells to type is understood: the command and each of its options."""
    found = parsers.parsers()
    for words in re.findall(r"(?<![\w/.-])((?:dbq|check_dbq)[\w-]*(?: [\w-]+)*)(?![\w.-])", PAGE):
        name, *rest = words.split()
        if name not in found or not rest:
            continue
        own = parsers.subcommands(found[name])
        parser = own.get(rest[0], found[name])
        known = {flag for option in parsers.options(parser) for flag in option.flags}
        known |= {flag for option in parsers.options(found[name]) for flag in option.flags}
        assert {word for word in rest if word.startswith("--")} <= known, words


def test_every_alert_has_its_row(tmp_path: Path) -> None:
    """Whatever the health check can find wrong is in the table of alerts."""
    source = "".join(path.read_text() for path in (ROOT / "dbbasic_queue/health").glob("*.py"))
    kinds = set(re.findall(r'Finding\(\s*"([a-z]+)"', source)) - {"check", "textfile"}
    kinds |= {"size"}
    assert len(kinds) > 6
    assert {kind for kind in kinds if f"**{kind}**" not in PAGE} == set()
    assert check_health(tmp_path / "none.tsv", Thresholds()).findings[0].kind == "unreadable"
