"""Every command and code block of the README is run here, in its order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from crontab import CronTab

from dbbasic_queue.cli import main as cli
from dbbasic_queue.config import sections as config

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks() -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / "README.md").read_text())


def environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def test_blocks_of_the_readme_run(tmp_path: Path) -> None:
    """A reader who types what the README says gets no error."""
    where = tmp_path
    for language, text in blocks():
        if language == "toml":
            config.parse(text, where / "dbq.toml")
        if language in ("text", "crontab", "toml"):
            continue
        if "make " in text:
            command, folder = ["bash", "-ec", text.replace("make ", "make --dry-run ")], ROOT
        elif language == "python":
            command, folder = [sys.executable, "-c", text], where
        else:
            assert language == "sh", f"a block in {language} is not run by any test"
            command, folder = ["bash", "-ec", text], where
        done = subprocess.run(
            command, cwd=folder, env=environment(tmp_path), capture_output=True, text=True
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        if "cd shop" in text:
            where = tmp_path / "shop"


def test_the_installation_is_that_of_the_administrators_page() -> None:
    """From the package to running jobs it takes the same commands here as on that page."""
    (block,) = (text for _, text in blocks() if text.startswith("apt-get install"))
    page = (ROOT / "docs" / "operations.md").read_text()
    for line in block.splitlines():
        command = line.partition("#")[0].strip()
        assert f"\n# {command}" in page, command


def test_crontab_of_the_readme_is_valid() -> None:
    """The crontab lines that the README shows are accepted by cron and by dbq."""
    lines = [line for kind, text in blocks() if kind == "crontab" for line in text.splitlines()]
    assert lines
    for line in lines:
        (entry,) = CronTab(tab=line + "\n")
        assert entry.is_valid()
        words = shlex.split(entry.command)
        start = next(i for i, word in enumerate(words) if word.endswith("/dbq")) + 1
        stop = words.index(">>") if ">>" in words else len(words)
        assert cli._parser().parse_args(words[start:stop]).linger == "50s"


def test_every_command_is_in_the_readme() -> None:
    """A command that the README's table does not name fails this test, and the other way."""
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"^\| `dbq ([a-z-]+)", readme, re.MULTILINE))
    (choices,) = (a.choices for a in cli._parser()._actions if a.choices and a.dest != "help")
    assert named == set(choices)


@pytest.mark.parametrize("target", ["demo"])
def test_make_target_of_the_readme(target: str) -> None:
    """The demo runs to its end, and says ok of everything it checks."""
    done = subprocess.run(
        [sys.executable, "examples/demo.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT OK" not in done.stdout
    assert done.stdout.count("\nok: ") == 5
